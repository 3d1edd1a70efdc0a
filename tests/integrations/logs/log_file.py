"""A log file in a test's hands: written, rotated, compressed, and followed."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

from eventstorm_integrations.logs.follow import FollowedPath
from eventstorm_integrations.logs.rotated import Position

MOST = 4096
OPEN: list[FollowedPath] = []


def append(path: str | Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


class Log:
    """A log file, the program that writes it, who rotates it, and who follows it."""

    def __init__(self, path: Path, *, from_start: bool = True) -> None:
        self.path = path
        self.now_s = 1000.0
        self.written: list[str] = []
        self.read: list[str] = []
        self.follow(None, from_start=from_start)
        self._modified_ns = 10**18

    def follow(self, position: Position | None, *, from_start: bool = False) -> None:
        self.followed = FollowedPath(str(self.path), MOST, position, from_start=from_start)
        OPEN.append(self.followed)

    def write(self, *lines: str) -> None:
        append(self.path, "".join(f"{line}\n" for line in lines))
        self.written += lines
        self._touch()

    def _touch(self) -> None:
        # Clocks of file systems are coarse; in these tests everything happens at once.
        self._modified_ns += 10**9
        os.utime(self.path, ns=(self._modified_ns, self._modified_ns))

    def poll(self, later_s: float = 0.1) -> list[str]:
        self.now_s += later_s
        found = [line for block in self.followed.poll(self.now_s) for line in block.lines]
        self.read += found
        return found

    def poll_all(self) -> None:
        for _ in range(12):
            self.poll(3.0)

    def restart(self) -> None:
        position = self.followed.position
        self.followed.close()
        self.follow(position)

    def older(self) -> None:
        """Give the rotated files the next higher numbers."""
        found = sorted(self.path.parent.glob(f"{self.path.name}.*"), key=lambda each: -int(each.name.split(".")[2]))
        for each in found:
            number, *ending = each.name.removeprefix(f"{self.path.name}.").split(".")
            each.rename(self.path.with_name(".".join([self.path.name, str(int(number) + 1), *ending])))

    def rename(self) -> None:
        self.older()
        if self.path.exists():
            self.path.rename(f"{self.path}.1")

    def copy_and_truncate(self) -> None:
        self.older()
        if self.path.exists():
            shutil.copy2(self.path, f"{self.path}.1")
            os.truncate(self.path, 0)
            self._touch()

    def compress(self) -> None:
        rotated = Path(f"{self.path}.1")
        if rotated.exists():
            about = rotated.stat()
            packed = Path(f"{self.path}.1.gz")
            packed.write_bytes(gzip.compress(rotated.read_bytes()))
            os.utime(packed, ns=(about.st_mtime_ns, about.st_mtime_ns))
            rotated.unlink()
