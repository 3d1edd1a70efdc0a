"""What every event that is emitted in a context carries: the identity of the request that it belongs to, say."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

__all__ = ["common_fields"]

common_fields: ContextVar[Mapping[str, Any] | None] = ContextVar("eventstorm.common_fields", default=None)
"""Fields that `emit` and `timed` add to each event, unless it has a field of that name; None for none.

As with every context variable, a task or a copied context that is started inherits them. Set a new mapping rather than
changing one, and give it only what BSON can hold: events with anything else are refused.
"""
# Set from the start: a program that compares contexts, as uvicorn's own tests do, sees no variable come.
common_fields.set(None)
