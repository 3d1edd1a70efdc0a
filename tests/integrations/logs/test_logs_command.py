"""``eventstorm logs`` as a process."""

from __future__ import annotations

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
import zmq

from eventstorm.wire import decode_message

from .following import DEADLINE_S, PROGRAM, Running

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def hit(number: int) -> str:
    return f'192.0.2.1 - - [01/Jun/2026:12:00:{number % 60:02} +0000] "GET /{number} HTTP/1.1" 200 5 "-" "curl"\n'


def logs(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_lines_are_followed_through_rotation_and_a_restart_and_each_is_told_once(
    tmp_path: Path, follow: Callable[..., Running]
) -> None:
    path = tmp_path / "access.log"
    first = follow("nginx", "--print", str(path))
    assert first.ready.startswith("eventstorm logs: ready: ")
    path.write_text(hit(0) + hit(1))
    first.wait(lambda: len(first.paths()) == 2)
    path.rename(tmp_path / "access.log.1")
    path.write_text(hit(2))
    first.wait(lambda: len(first.paths()) == 3)
    first.stop()

    with path.open("a") as file:
        file.write(hit(3))
    path.rename(tmp_path / "access.log.2")
    (tmp_path / "access.log.1").unlink()
    path.write_text(hit(4))
    second = follow("nginx", "--print", str(path))
    second.wait(lambda: len(second.paths()) == 2)
    second.stop(signal.SIGINT)

    assert first.paths() + second.paths() == [f"/{number}" for number in range(5)]
    assert first.events[0]["ts"] == {"$date": "2026-06-01T12:00:00.000Z"}


def test_files_that_a_pattern_finds_later_are_read_from_their_begin_and_rotated_ones_never_twice(
    tmp_path: Path, follow: Callable[..., Running]
) -> None:
    (tmp_path / "a.log").write_text(hit(0))
    (tmp_path / "a.log.1").write_text(hit(9))
    running = follow("nginx", "--print", str(tmp_path / "*.log*"))
    (tmp_path / "b.log").write_text(hit(1))
    (tmp_path / "link.log").symlink_to(tmp_path / "b.log")
    running.wait(lambda: len(running.paths()) == 1)
    with (tmp_path / "a.log").open("a") as file:
        file.write(hit(2))
    running.wait(lambda: len(running.paths()) == 2)
    running.stop()

    assert running.paths() == ["/1", "/2"]


def test_bad_lines_are_counted_by_reason_and_sampled(tmp_path: Path, follow: Callable[..., Running]) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"garbage\n" * 3 + os.urandom(1000).replace(b"\n", b"") + b"\n" + b"x" * 100_000 + b"\n")
    running = follow("nginx", "--print", "--from-start", str(path))
    running.wait(lambda: len(running.events) >= 2)
    running.stop()

    told = {event["data"]["reason"]: event["data"] for event in running.events}
    assert {event["topic"] for event in running.events} == {"log.unparsed"}
    assert told["access format"]["count"] == 4
    assert told["access format"]["log"] == {"file": {"path": str(path)}}
    assert told["too long"]["count"] == 1
    assert told["too long"]["line"] == "x" * 1000


def test_two_processes_cannot_follow_one_file_with_the_same_positions(
    tmp_path: Path, follow: Callable[..., Running]
) -> None:
    follow("sshd", "--print", str(tmp_path / "auth.log"))

    done = logs("sshd", "--print", "--state", str(tmp_path / "state"), str(tmp_path / "auth.log"))

    assert done.returncode == 3
    assert "another process follows" in done.stderr


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("".join(map(hit, range(20_000))))
    command = [PROGRAM, "nginx", "--print", "--once", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(DEADLINE_S) == 0
        assert running.stderr.read() == ""


def test_what_json_has_no_numbers_for_is_printed_as_extended_json(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text('{"a": NaN, "b": [1e999], "c": 1}\n')

    done = logs("json", "--once", "--print", str(tmp_path / "a.log"))

    assert json.loads(done.stdout, parse_constant=pytest.fail)["data"] == {
        "a": {"$numberDouble": "NaN"},
        "b": [{"$numberDouble": "Infinity"}],
        "c": 1,
    }


def test_once_reads_all_of_a_log_in_order_and_says_what_it_read(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(hit(2) + "garbage\n" + hit(3).strip())
    (tmp_path / "access.log.1").write_text(hit(1))
    (tmp_path / "access.log.2.gz").write_bytes(gzip.compress(hit(0).encode()))
    for age, name in enumerate(["access.log", "access.log.1", "access.log.2.gz"]):
        os.utime(tmp_path / name, (2_000_000_000 - age, 2_000_000_000 - age))

    done = logs("nginx", "--once", "--print", str(tmp_path / "access.log*"))

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["data"]["url"]["path"] for event in events if event["topic"] == "http.hit"] == [
        f"/{number}" for number in range(4)
    ]
    assert done.returncode == 0
    assert "5 lines, 5 events; 1 lines could not be read: 1 access format" in done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_broken_off_takes_no_half_line_for_one_and_says_so(number: int, tmp_path: Path) -> None:
    command = [PROGRAM, "json", "--once", "--print", "-"]
    with (
        (tmp_path / "printed").open("w+") as printed,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=printed, stderr=subprocess.PIPE, bufsize=0) as running,
    ):
        assert running.stdin
        assert running.stderr
        running.stdin.write(b'{"n": 1}\n' * 50_000)  # a pipe does not hold so much, so it is being read
        running.stdin.write(b'{"n": 2}')
        running.send_signal(number)
        assert running.wait(DEADLINE_S) == 1
        assert b": broken off, so not all was read or sent" in running.stderr.read()
        printed.seek(0)
        assert {json.loads(line)["data"]["n"] for line in printed} <= {1}


def test_once_shows_a_progress_bar_to_people(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("".join(map(hit, range(20_000))))
    ours, theirs = pty.openpty()
    shown = bytearray()
    try:
        with subprocess.Popen(
            [PROGRAM, "nginx", "--once", "--print", str(tmp_path / "access.log")],
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
        ) as running:
            os.close(theirs)
            while True:
                try:
                    data = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                if not data:
                    break
                shown += data
            assert running.wait(DEADLINE_S) == 0
    finally:
        os.close(ours)

    assert b"access.log" in shown
    assert "━".encode() in shown


def test_once_tells_of_files_that_are_damaged_or_missing(tmp_path: Path) -> None:
    whole = gzip.compress("".join(map(hit, range(1000))).encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])

    damaged = logs("nginx", "--once", "--print", str(tmp_path / "cut.gz"))
    missing = logs("nginx", "--once", "--print", str(tmp_path / "nowhere.log"))

    assert damaged.returncode == 1
    assert "cut.gz: damaged: " in damaged.stderr
    assert missing.returncode == 3
    assert "nowhere.log: No such file" in missing.stderr


@pytest.mark.parametrize(("name", "pack"), [("a.gz", gzip.compress), ("a.zst", zstd.compress)])
def test_once_reads_all_that_is_before_the_damage_and_the_other_files(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(pack((hit(0) + hit(1)).encode()) + b"garbage")
    (tmp_path / "b.log").write_text(hit(2))

    done = logs("nginx", "--once", "--print", str(tmp_path / name), str(tmp_path / "b.log"))

    told = [json.loads(line)["data"]["url"]["path"] for line in done.stdout.splitlines()]
    assert told == ["/0", "/1", "/2"]
    assert done.returncode == 1
    assert f"{tmp_path / name}: damaged: " in done.stderr
    assert "; 2 lines before that were read" in done.stderr


@pytest.fixture
def listener() -> Iterator[zmq.Socket[bytes]]:
    """Return a socket that subscribes to everything, to be bound as a router would be."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.rcvtimeo = DEADLINE_S * 1000
        subscriber.subscribe(b"")
        subscriber.bind("tcp://127.0.0.1:0")
        yield subscriber


def received(listener: zmq.Socket[bytes], count: int) -> list[tuple[str, int, dict[str, Any]]]:
    found: list[tuple[str, int, dict[str, Any]]] = []
    while len(found) < count:
        message = decode_message(listener.recv_multipart())
        found += [(message.topic, event.ts_ms, bson.decode(event.data)) for event in message.events()]
    return found


def test_events_are_published_as_of_the_time_of_their_lines(
    tmp_path: Path, follow: Callable[..., Running], listener: zmq.Socket[bytes]
) -> None:
    path = tmp_path / "access.log"
    path.write_text("".join(map(hit, range(50))))
    running = follow("nginx", "--from-start", "--endpoint", listener.getsockopt_string(zmq.LAST_ENDPOINT), str(path))
    events = received(listener, 50)
    running.stop()

    assert [data["url"]["path"] for _, _, data in events] == [f"/{number}" for number in range(50)]
    assert [ts_ms for _, ts_ms, _ in events] == [1_780_315_200_000 + 1000 * number for number in range(50)]
    assert {topic for topic, _, _ in events} == {"http.hit"}


def test_lines_that_no_router_took_are_read_again_by_the_next_run(
    tmp_path: Path, follow: Callable[..., Running], listener: zmq.Socket[bytes]
) -> None:
    endpoint = listener.getsockopt_string(zmq.LAST_ENDPOINT)
    path = tmp_path / "access.log"
    path.write_text(hit(0))
    listener.unbind(endpoint)
    first = follow("nginx", "--from-start", "--endpoint", endpoint, str(path))
    first.stop()
    listener.bind(endpoint)
    second = follow("nginx", "--from-start", "--endpoint", endpoint, str(path))
    events = received(listener, 1)
    with path.open("a") as file:
        file.write(hit(1))
    events += received(listener, 1)
    second.stop()

    assert [data["url"]["path"] for _, _, data in events] == ["/0", "/1"]


def test_a_large_log_is_sent_whole_though_it_is_larger_than_the_buffer(
    tmp_path: Path, listener: zmq.Socket[bytes]
) -> None:
    path = tmp_path / "access.log"
    path.write_text("".join(map(hit, range(60_000))))
    endpoint = listener.getsockopt_string(zmq.LAST_ENDPOINT)
    with subprocess.Popen(
        [PROGRAM, "nginx", "--once", "--endpoint", endpoint, str(path)],
        env={**os.environ, "EVENTSTORM_BUFFER_BYTES": "1048576"},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        events = received(listener, 60_000)
        _, said = running.communicate(timeout=DEADLINE_S)

    assert [data["url"]["path"] for _, _, data in events] == [f"/{number}" for number in range(60_000)]
    assert running.returncode == 0
    assert "60000 lines, 60000 events" in said


def entry(program: str, message: str, number: int) -> str:
    """Return a line as ``journalctl -o json`` writes it."""
    fields = {
        "__CURSOR": f"s=1;i={number}",
        "__REALTIME_TIMESTAMP": str(1_780_315_200_000_000 + number),
        "_HOSTNAME": "host",
        "SYSLOG_IDENTIFIER": program,
        "_PID": "42",
        "MESSAGE": message,
    }
    return json.dumps(fields)


@pytest.mark.parametrize("once", [[], ["--once"]], ids=["follow", "once"])
def test_the_journal_is_read_from_standard_input_until_it_ends(once: list[str], tmp_path: Path) -> None:
    journal = [
        entry("sshd", "Accepted password for ada from 192.0.2.1 port 1 ssh2", 1),
        entry("cron", "pam_unix(cron:session): session opened", 2),
        entry("sshd-session", "Failed password for bob from 192.0.2.2 port 2 ssh2", 3),
        "garbage",
    ]
    done = subprocess.run(
        [PROGRAM, "sshd", "--print", *once, "--state", str(tmp_path), "-"],
        input="\n".join(journal),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )

    events = [json.loads(line) for line in done.stdout.splitlines()]
    logins = [event for event in events if event["topic"] == "ssh.login"]
    assert [event["data"]["outcome"] for event in logins] == ["accepted", "failed"]
    assert logins[0]["ts"] == {"$date": "2026-06-01T12:00:00.000Z"}
    assert [event["data"]["line"] for event in events if event["topic"] == "log.unparsed"] == ["garbage"]


def test_once_says_that_no_router_answered(tmp_path: Path, listener: zmq.Socket[bytes]) -> None:
    endpoint = listener.getsockopt_string(zmq.LAST_ENDPOINT)
    listener.unbind(endpoint)
    path = tmp_path / "access.log"
    path.write_text(hit(0))

    done = logs("nginx", "--once", "--endpoint", endpoint, str(path))

    assert done.returncode == 1
    assert f"no router answered at {endpoint}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "PROGRAM"),
        (("apache", "x.log"), "invalid choice: 'apache'"),
        (("sshd",), "no files; name some"),
        (("sshd", "--journal", "system", "--once"), "journalctl -o json | eventstorm logs sshd --once -"),
        (("nginx", "--format", "combinde", "x.log"), "did you mean 'combined'?"),
        (("nginx", "--format", "$a$b", "x.log"), "nothing tells where $a ends"),
        (("nginx", "--config", "nowhere.conf"), "nowhere.conf"),
        (("sshd", "--timezone", "Europe/Cuxhaven", "x.log"), "no time zone 'Europe/Cuxhaven'"),
        (("sshd", "--settings", "nowhere.toml", "x.log"), "nowhere.toml"),
        (("sshd", "--endpoint", "localhost", "x.log"), "'localhost' is no endpoint"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], told: str) -> None:
    done = logs(*arguments)

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
