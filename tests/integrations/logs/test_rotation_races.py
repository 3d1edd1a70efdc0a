"""A program that writes on, a rotation at any moment, a follower that is stopped or killed: no line is lost.

All are processes of their own, so what happens between two system calls of one of them happens here too.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .following import PROGRAM
from .servers import wait

PATTERN = r"(?P<number>\d+) x*"
ROTATIONS = 6
KEPT = 40


class Writer:
    """The program that writes."""

    def __init__(self, path: Path, seed: int) -> None:
        script = Path(__file__).with_name("log_writer.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(path), str(seed)], stdout=subprocess.PIPE, text=True
        )
        self.said()

    def said(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def reopen(self) -> None:
        self.process.send_signal(signal.SIGUSR1)
        assert self.said() == "reopened"

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)
        yield
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> int:
        """Let it end; returns how many lines it wrote."""
        self.process.terminate()
        count = int(self.said())
        self.process.wait()
        return count

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


class Follower:
    """The follower, run after run; what each printed is in a file of its own, since a run may be killed amid a line."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._folder = path, folder
        self._outputs: list[Path] = []
        self.start()

    def start(self) -> None:
        self._outputs.append(self._folder / f"output.{len(self._outputs)}")
        arguments = ["--from-start", "--print", "--pattern", PATTERN, "--state", str(self._folder / "state")]
        with self._outputs[-1].open("wb") as output, self._outputs[-1].with_suffix(".said").open("wb") as said:
            self.process = subprocess.Popen([PROGRAM, "regex", *arguments, str(self._path)], stdout=output, stderr=said)

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        assert self.process.wait(30) in (0, -signal.SIGKILL)

    def is_up(self) -> bool:
        return self._outputs[-1].stat().st_size > 0

    def has_told(self, number: int) -> bool:
        """Tell whether this run has come to a line."""
        return f" {number}}}}}\n".encode() in self._outputs[-1].read_bytes()[-1000:]

    def runs(self) -> list[list[int]]:
        """Return the numbers of lines that each run told."""
        return [[int(number) for number in re.findall(rb"(\d+)}}\n", each.read_bytes())] for each in self._outputs]


class Rotator:
    """Who rotates: names are numbered, as logrotate does it."""

    def __init__(self, path: Path, writer: Writer, chance: random.Random) -> None:
        self._path, self._writer, self._chance = path, writer, chance

    def _named(self, number: int) -> Path:
        plain = self._path.with_name(f"{self._path.name}.{number}")
        packed = plain.with_name(f"{plain.name}.gz")
        return packed if packed.exists() else plain

    def _shift(self) -> None:
        for number in range(KEPT, 0, -1):
            if (each := self._named(number)).exists():
                each.rename(str(each).replace(f".log.{number}", f".log.{number + 1}"))

    def rename(self) -> None:
        self._shift()
        self._path.rename(self._named(1))
        self._pause()
        self._writer.reopen()

    def copy(self) -> None:
        """Copy and truncate: what is written between both is lost, unless it was read by then."""
        self._shift()
        shutil.copy2(self._path, self._named(1))
        os.truncate(self._path, 0)

    def copy_while_stopped(self) -> None:
        """Copy and truncate while nothing is written, so that nothing is lost."""
        with self._writer.stopped():
            self.copy()

    def compress(self) -> None:
        """Compress as gzip does: the old file is removed when the new one is whole, and has its time."""
        number = self._chance.choice([1, 2, 3])
        plain = self._path.with_name(f"{self._path.name}.{number}")
        if plain.exists():
            about, packed = plain.stat(), plain.with_name(f"{plain.name}.gz")
            with packed.open("wb") as file:
                data = gzip.compress(plain.read_bytes())
                file.write(data[: len(data) // 2])
                file.flush()
                self._pause()
                file.write(data[len(data) // 2 :])
            os.utime(packed, ns=(about.st_mtime_ns, about.st_mtime_ns))
            plain.unlink()

    def _pause(self) -> None:
        time.sleep(self._chance.choice([0.0, 0.0, 0.02, 0.1]))

    def files(self) -> Iterator[bytes]:
        """Yield what is in the files by now."""
        yield self._path.read_bytes()
        for number in range(1, KEPT):
            if (each := self._named(number)).exists():
                yield gzip.decompress(each.read_bytes()) if each.suffix == ".gz" else each.read_bytes()


def numbers(files: Iterator[bytes]) -> set[int]:
    return {int(line.split()[0]) for data in files for line in data.splitlines(keepends=True) if line.endswith(b"\n")}


@pytest.mark.parametrize(
    ("way", "kills"), [("rename", False), ("rename", True), ("copy_while_stopped", True), ("copy", False)]
)
def test_no_line_is_lost_however_the_file_is_rotated_and_the_follower_ends(
    tmp_path: Path, way: str, kills: bool
) -> None:
    seed = int(os.environ.get("EVENTSTORM_TEST_SEED", "0"))  # to look for faults: as many as there is time for
    chance = random.Random(f"{way}{kills}{seed}")
    path = tmp_path / "x.log"
    with contextlib.ExitStack() as stack:
        writer = Writer(path, seed)
        stack.callback(writer.close)
        follower = Follower(path, tmp_path)
        stack.callback(lambda: follower.process.poll() is not None or follower.end(signal.SIGKILL))
        rotator = Rotator(path, writer, chance)
        for _ in range(ROTATIONS):
            wait(follower.is_up, "the follower tells a line")
            time.sleep(chance.random() / 2)  # a rotation may come at any moment
            away = chance.random() < 0.4
            if away:
                follower.end(signal.SIGKILL if kills else signal.SIGTERM)
            getattr(rotator, way)()
            if chance.random() < 0.5:
                rotator.compress()
            if away:
                follower.start()
        count = writer.end()
        written = numbers(rotator.files())
        wait(lambda: follower.has_told(max(written)), "all is told")
        follower.end(signal.SIGTERM)

    runs = follower.runs()
    if way != "copy":
        assert written == set(range(count))
    for run in runs:
        assert run == sorted(set(run))  # in order, and each once
    told = [number for run in runs for number in run]
    assert written <= set(told) <= set(range(count))
    if not kills:
        assert len(told) == len(set(told))
