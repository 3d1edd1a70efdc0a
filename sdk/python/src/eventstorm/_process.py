"""The source of this process, which the functions of the module `eventstorm` use."""

from __future__ import annotations

from eventstorm.source import Source

__all__ = ["process"]

process = Source()
