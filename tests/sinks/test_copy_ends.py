"""What ends a copy from outside: the reader of its output that goes away, and Ctrl-C in the middle of a query."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from eventstorm_sinks.stores.conformance import book_of
from sinks.copies import DEADLINE_S, EVENTSTORM, fill, numbered, place


@pytest.fixture
def source(tmp_path: Path) -> str:
    """More than goes into one insertion, so that there is something to break off."""
    source, batch = place("duckdb", tmp_path, "from"), numbered(200_000)
    fill(source, [batch], [book_of(batch)])
    return source


def test_a_reader_that_has_seen_enough_ends_it(source: str) -> None:
    """As in ``eventstorm copy … jsonl:- | head -n 2``."""
    child = subprocess.Popen(
        [*EVENTSTORM, "copy", source, "jsonl:-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(2)]
    child.stdout.close()
    child.stdout = None
    said = child.communicate(timeout=DEADLINE_S)[1]

    assert all(line.startswith('{"_id":') for line in lines)
    assert child.returncode == 128 + signal.SIGTERM
    assert said.startswith("eventstorm copy: broken off: ")
    assert said.count("\n") == 1
    assert "copied 200,000" not in said


def test_ctrl_c_while_duckdb_answers_is_no_error(source: str, tmp_path: Path) -> None:
    """DuckDB gives its query up then, with an error of its own."""
    target = place("jsonl", tmp_path)
    child = subprocess.Popen([*EVENTSTORM, "copy", source, target], stderr=subprocess.PIPE, text=True)
    give_up_s = time.monotonic() + DEADLINE_S
    while not (tmp_path / "events.jsonl").exists():
        assert time.monotonic() < give_up_s
        time.sleep(0.001)  # between two looks at another process
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=DEADLINE_S)[1]

    assert child.returncode == 130
    assert said.startswith("eventstorm copy: broken off: the same command goes on from there: copied")
    assert said.count("\n") == 1
