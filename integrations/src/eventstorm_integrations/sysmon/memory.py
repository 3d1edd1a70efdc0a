"""``memory.usage``: how much of the memory and of the swap space is in use."""

from __future__ import annotations

from math import inf
from typing import Any

import psutil

from eventstorm_integrations.sysmon.rates import Rates

__all__ = ["MemoryCollector"]

# Where there is none it may be switched on; asking takes as long as the memory itself.
_LOOK_FOR_SWAP_S = 10.0


class MemoryCollector:
    """Reads memory and swap space. Its first sample lacks the rates of paging."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._swap_due_s = -inf

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return the event."""
        memory = psutil.virtual_memory()
        usage = memory.total - memory.available
        system: dict[str, Any] = {
            "memory": {
                "usage": usage,
                "limit": memory.total,
                "utilization": round(usage / memory.total, 4),
                "available": memory.available,
                **{name: getattr(memory, name) for name in ("cached", "buffers", "free") if hasattr(memory, name)},
            }
        }
        if now_s >= self._swap_due_s and (swap := psutil.swap_memory()).total:
            system["paging"] = {
                "usage": swap.used,
                "limit": swap.total,
                "utilization": round(swap.used / swap.total, 4),
            }
            if rates := self._rates.update({"swap": (swap.sin, swap.sout)}, now_s):
                system["paging"]["in"], system["paging"]["out"] = (round(rate, 1) for rate in rates["swap"])
        elif now_s >= self._swap_due_s:
            self._swap_due_s = now_s + _LOOK_FOR_SWAP_S
        return [{"system": system}]
