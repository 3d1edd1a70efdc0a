"""The setting of auto-instrumentation: the table ``[instrument]`` of ``eventstorm.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventstorm.settings import setting

__all__ = ["InstrumentSettings"]


def _names(value: Any, place: str) -> Any:
    return tuple(name for each in value for name in each.replace(",", " ").split())


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentSettings:
    """The setting of ``eventstorm-instrument``."""

    disable: tuple[str, ...] = setting(
        (), "integrations that are not used, such as flask,logging; * for all of them", _names
    )
