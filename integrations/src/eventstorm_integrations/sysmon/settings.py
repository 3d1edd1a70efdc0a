"""The settings of the system metrics: the table ``[sysmon]`` of ``eventstorm.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventstorm.errors import SettingError
from eventstorm.settings import at_least, nearest, setting

__all__ = ["TOPICS", "SysmonSettings"]

TOPICS = (
    "cpu.usage",
    "memory.usage",
    "disk.usage",
    "disk.io",
    "network.usage",
    "process.usage",
    "container.usage",
)


def _topics(value: Any, place: str) -> Any:
    for each in value:
        if each not in TOPICS:
            raise SettingError(f"{place}: no metrics {each!r}{nearest(each, list(TOPICS))}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SysmonSettings:
    """The settings of ``eventstorm sysmon``, and of the system metrics in ``eventstorm up``."""

    interval_s: float = setting(1.0, "seconds between measurements", at_least(0.1))
    processes: int = setting(10, "how many of the busiest processes to report; 0 for none", at_least(0))
    topics: tuple[str, ...] = setting(TOPICS, "what to measure", _topics)
