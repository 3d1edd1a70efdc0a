"""``memory.usage``: how much of the memory and of the swap space is in use."""

from __future__ import annotations

from typing import Any

import psutil

from eventstorm_integrations.sysmon.rates import Rates

__all__ = ["MemoryCollector"]


class MemoryCollector:
    """Reads memory and swap space. Its first sample lacks the rates of paging."""

    def __init__(self) -> None:
        self._rates = Rates()

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
        swap = psutil.swap_memory()
        if swap.total:
            system["paging"] = {
                "usage": swap.used,
                "limit": swap.total,
                "utilization": round(swap.used / swap.total, 4),
            }
            if rates := self._rates.update({"swap": (swap.sin, swap.sout)}, now_s):
                system["paging"]["in"], system["paging"]["out"] = (round(rate, 1) for rate in rates["swap"])
        return [{"system": system}]
