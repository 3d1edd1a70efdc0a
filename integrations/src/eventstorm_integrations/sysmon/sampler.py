"""One measurement of all that somebody wants, and when the next one is due."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from eventstorm_integrations.sysmon.chosen import choices
from eventstorm_integrations.sysmon.containers import ContainerCollector
from eventstorm_integrations.sysmon.cpu import CpuCollector
from eventstorm_integrations.sysmon.disks import DiskCollector
from eventstorm_integrations.sysmon.filesystems import FilesystemCollector
from eventstorm_integrations.sysmon.memory import MemoryCollector
from eventstorm_integrations.sysmon.network import NetworkCollector
from eventstorm_integrations.sysmon.processes import ProcessCollector
from eventstorm_integrations.sysmon.scan import Scanner
from eventstorm_integrations.sysmon.sensors import SensorCollector
from eventstorm_integrations.sysmon.services import ServiceCollector
from eventstorm_integrations.sysmon.settings import SysmonSettings

__all__ = ["Collector", "Sampler", "until_next_s"]

log = logging.getLogger(__name__)


class Collector(Protocol):
    """Measures one topic's metrics."""

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return the events of this moment; `now_s` is a monotonic clock's."""
        ...


class Sampler:
    """Asks the collectors of wanted topics. One that is not wanted costs nothing, and begins afresh when it is again:
    a rate over the time between would be drawn as if it were of now.
    """

    def __init__(self, settings: SysmonSettings) -> None:
        scanner = Scanner()
        # Now, not when somebody listens: the processes that are meant are those that have the numbers now.
        chosen = choices(settings.pids, settings.services)
        missing: set[str] = set()
        made: dict[str, Callable[[], Collector]] = {
            "cpu.usage": CpuCollector,
            "memory.usage": MemoryCollector,
            "disk.usage": FilesystemCollector,
            "disk.io": DiskCollector,
            "network.usage": NetworkCollector,
            "container.usage": ContainerCollector,
            "process.usage": lambda: ProcessCollector(scanner, settings.processes),
            "service.usage": lambda: ServiceCollector(chosen, scanner, missing),
            "sensor.usage": SensorCollector,
        }
        asked = {"process.usage": bool(settings.processes), "service.usage": bool(chosen)}
        self._make = {topic: made[topic] for topic in settings.topics if asked.get(topic, True)}
        self._collectors: dict[str, Collector] = {}
        self._noted: set[str] = set()

    def sample(self, wanted: Callable[[str], bool], now_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield topic and event of everything that is `wanted` and can be measured here and now."""
        for topic, make in self._make.items():
            if not wanted(topic):
                self._collectors.pop(topic, None)
                continue
            try:
                collector = self._collectors.get(topic) or self._collectors.setdefault(topic, make())
                events = collector.sample(now_s)
            except Exception as error:  # the others go on; a container or a kernel may lack any of these
                if topic not in self._noted:
                    self._noted.add(topic)
                    log.warning(
                        "%s cannot be measured here and is left out: %s: %s", topic, type(error).__name__, error
                    )
                continue
            for event in events:
                yield topic, event


def until_next_s(wall_s: float, interval_s: float, phase: float) -> float:
    """Return how long to wait for the next measurement, between a half and one and a half intervals.

    Measurements are due when the wall clock is at `phase` (from 0 to 1) of an interval. So they do not drift, those
    that a suspended or stalled machine missed are not made up for, and none is near the end of a second, where two
    would now and then fall into the same one and leave the next one empty.
    """
    wait_s = (phase * interval_s - wall_s) % interval_s
    return wait_s if wait_s >= interval_s / 2 else wait_s + interval_s
