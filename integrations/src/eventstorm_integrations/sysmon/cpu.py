"""``cpu.usage``: how busy the cores are, all together and each, in what mode, and the load averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil

__all__ = ["CpuCollector", "utilizations"]

Times = dict[str, float]

# What is counted as well under another name: on Linux a guest's time is part of `user` and `nice`.
_COUNTED_TWICE = ("guest", "guest_nice")
_NOT_BUSY = ("idle", "iowait")
# The names of the kernels' modes, by the name of the field; a platform has some of them.
_MODES = {
    "user": ("user",),
    "system": ("system",),
    "iowait": ("iowait",),
    "steal": ("steal",),
    "nice": ("nice",),
    "irq": ("irq", "softirq", "interrupt", "dpc"),
}


class CpuCollector:
    """Reads the CPU's times. Its first sample is empty: utilization is a difference."""

    def __init__(self) -> None:
        self._before: list[Times] = []

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return the event, if there is one."""
        after = [times._asdict() for times in psutil.cpu_times(percpu=True)]
        before, self._before = self._before, after
        usage = utilizations(before, after)
        if usage is None:
            return []
        load = dict(zip(("1m", "5m", "15m"), (round(each, 2) for each in psutil.getloadavg()), strict=True))
        return [{"system": {"cpu": {**usage, "load": load}}}]


def utilizations(before: Sequence[Times], after: Sequence[Times]) -> dict[str, Any] | None:
    """Return the shares of time, from 0 to 1, that the cores spent busy between two looks at their clocks.

    None if that cannot be told: a core was switched on or off, which shifts the numbers of the others, or no time
    passed.
    """
    if len(before) != len(after):
        return None
    spent = [_spent(*pair) for pair in zip(before, after, strict=True)]
    together = {mode: sum(core[mode] for core in spent) for mode in (spent[0] if spent else ())}
    if not sum(together.values()):
        return None
    return {
        "utilization": _busy(together),
        "logical": [_busy(core) for core in spent],
        "mode": {
            field: _share(together, modes) for field, modes in _MODES.items() if any(mode in together for mode in modes)
        },
    }


def _spent(before: Times, after: Times) -> Times:
    # Linux's `iowait` and `idle` go back now and then (proc(5)); that is no time spent.
    return {mode: max(after[mode] - before[mode], 0.0) for mode in after if mode not in _COUNTED_TWICE}


def _busy(spent: Times) -> float:
    return _share(spent, [mode for mode in spent if mode not in _NOT_BUSY])


def _share(spent: Times, modes: Sequence[str]) -> float:
    total = sum(spent.values())
    return round(sum(spent.get(mode, 0.0) for mode in modes) / total, 4) if total else 0.0
