"""The command ``eventstorm-sink``: ready, running, stopped, and what it says of a mistake."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ports import free_port
from sinks.raw_source import ANY_PORT, Source

PROGRAM = str(Path(sys.executable).with_name("eventstorm-sink"))


def run(*arguments: str) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_that_it_is_ready_and_what_it_did(tmp_path: Path, number: signal.Signals) -> None:
    """It ends on a signal, in time and with exit code 0."""
    url = f"jsonl:{tmp_path / 'events.jsonl'}"
    with run(url, "--embed-router", "--ingress", ANY_PORT, "--egress", ANY_PORT) as process:
        assert process.stderr is not None
        assert "ready" in process.stderr.readline()
        started = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - started < 10  # at once, and what a busy machine adds
    assert process.returncode == 0
    assert "stopped: received" in errors
    assert f"{url}: stored" in errors


def test_the_command_prints_events_to_standard_output(tmp_path: Path) -> None:
    """As JSON lines; and ends when nobody reads them any more."""
    ingress = f"tcp://127.0.0.1:{free_port()}"
    with run("jsonl:-", "--embed-router", "--ingress", ingress, "--egress", ANY_PORT, "--topic", "shop.") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "ready" in process.stderr.readline()
        source = Source(ingress)
        source.wait_for_interest(b"shop.")
        source.send(0, 1)
        assert json.loads(process.stdout.readline())["data"] == {"number": 0}
        process.stdout.close()
        source.send(1, 1)
        process.wait(60)
        source.close()
        process.stderr.read()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "no store"),
        (["nothing:here"], 2, "no store 'nothing'"),
        (["jsonl:/nowhere/at/all"], 3, "No such file"),
        (["jsonl:-", "--topic", "Shop"], 2, "is no topic"),
        (["jsonl:-", "--keep", "soon"], 2, "sink.keep"),
        (["jsonl:-", "--embed-router", "--ingress", "tcp://0.0.0.0:1"], 2, "--insecure"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], code: int, says: str) -> None:
    """In one line, with the exit code of its kind."""
    with run(*arguments) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert says in errors
    assert len(errors.splitlines()) == 1
