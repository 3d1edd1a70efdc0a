"""The agent: measures every interval in a thread of its own and emits what was measured."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from eventstorm.settings import load
from eventstorm_integrations.sysmon.sampler import Sampler, until_next_s
from eventstorm_integrations.sysmon.settings import SysmonSettings

__all__ = ["Emits", "SysmonAgent", "run"]

log = logging.getLogger(__name__)


class Emits(Protocol):
    """Where events go: an `eventstorm.Source`, or the module `eventstorm` itself."""

    def emit(self, topic: str, event: Mapping[str, Any], /) -> bool:
        """Take an event."""
        ...

    def wanted(self, topic: str) -> bool:
        """Tell whether anybody listens to a topic."""
        ...


def run(
    sampler: Sampler, interval_s: float, source: Emits, stop: threading.Event, *, samples: int | None = None
) -> None:
    """Measure and emit until `stop` is set, or so many times; the first time is what the others are compared with."""
    phase = random.uniform(0.2, 0.8)  # not all hosts of a fleet at once, and none at a second's end
    list(sampler.sample(source.wanted, time.monotonic()))
    while samples is None or samples > 0:
        if stop.wait(until_next_s(time.time(), interval_s, phase)):
            return
        for topic, event in sampler.sample(source.wanted, time.monotonic()):
            source.emit(topic, event)
        samples = None if samples is None else samples - 1


class SysmonAgent:
    """The system metrics as ``eventstorm up`` runs them: an entry of the group ``eventstorm.agents``."""

    def __init__(self, source: Emits, config: Path | None = None) -> None:
        """Read the settings, from `config` or where they usually are.

        Raises:
            SettingError: one of them is wrong.
        """
        self._settings = load(SysmonSettings, "sysmon", {}, config)
        self._source = source
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventstorm-sysmon", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread; one that hangs in the kernel for longer than that is left behind, it is a daemon."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            run(Sampler(self._settings), self._settings.interval_s, self._source, self._stop)
        except Exception:
            log.exception("the system metrics ended with a fault of Eventstorm itself")
