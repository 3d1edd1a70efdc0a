"""Following a file: each line once, in order, whatever is done to the file meanwhile."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstorm_integrations.logs.compressed import LogFile
from eventstorm_integrations.logs.follow import FollowedPath
from eventstorm_integrations.logs.rotated import Position, series

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST = 4096
OPEN: list[FollowedPath] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test follows."""
    yield
    while OPEN:
        OPEN.pop().close()


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


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "x.log")


def test_lines_are_returned_as_they_are_written(log: Log) -> None:
    assert log.poll() == []
    log.write("a")
    assert log.poll() == ["a"]
    log.write("b", "c")
    assert log.poll() == ["b", "c"]
    assert log.poll() == []


def test_what_was_there_before_is_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("old\n")
    log = Log(path, from_start=False)
    log.write("new")

    assert log.poll() == ["new"]


def test_a_line_whose_end_is_not_written_yet_waits_for_it(log: Log) -> None:
    log.path.write_text("a\nb")
    assert log.poll() == ["a"]
    append(log.path, "c\nd")
    assert log.poll() == ["bc"]
    log.restart()
    append(log.path, "\n")
    assert log.poll() == ["d"]


def test_a_line_that_is_being_written_at_the_start_is_returned_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("old\nhalf ")
    log = Log(path, from_start=False)
    append(path, "whole\n")

    assert log.poll() == ["half whole"]


def test_a_renamed_file_is_read_on_until_the_program_writes_elsewhere(log: Log) -> None:
    log.write("a")
    log.poll()
    log.rename()
    append(f"{log.path}.1", "b\n")
    log.path.write_text("")
    assert log.poll() == ["b"]
    append(f"{log.path}.1", "c\n")
    log.path.write_text("d\n")
    assert log.poll() == ["c"]
    assert log.poll() == []
    assert log.poll(5.0) == ["d"]


def test_a_program_that_never_reopens_its_file_is_left_behind(log: Log) -> None:
    log.write("a")
    log.poll()
    log.rename()
    log.path.write_text("new\n")
    found: list[str] = []
    for _ in range(100):
        append(f"{log.path}.1", "old\n")
        found += log.poll(1.0)

    assert "new" in found
    assert found.count("old") < 40


def test_a_file_that_was_emptied_is_read_from_its_begin(log: Log) -> None:
    log.write("first", "second")
    log.poll()
    os.truncate(log.path, 0)
    log.write("x")

    assert log.poll() == ["x"]


def test_a_file_that_was_emptied_and_is_longer_again_is_noticed(log: Log) -> None:
    log.write("first", "second")
    log.poll()
    log.path.write_text("another first\nanother second\nanother third\n")

    assert log.poll() == ["another first", "another second", "another third"]


def test_a_program_that_writes_on_where_it_was_after_truncation_leaves_zeros_which_are_left_out(log: Log) -> None:
    log.write("x" * 100)
    log.poll()
    with log.path.open("r+b") as file:
        file.truncate(0)
        file.seek(1_000_000)
        file.write(b"y\nz\n")

    log.poll_all()
    assert log.read == ["x" * 100, "y", "z"]


def test_a_symlink_that_leads_elsewhere_is_a_new_file(tmp_path: Path) -> None:
    first, second = tmp_path / "2026-1.log", tmp_path / "2026-2.log"
    first.write_text("a\n")
    second.write_text("b\n")
    link = tmp_path / "current"
    link.symlink_to(first)
    log = Log(link)
    assert log.poll() == ["a"]
    link.unlink()
    link.symlink_to(second)
    log.poll()

    assert log.poll(5.0) == ["b"]


def test_a_new_file_with_the_inode_of_the_old_one_is_read_from_its_begin(log: Log) -> None:
    log.write("old " * 20, "old")
    log.poll()
    position = log.followed.position
    log.followed.close()
    inode = log.path.stat().st_ino
    log.path.unlink()
    log.path.write_text("new " * 30 + "\n")
    if log.path.stat().st_ino != inode:  # file systems differ in how soon they give a number away again
        assert position is not None
        position = type(position)(log.path.stat().st_ino, position.offset, position.head_bytes, position.head)
    log.follow(position)

    assert log.poll() == ["new " * 30]


def test_what_came_while_nobody_looked_is_read_from_all_the_files_that_it_is_in_by_now(log: Log) -> None:
    log.write("a" * 50, "b")
    log.poll()
    position = log.followed.position
    log.followed.close()
    log.write("c")
    log.rename()
    log.compress()
    log.write("d" * 50)
    log.rename()
    log.write("e")
    log.follow(position)
    log.poll_all()

    assert log.read == log.written


def test_what_came_into_a_file_that_was_empty_and_was_copied_while_nobody_looked_is_read(log: Log) -> None:
    log.path.write_text("")
    log._touch()
    log.poll()
    position = log.followed.position
    log.write("a" * 50)
    log.copy_and_truncate()
    log.write("b")
    log.follow(position)
    log.poll_all()

    assert log.read == log.written


def test_a_file_rotated_twice_between_two_looks_is_read(log: Log) -> None:
    log.write("a" * 50)
    log.poll()
    log.rename()
    log.write("b" * 50)
    log.rename()
    log.write("c")
    log.poll_all()

    assert log.read == log.written


def test_lines_that_were_only_in_the_copy_when_the_file_was_truncated_are_read_there(log: Log) -> None:
    log.write("a" * 50)
    log.poll()
    log.write("b")
    log.copy_and_truncate()
    log.write("c")
    log.poll_all()

    assert log.read == log.written


def test_files_that_are_rotated_while_they_are_being_opened_are_looked_for_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write("a" * 50)
    log.poll()
    position = log.followed.position
    log.followed.close()
    log.write("b" * 50)
    log.rename()
    log.write("c" * 50)
    meanwhile = [log.rename, log.compress, lambda: log.write("d" * 50)]
    is_in = Position.is_in

    def is_in_and_then_is_moved(self: Position, path: str) -> bool:
        found = is_in(self, path)
        if meanwhile:
            meanwhile.pop(0)()
        return found

    monkeypatch.setattr(Position, "is_in", is_in_and_then_is_moved)
    log.follow(position)
    log.poll_all()

    assert log.read == log.written


def test_a_folder_and_a_pipe_are_not_read_and_do_not_block(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        assert list(FollowedPath(str(tmp_path / name), MOST, None, from_start=True).poll(0.0)) == []
    assert [record.getMessage().rpartition(" is ")[2] for record in caplog.records] == ["no regular file"] * 2


OPERATIONS = st.lists(
    st.sampled_from(["write", "write", "poll", "poll", "restart", "rename", "copy", "compress", "half"]), max_size=40
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_each_line_is_read_once_and_in_order_whatever_happens(tmp_path: Path, operations: list[str]) -> None:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    log = Log(folder / "x.log")
    half = ""
    for number, operation in enumerate(operations):
        if operation in ("rename", "copy") and half:
            continue  # who rotates a log while a line is being written loses its other half
        if operation in ("rename", "copy") and not log.followed.position.head_bytes:
            log.poll()  # a file that came and went between two looks cannot be known
        if operation == "write":
            lines = [f"line {number}-{each} {'.' * 40}" for each in range(3)]
            log.write(*lines)
            log.written[-3] = half + lines[0]
            half = ""
        elif operation == "half" and not half:
            half = f"begin {number} {'.' * 40} "
            append(log.path, half)
        elif operation == "poll":
            log.poll()
        elif operation == "restart":
            log.restart()
            log.poll()
        elif operation == "rename":
            log.rename()
        elif operation == "copy":
            log.copy_and_truncate()
        elif operation == "compress":
            log.compress()
    log.write("the end")
    log.written[-1] = half + "the end"
    log.poll_all()
    log.followed.close()

    assert log.read == log.written


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_compressed_file_is_read_as_what_was_compressed(tmp_path: Path, ending: str) -> None:
    text = "".join(f"line {number}\n" for number in range(100_000)).encode()
    pieces = text[:10], text[10:20], text[20 : len(text) // 2], text[len(text) // 2 :]
    pack = gzip.compress if ending == ".gz" else zstd.compress
    # Files that were appended to are several compressed ones.
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"".join(map(pack, pieces)))

    with LogFile(str(path)) as file:
        assert file.head(100) == text[:100]
        found = b"".join(iter(lambda: file.read(10_000), b""))
    assert found == text


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_file_is_an_error_that_says_so(tmp_path: Path, ending: str, damage: str) -> None:
    text = os.urandom(300_000)
    whole = gzip.compress(text) if ending == ".gz" else zstd.compress(text)
    path = tmp_path / f"x{ending}"
    path.write_bytes(whole[:200_000] if damage == "cut" else b"no such format" * 100)

    with LogFile(str(path)) as file, pytest.raises(OSError, match=r".+"):  # whatever it says
        deque(iter(lambda: file.read(10_000), b""))


def test_rotated_files_of_a_log_are_put_in_the_order_of_their_lines(tmp_path: Path) -> None:
    names = ["mail.log.10.gz", "mail.log.2.gz", "mail.log.1", "mail.log", "other.log"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))

    found = series([str(tmp_path / name) for name in sorted(names)])

    assert [[Path(path).name for path in each] for each in found] == [names[:4], names[4:]]
