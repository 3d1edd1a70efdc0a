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
    "service.usage",
    "sensor.usage",
)


def _topics(value: Any, place: str) -> Any:
    for each in value:
        if each not in TOPICS:
            raise SettingError(f"{place}: no metrics {each!r}{nearest(each, list(TOPICS))}")
    return value


def _pids(value: Any, place: str) -> Any:
    for each in value:
        if not 0 < each < 2**31:
            raise SettingError(f"{place}: {each} is no number of a process")
    return value


def _services(value: Any, place: str) -> Any:
    for each in value:
        if not each or "\0" in each:
            raise SettingError(f"{place}: {each!r} is no service: give NAME.service, the path of a pid file, or a name")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SysmonSettings:
    """The settings of ``eventstorm sysmon``, and of the system metrics in ``eventstorm up``."""

    interval_s: float = setting(1.0, "seconds between measurements", at_least(0.1))
    processes: int = setting(10, "how many of the busiest processes to report; 0 for none", at_least(0))
    topics: tuple[str, ...] = setting(TOPICS, "what to measure", _topics)
    pids: tuple[int, ...] = setting((), "processes to report with their children, by number", _pids)
    services: tuple[str, ...] = setting((), "services to report: NAME.service, a path/of.pid, or a program", _services)
