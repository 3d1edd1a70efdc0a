"""Positions are kept where there is room for them, and lines are read where there is none."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .following import Running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six pages."""
    folder = tmp_path / "state"  # where `follow` keeps positions
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24k,nr_inodes=12", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED: a full disk, since mount needs root: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def hit(number: int) -> str:
    return f'192.0.2.1 - - [01/Jun/2026:12:00:{number % 60:02} +0000] "GET /{number} HTTP/1.1" 200 5 "-" "curl"\n'


def fill(folder: Path) -> None:
    """Leave no byte of a disk."""
    try:
        with (folder / "others").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
    except OSError:
        pass


def take_names(folder: Path) -> list[Path]:
    """Leave no place for another file on a disk; returns those that took it."""
    taken: list[Path] = []
    while True:
        path = folder / str(len(taken))
        try:
            path.touch()
        except OSError:
            return taken
        taken.append(path)


def another(folder: Path) -> Callable[[], bool]:
    """Return what tells whether a file came into a folder, or left it, since now."""
    before_ns = folder.stat().st_mtime_ns
    return lambda: folder.stat().st_mtime_ns != before_ns


def add(path: Path, *numbers: int) -> None:
    with path.open("a") as file:
        file.write("".join(map(hit, numbers)))


def test_a_full_disk_is_told_once_and_lines_are_told_once_as_soon_as_there_is_room_again(
    tmp_path: Path, small_disk: Path, follow: Callable[..., Running]
) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    add(one, 0)
    add(two, 1)
    first = follow("nginx", "--print", "--from-start", str(one), str(two))
    first.wait(lambda: len(list(small_disk.glob("*.json"))) == 2)

    fill(small_disk)
    before = {path: path.read_bytes() for path in small_disk.glob("*.json")}
    for number in range(2, 5):
        another_try = another(small_disk)
        add(one, number)
        first.wait(another_try)
    add(one, 5)
    first.wait(lambda: len(first.paths()) == 6)
    assert {path: path.read_bytes() for path in small_disk.glob("*.json")} == before
    (small_disk / "others").unlink()
    add(two, 6)
    first.wait(lambda: all(path.read_bytes() != text for path, text in before.items()))
    said = first.stop()
    add(one, 7)
    second = follow("nginx", "--print", str(one), str(two))
    second.wait(lambda: bool(second.paths()))
    second.stop()

    assert sorted(first.paths()) == [f"/{number}" for number in range(7)]
    assert second.paths() == ["/7"]
    assert said.count("cannot be kept") == 1
    assert "No space left" in said
    assert said.count("is kept in") == 1


def test_a_file_that_appears_while_the_disk_is_full_is_followed_once_it_is_not(
    tmp_path: Path, small_disk: Path, follow: Callable[..., Running]
) -> None:
    running = follow("nginx", "--print", str(tmp_path / "*.log"))
    taken = take_names(small_disk)
    add(tmp_path / "new.log", 0)
    assert running.process.stderr
    assert "new.log is not followed for now: positions cannot be kept" in running.process.stderr.readline()
    for each in taken:
        each.unlink()
    running.wait(lambda: running.paths() == ["/0"])
    assert "not followed" not in running.stop()
