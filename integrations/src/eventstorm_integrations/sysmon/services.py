"""``service.usage``: what chosen processes and services use, each of them summed over its processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from eventstorm_integrations.sysmon.chosen import Choice, Members
from eventstorm_integrations.sysmon.figures import Figures, read_figures, together
from eventstorm_integrations.sysmon.scan import Look, Scanner, age_s

__all__ = ["ServiceCollector"]

log = logging.getLogger(__name__)

# Of one core. To measure a process takes 0.15 ms, so 20 are measured every second, and 200 every ten.
_MAY_COST = 0.003
# A process that is not older than the time since the last measurement by so much may have begun before.
_CLOCK_S = 0.02

_GROWING: tuple[tuple[str, Callable[[Figures], float | None]], ...] = (
    ("cpu", attrgetter("process.cpu_s")),
    ("read", attrgetter("read_bytes")),
    ("write", attrgetter("written_bytes")),
    ("voluntary", attrgetter("voluntary_switches")),
    ("involuntary", attrgetter("involuntary_switches")),
)


@dataclass(slots=True)
class _State:
    """What was known of a choice at its last measurement."""

    at_s: float | None = None
    figures: dict[tuple[int, float], Figures] = field(default_factory=dict)
    cpu_s: float = 0.0
    """The CPU time of all its processes, those included that ended while they were watched."""


class ServiceCollector:
    """Measures what is chosen. Of each the first sample lacks what is a difference, and the last one has no process."""

    def __init__(
        self,
        chosen: Sequence[Choice],
        scanner: Scanner,
        noted: set[str],
        read: Callable[[int], Figures | None] = read_figures,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """Take in `noted`, which outlives the collector, what was said to be missing."""
        self._chosen = [(choice, _State()) for choice in chosen]
        self._scanner = scanner
        self._noted = noted
        self._read = read
        self._clock = clock
        self._look: Look | None = None
        self._taken = 0
        self._due_s = 0.0

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return one event for each choice that runs, or has just ended; none if measuring is not due yet."""
        if self._taken > 1 and now_s < self._due_s:
            return []
        self._taken += 1  # as with looks at all processes, two are needed to tell anything
        if any(choice.needs_look for choice, _ in self._chosen):
            self._look = self._scanner.look(now_s) or self._look
        start_s = self._clock()
        events = []
        for choice, state in self._chosen:
            members = choice.members(now_s, self._look)
            figures = self._measure(members) if members else []
            if figures:
                self._noted.discard(choice.name)
                events.append(_event(choice.name, state, figures, now_s))
            elif state.at_s is not None:
                state.at_s, state.figures, state.cpu_s = None, {}, 0.0
                self._noted.add(choice.name)
                log.info("%r has ended", choice.name)  # as Python writes it, since programs choose their names
                events.append({"service": {"name": choice.name}, "process": {"count": 0}})
            elif choice.name not in self._noted:
                self._noted.add(choice.name)
                log.warning("%r does not run, or cannot be seen: there is no service.usage of it", choice.name)
        self._due_s = now_s + (self._clock() - start_s) / _MAY_COST
        return events

    def _measure(self, members: Members) -> list[Figures]:
        read = ((self._read(pid), started) for pid, started in members.items())
        return [each for each, started in read if each and started in (None, each.process.started)]


def _event(name: str, state: _State, figures: list[Figures], now_s: float) -> dict[str, Any]:
    elapsed_s = None if state.at_s is None else now_s - state.at_s
    grown = {kind: _growth(state, figures, get, elapsed_s) for kind, get in _GROWING}
    # Of those that were not there before, all that they used so far; else the sum would go back.
    state.cpu_s += sum(each.process.cpu_s for each in figures if each.identity not in state.figures)
    state.cpu_s += sum(
        max(each.process.cpu_s - state.figures[each.identity].process.cpu_s, 0.0)
        for each in figures
        if each.identity in state.figures
    )
    state.at_s, state.figures = now_s, {each.identity: each for each in figures}
    rates = {kind: each / elapsed_s for kind, each in grown.items() if each is not None and elapsed_s}
    files = together(each.files for each in figures)
    process: dict[str, Any] = {
        "count": len(figures),
        "cpu": {"time": round(state.cpu_s, 2), **_named(rates, {"cpu": "utilization"}, 4)},
        "memory": {
            "usage": sum(each.process.memory_bytes for each in figures),
            "virtual": sum(each.process.virtual_bytes for each in figures),
        },
        "thread": {"count": sum(each.process.threads for each in figures)},
    }
    if files is not None:
        process["unix"] = {"file_descriptor": {"count": files}}
    if io := _named(rates, {"read": "read", "write": "write"}, 1):
        process["disk"] = {"io": io}
    if switches := _named(rates, {"voluntary": "voluntary", "involuntary": "involuntary"}, 1):
        process["context_switches"] = switches
    return {"service": {"name": name}, "process": process}


def _named(rates: dict[str, float], names: dict[str, str], digits: int) -> dict[str, float]:
    return {name: round(rates[kind], digits) for kind, name in names.items() if kind in rates}


def _growth(
    state: _State, figures: Iterable[Figures], get: Callable[[Figures], float | None], elapsed_s: float | None
) -> float | None:
    """Return how much the processes counted since the last measurement; None if one's count cannot be seen."""
    if not elapsed_s or elapsed_s <= 0:
        return None
    return together(_growth_of(state.figures.get(each.identity), each, get, elapsed_s) for each in figures)


def _growth_of(
    before: Figures | None, after: Figures, get: Callable[[Figures], float | None], elapsed_s: float
) -> float | None:
    value = get(after)
    if value is None:
        return None
    if before is None:
        # It began since then, so that all counts; or it is older and joined, and what it did before does not.
        return value if age_s(after.process) <= elapsed_s + _CLOCK_S else 0.0
    earlier = get(before)
    return None if earlier is None else max(value - earlier, 0.0)
