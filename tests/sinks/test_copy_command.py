"""``eventstorm copy`` as a process: killed, interrupted, misused, and in a pipe."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eventstorm_sinks.stores.conformance import book_of
from sinks.copies import DEADLINE_S, EVENTSTORM, KINDS, books, comparable, copy, fill, numbered, place, stored


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [*EVENTSTORM, "copy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S, **options)


# Copies in small parts, and kills itself after so long.
_KILLED = """
import os, sys, threading
from eventstorm.cli import main
from eventstorm_sinks import copying
copying._MOST_EVENTS = 1_000
threading.Timer(float(sys.argv.pop(1)), lambda: os.kill(os.getpid(), 9)).start()
sys.exit(main())
"""


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_point_and_run_again_nothing_is_there_twice_and_nothing_is_missing(
    tmp_path: Path, kind: str
) -> None:
    source, target = place("jsonl", tmp_path, "from"), place(kind, tmp_path)
    batch = numbered(30_000)
    fill(source, [batch], [book_of(batch)])
    whole = json.loads(run(source, place(kind, tmp_path, "whole"), "--json").stdout)
    for share in (0.5, 0.8, 1.2):
        command = [sys.executable, "-c", _KILLED, str(0.2 + share * whole["seconds"]), "copy", source, target]
        killed = subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE_S)
        assert killed.returncode in (0, -signal.SIGKILL)

    done = run(source, target, "--json")

    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["copied"] + counts["there"] == counts["read"] == 30_000
    assert comparable(stored(target)) == comparable(stored(source))
    assert books(target) == books(source)


def test_ctrl_c_ends_it_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    source, target = place("jsonl", tmp_path, "from"), place("duckdb", tmp_path)
    batch = numbered(200_000)
    fill(source, [batch], [book_of(batch)])
    child = subprocess.Popen([*EVENTSTORM, "copy", source, target], stderr=subprocess.PIPE, text=True)
    give_up_s = time.monotonic() + DEADLINE_S
    while not (tmp_path / "events.duckdb").exists():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)  # between two looks at another process
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=DEADLINE_S)[1]

    assert child.returncode == 130
    assert "broken off: the same command goes on from there: copied" in said
    assert "Traceback" not in said
    assert copy(source, target).read == 200_000


def test_the_command_says_what_is_wrong_and_how(tmp_path: Path) -> None:
    there = place("jsonl", tmp_path)
    fill(there, [numbered(3)])
    missing = tmp_path / "missing"
    wrong = [
        ((there, there), 2, "is both"),
        ((there, "duck:x"), 2, "did you mean 'duckdb'"),
        ((there, "duckdb:x", "--topic", "A b"), 2, "--topic: 'A b' is no topic"),
        ((there, "duckdb:x", "--since", "yesterday"), 2, "--since: 'yesterday' is no time; write it as"),
        ((there, "duckdb:x", "--where", "number"), 2, "--where: 'number': no operator in it; write it as"),
        ((there, "duckdb:x", "--since", "9" * 400 + "d"), 2, "d' is too much"),
        ((there, "duckdb:x", "--wait", "long"), 2, "--wait: 'long'"),
        ((there, "jsonl:"), 3, "jsonl: names no file; write one as"),
        ((there, "jsonl:/"), 3, "jsonl:/ names no file"),
        ((there, "parquet:"), 3, "parquet: names no folder; write one as"),
        ((f"jsonl:{missing}", "duckdb:x"), 3, "there is no such file"),
        ((f"duckdb:{missing}", "jsonl:x"), 3, "there is no store"),
        ((f"parquet:{missing}", "jsonl:x"), 3, "there is no such folder or file"),
        ((there, f"parquet:{tmp_path / 'events.jsonl'}"), 3, "is a file"),
    ]
    for arguments, code, told in wrong:
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not missing.exists()
    sink = subprocess.run([*EVENTSTORM, "sink", "parquet:x"], capture_output=True, text=True, check=False)
    assert sink.returncode == 2
    assert "is for copies" in sink.stderr


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('hello\n\n{"total": 7}\n')

    done = run(f"jsonl:{tmp_path / 'other.jsonl'}", place("duckdb", tmp_path))

    assert "left out 2 lines that are no events" in done.stderr
    assert "copied 0 events" in done.stderr


def test_events_are_copied_to_standard_output_and_counts_are_said_beside_them(tmp_path: Path) -> None:
    there = place("parquet", tmp_path)
    fill(there, [numbered(3)])

    done = run(there, "jsonl:-", "--where", "number>=1", "--where", "number<2")
    assert [json.loads(line)["data"] for line in done.stdout.splitlines()] == [{"number": 1}]
    done = run(there, "jsonl:-", "--since", "2026-01-01T00:00:01Z", "--until", "2026-01-01 00:00:02")

    [line] = done.stdout.splitlines()
    assert json.loads(line)["data"] == {"number": 1}
    assert "eventstorm copy: copied 1 events" in done.stderr
