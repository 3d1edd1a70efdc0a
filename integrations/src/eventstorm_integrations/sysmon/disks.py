"""``disk.io``: what is read from and written to the disks."""

from __future__ import annotations

import os
from typing import Any

import psutil

from eventstorm_integrations.sysmon.rates import Rates

__all__ = ["DiskCollector"]


class DiskCollector:
    """Reads the disks' counters. Its first sample is empty: rates are differences."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._physical: dict[str, bool] = {}

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return one event for each physical disk."""
        counters = psutil.disk_io_counters(perdisk=True, nowrap=False)
        self._physical = {
            name: self._physical[name] if name in self._physical else _is_physical(name) for name in counters
        }
        rates = self._rates.update(
            {
                name: (
                    disk.read_bytes,
                    disk.write_bytes,
                    disk.read_count,
                    disk.write_count,
                    getattr(disk, "busy_time", 0),
                )
                for name, disk in counters.items()
                if self._physical[name]
            },
            now_s,
        )
        events = []
        for name, (read, write, reads, writes, busy_ms) in rates.items():
            disk: dict[str, Any] = {
                "io": {"read": round(read, 1), "write": round(write, 1)},
                "operations": {"read": round(reads, 1), "write": round(writes, 1)},
            }
            if hasattr(counters[name], "busy_time"):
                disk["utilization"] = round(min(busy_ms / 1000, 1.0), 4)
            events.append({"system": {"device": name, "disk": disk}})
        return events


def _is_physical(name: str) -> bool:
    """Tell a disk from its partitions, and from what is made of disks or memory: loop, dm, md, zram."""
    # Linux replaces a slash in a device's name (cciss/c0d0) in sysfs. Other platforms list nothing but disks.
    return not os.path.isdir("/sys/block") or os.path.exists(f"/sys/block/{name.replace('/', '!')}/device")
