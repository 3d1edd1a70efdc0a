"""Following a file: each line once, in order, whatever is done to the file meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstorm_integrations.logs.follow import FollowedPath
from eventstorm_integrations.logs.rotated import Position
from integrations.logs.log_file import MOST, OPEN, Log, append


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test follows."""
    yield
    while OPEN:
        OPEN.pop().close()


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


@pytest.mark.parametrize("newest", ["empty", "missing"])
def test_a_file_rotated_twice_between_two_looks_is_read_before_anything_is_in_the_next_one(
    log: Log, newest: str
) -> None:
    log.write("a" * 50)
    log.poll()
    log.rename()
    log.write("b" * 50)
    log.rename()
    if newest == "empty":
        log.path.touch()
    log.poll_all()
    assert log.read == log.written

    append(log.path.with_name(log.path.name + ".1"), "late\n")  # by a program that does not know yet
    log.written.append("late")
    log.poll()
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


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
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
