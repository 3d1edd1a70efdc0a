"""Agents: what `eventstorm up` runs beside the sink to have something to store, such as this host's system metrics.

An agent is a class registered under the entry-point group ``eventstorm.agents``. It emits into the source that it is
given, from threads of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol

from eventstorm import Source
from eventstorm.errors import SettingError
from eventstorm.settings import SdkSettings, load

__all__ = ["Agent", "Agents"]

log = logging.getLogger(__name__)

# Agents have so long to stop, and so much more before they are left behind; then their last events have so long.
STOP_S, GRACE_S, FLUSH_S = 1.0, 0.25, 0.5


class Agent(Protocol):
    """Emits events from `start` until `stop`."""

    def __init__(self, source: Source, config: Path | None) -> None:
        """Take where to emit, and the configuration file if the user named one.

        Raises:
            SettingError: something in the configuration is wrong.
        """

    def start(self) -> None:
        """Start, and return at once."""

    def stop(self, timeout_s: float) -> None:
        """Stop, within so many seconds. Also called when `start` raised something."""


class Agents:
    """The agents of all installed distributions. One that is broken stops neither the others nor the sink.

    Args:
        ingress: the router that they emit to.
        config: the configuration file if the user named one.
        without: the names of those that are not to run.
    """

    def __init__(self, ingress: str, config: Path | None, *, without: Collection[str] = ()) -> None:
        self._ingress = ingress
        self._config = config
        self._entries = [
            entry
            for entry in sorted(entry_points(group="eventstorm.agents"), key=lambda each: each.name)
            if entry.name not in without
        ]
        self._sources: list[Source] = []
        self._agents: dict[str, Agent] = {}
        self.failed: dict[str, str] = {}
        """Those that did not start, by name, each with the reason."""

    @property
    def running(self) -> list[str]:
        """The names of those that started."""
        return [name for name in self._agents if name not in self.failed]

    def start(self) -> None:
        """Start them.

        Raises:
            SettingError: the configuration of one is wrong. Call `stop` then too.
        """
        for entry in self._entries:
            try:
                self._start(entry)
            except SettingError:
                raise
            except Exception as error:
                self.failed[entry.name] = f"{type(error).__name__}: {error}{_remedy(entry, error)}"
                log.warning("%s does not run: %s", entry.name, self.failed[entry.name])
                log.debug("why %s does not run", entry.name, exc_info=True)

    def _start(self, entry: EntryPoint) -> None:
        cls = entry.load()
        settings = load(SdkSettings, "sdk", {"endpoint": self._ingress, "service": entry.name}, self._config)
        source = Source(settings)
        self._sources.append(source)
        agent = self._agents[entry.name] = cls(source, self._config)
        agent.start()

    def stop(self) -> None:
        """Stop them, all at once, and send what they emitted; within 2 seconds, whatever they do."""
        stopping = [
            threading.Thread(target=_stop, args=each, name=f"eventstorm-stop-{each[0]}", daemon=True)
            for each in self._agents.items()
        ]
        for thread in stopping:
            thread.start()
        stop_by_s = time.monotonic() + STOP_S + GRACE_S
        for thread in stopping:
            thread.join(max(stop_by_s - time.monotonic(), 0))
        for source in self._sources:
            source.close(FLUSH_S / len(self._sources))


def _remedy(entry: EntryPoint, error: Exception) -> str:
    """Name the extra to install, if what is missing is not the agent itself; by convention it has the agent's name."""
    if entry.dist is None or not isinstance(error, ImportError):
        return ""
    if not error.name or error.name.partition(".")[0] == entry.module.partition(".")[0]:
        return ""
    return f"; install it with: pip install '{entry.dist.name}[{entry.name}]'"


def _stop(name: str, agent: Agent) -> None:
    try:
        agent.stop(STOP_S)
    except Exception:
        log.exception("%s failed to stop", name)
