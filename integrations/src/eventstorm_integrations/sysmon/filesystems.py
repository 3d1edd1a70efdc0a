"""``disk.usage``: how full the mounted filesystems are.

Only those whose answer comes from this machine's own kernel: asking a network filesystem or a FUSE program may block
for ever, in a way that no signal ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from math import inf
from typing import Any, NamedTuple

import psutil

from eventstorm_integrations.sysmon.text import printable

__all__ = ["FilesystemCollector", "Mount", "worth_asking"]

# Images that are always full.
_READ_ONLY_IMAGES = {"squashfs", "iso9660", "udf", "cramfs", "erofs"}
# A pool or a volume name in place of a device.
_DEVICELESS = {"zfs", "bcachefs"}
# How often to look what is mounted, which takes ten times as long as asking how full it is.
_LIST_S = 10.0
_MAY_BLOCK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "9p", "virtiofs", "autofs"}


class Mount(NamedTuple):
    """A mounted filesystem."""

    device: str
    mountpoint: str
    type: str


class FilesystemCollector:
    """Asks the local filesystems how full they are."""

    def __init__(self) -> None:
        self._mounts: list[Mount] = []
        self._listed_s = -inf

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return one event for each filesystem that answers."""
        if now_s - self._listed_s >= _LIST_S:
            self._mounts, self._listed_s = _list(), now_s
        events = []
        for mount in self._mounts:
            try:
                usage = psutil.disk_usage(mount.mountpoint)
            except OSError:  # unmounted just now, an empty drive, or not for this user to see
                continue
            if not usage.total:
                continue
            filesystem = {
                "mountpoint": printable(mount.mountpoint),
                "type": mount.type,
                "device": printable(mount.device),
                "usage": usage.used,
                "limit": usage.total,
                # As df has it: of what users may fill, without the part that is reserved for root.
                "utilization": round(usage.used / ((usage.used + usage.free) or usage.total), 4),
            }
            events.append({"system": {"filesystem": filesystem}})
        return events


def _list() -> list[Mount]:
    # Elsewhere psutil itself knows what is a disk. On Linux it would leave out a container's root.
    everything = psutil.disk_partitions(sys.platform == "linux")
    mounts = [Mount(each.device, each.mountpoint, each.fstype) for each in everything]
    return worth_asking(mounts) if sys.platform == "linux" else mounts


def worth_asking(mounts: Iterable[Mount]) -> list[Mount]:
    """Return the mounts, as Linux lists them, that are filesystems on disks of this machine, each device once.

    A device that is mounted at several places is reported at the one with the shortest path, its files being the same;
    so containers' bind mounts do not repeat the host's disk. Whatever is the root is reported, a container's too.
    """
    found: dict[str, Mount] = {}
    top: dict[str, Mount] = {mount.mountpoint: mount for mount in mounts}  # what is mounted over is not reachable
    for mount in top.values():
        if mount.type in _MAY_BLOCK or (mount.type.startswith("fuse") and mount.type != "fuseblk"):
            continue
        on_disk = mount.device.startswith("/dev/") or mount.type in _DEVICELESS
        if mount.mountpoint == "/" or (on_disk and mount.type not in _READ_ONLY_IMAGES):
            known = found.get(mount.device)
            if known is None or len(mount.mountpoint) < len(known.mountpoint):
                found[mount.device] = mount
    return list(found.values())
