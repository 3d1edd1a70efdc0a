"""``eventstorm sysmon`` as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bson
import pytest
import zmq

from eventstorm.topics import wire_topic
from eventstorm.wire import decode_message

PROGRAM = str(Path(sys.executable).with_name("eventstorm-sysmon"))
# As long as a busy machine may take.
DEADLINE_S = 60


@pytest.fixture
def listener() -> Iterator[zmq.Socket[bytes]]:
    """Return a bound socket, to which sources may connect as to a router; nothing is subscribed to."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.rcvtimeo = DEADLINE_S * 1000
        subscriber.bind("tcp://127.0.0.1:0")
        yield subscriber


def sysmon(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_print_once_writes_one_measurement_as_json_lines() -> None:
    done = sysmon("--print", "--once", "--interval", "0.2", "--processes", "2")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert done.stderr.startswith("eventstorm sysmon: ready: ")
    assert {"cpu.usage", "memory.usage", "process.usage"} <= {line["topic"] for line in lines}
    assert [line["data"]["process"]["rank"] for line in lines if line["topic"] == "process.usage"] == [1, 2]
    assert all(line["ts"]["$date"].endswith("Z") for line in lines)


def test_only_what_is_listened_to_is_sent_every_interval_until_sigterm(listener: zmq.Socket[bytes]) -> None:
    listener.subscribe(wire_topic("cpu.usage"))
    endpoint = listener.getsockopt_string(zmq.LAST_ENDPOINT)
    with subprocess.Popen([PROGRAM, "--endpoint", endpoint, "--interval", "0.1"], stderr=subprocess.DEVNULL) as running:
        try:
            events = []
            while len(events) < 5:
                message = decode_message(listener.recv_multipart())
                assert message.topic == "cpu.usage"
                assert message.header.service == "sysmon"
                events += list(message.events())
            running.send_signal(signal.SIGTERM)
            stopping = time.monotonic()
            code = running.wait(DEADLINE_S)
            took_s = time.monotonic() - stopping
        finally:
            running.kill()

    assert "utilization" in bson.decode(events[0].data)["system"]["cpu"]
    assert 0.4 < (events[4].ts_ms - events[0].ts_ms) / 1000 / 4 / 0.1 < 6  # by default it would be 10
    assert code == 0
    assert took_s < 10  # at once, and what a busy machine adds


def test_once_says_that_no_router_answered(listener: zmq.Socket[bytes]) -> None:
    endpoint = listener.getsockopt_string(zmq.LAST_ENDPOINT)
    listener.unbind(endpoint)

    done = sysmon("--once", "--interval", "0.1", "--endpoint", endpoint)

    assert done.returncode == 1
    assert f"no router answered at {endpoint}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--topic", "cpu.usages"), "did you mean 'cpu.usage'?"),
        (("--interval", "0"), "sysmon.interval_s: 0.0 is too small"),
        (("--processes", "many"), "sysmon.processes: 'many' is not a whole number"),
        (("--endpoint", "localhost"), "'localhost' is no endpoint"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], told: str) -> None:
    done = sysmon(*arguments)

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with subprocess.Popen(
        [PROGRAM, "--print", "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.readline()
        running.stdout.close()
        code = running.wait(DEADLINE_S)
        told = running.stderr.read()

    assert code == 0
    assert len(told.splitlines()) == 1
