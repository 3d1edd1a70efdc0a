"""Syslog over the network: what is sent arrives, in any framing and any pieces, and nothing else gets in."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstorm.errors import SettingError, StartError
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.sshd import SshdParser
from eventstorm_integrations.logs.syslog_socket import SyslogSocket, _Framing

from .following import Running

MOST = 1000
MESSAGE = "<38>Jun  1 12:00:00 host sshd[{}]: Accepted password for ada from 192.0.2.1 port 1 ssh2"


@pytest.fixture
def listen() -> Iterator[Callable[..., tuple[SyslogSocket, int]]]:
    """Open addresses, which are closed after the test."""
    opened: list[SyslogSocket] = []

    def start(protocol: str) -> tuple[SyslogSocket, int]:
        opened.append(SyslogSocket(f"{protocol}://127.0.0.1:0", MOST))
        return opened[-1], int(opened[-1].name.rpartition(":")[2])

    yield start
    for each in opened:
        each.close()


def read(listening: SyslogSocket, count: int) -> list[str]:
    deadline, found = time.monotonic() + 20, []
    while len(found) < count and time.monotonic() < deadline:
        found += listening.read()
    return found


def test_a_datagram_is_one_message_whatever_is_in_it(listen: Callable[..., tuple[SyslogSocket, int]]) -> None:
    listening, port = listen("udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for data in (b"one\n", b"two\nforged\0", b"\xff", b"x" * 2000, b"last"):
            client.sendto(data, ("127.0.0.1", port))

    assert read(listening, 4) == ["one", "two\nforged", "\\xff", "last"]
    assert listening.too_long() == ["x" * 1000]


def test_many_clients_are_heard_at_once_over_tcp(listen: Callable[..., tuple[SyslogSocket, int]]) -> None:
    listening, port = listen("tcp")
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    for number, client in enumerate(clients):
        client.sendall(f"7 <1>a {number:02}".encode() if number % 2 else f"<1>a {number:02}\n".encode())
        client.close()

    assert sorted(read(listening, 20)) == [f"<1>a {number:02}" for number in range(20)]
    deadline = time.monotonic() + 20
    while listening._connections and time.monotonic() < deadline:
        listening.read()
    assert not listening._connections


@given(st.lists(st.tuples(st.booleans(), st.text("ab <>1 é", min_size=1, max_size=30))), st.randoms())
def test_messages_come_out_as_they_were_framed_in_pieces_of_any_size(
    messages: list[tuple[bool, str]], chance: random.Random
) -> None:
    texts = [f"<1>{text}" for _, text in messages]
    data = b"".join(
        f"{len(text.encode())} {text}".encode() if counted else f"{text}\n".encode()
        for (counted, _), text in zip(messages, texts, strict=True)
    )
    framing, found, at = _Framing(MOST, []), [], 0
    while at < len(data):
        size = chance.randint(1, 20)
        found += framing.feed(data[at : at + size])
        at += size

    assert found == texts
    assert not framing.broken


def test_messages_that_are_too_long_are_counted_and_those_after_them_are_read() -> None:
    too_long: list[str] = []
    framing = _Framing(MOST, too_long)
    data = b"3000 " + b"y" * 3000 + b"2 ok" + b"<" + b"z" * 3000 + b"\n<1>fine\n"
    found = [message for at in range(0, len(data), 7) for message in framing.feed(data[at : at + 7])]

    assert found == ["ok", "<1>fine"]
    assert [each[0] for each in too_long] == ["y", "<"]


@pytest.mark.parametrize("data", [b"99999999999 x", b"12345678901234", b"12x4 abc"])
def test_a_framing_that_is_none_ends_the_connection(data: bytes) -> None:
    framing = _Framing(MOST, [])

    assert framing.feed(data) == []
    assert framing.broken


@given(st.lists(st.binary(max_size=50)))
def test_no_bytes_break_it_or_stay_in_memory(pieces: list[bytes]) -> None:
    framing = _Framing(MOST, [])
    for piece in pieces:
        framing.feed(piece)
        assert len(framing._data) <= MOST + 50


@pytest.mark.parametrize("piece", [b"1 x", b"x\n", b"\n", b"0 "])
def test_messages_of_no_length_take_linear_time(piece: bytes) -> None:
    # In quadratic time, this many in one piece would take minutes.
    framing = _Framing(MOST, [])
    data = piece * (4 * 2**20 // len(piece))
    found = framing.feed(data)

    assert len(found) == (len(data) // len(piece) if b"x" in piece else 0)
    assert not framing._data


def test_addresses_that_others_reach_must_be_permitted() -> None:
    with pytest.raises(SettingError, match="--insecure"):
        SyslogSocket("udp://0.0.0.0:0", MOST)
    SyslogSocket("udp://0.0.0.0:0", MOST, insecure=True).close()


@pytest.mark.parametrize(
    "address", ["", "udp://127.0.0.1", "http://127.0.0.1:1", "tcp://127.0.0.1:99999", "tcp://:::5"]
)
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(SettingError, match="is no address"):
        SyslogSocket(address, MOST)


def test_an_address_that_is_taken_is_told(listen: Callable[..., tuple[SyslogSocket, int]]) -> None:
    _, port = listen("udp")
    with pytest.raises(StartError, match="cannot listen"):
        SyslogSocket(f"udp://127.0.0.1:{port}", MOST)


def test_messages_become_events_and_bad_ones_are_counted(follow: Callable[..., Running]) -> None:
    running = follow("sshd", "--print", "--syslog", "udp://127.0.0.1:0", "--syslog", "tcp://127.0.0.1:0")
    udp, tcp = (
        int(each.partition(",")[0].rpartition(":")[2]) for each in running.ready.partition(", for")[0].split(" and ")
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for number in range(100):
            client.sendto(MESSAGE.format(number).encode(), ("127.0.0.1", udp))
        client.sendto(b"nonsense", ("127.0.0.1", udp))
    with socket.create_connection(("127.0.0.1", tcp)) as connection:
        connection.sendall("".join(f"{MESSAGE.format(number)}\n" for number in range(100, 200)).encode())
    running.wait(lambda: len(running.events) >= 201)
    running.stop()

    logins = [event["data"]["process"]["pid"] for event in running.events if event["topic"] == "ssh.login"]
    assert sorted(logins) == list(range(200))
    assert [event["data"]["reason"] for event in running.events if event["topic"] == "log.unparsed"] == [
        "syslog prefix"
    ]


@pytest.mark.parametrize("form", ["--rfc3164", "--rfc5424"])
@pytest.mark.parametrize("way", ["udp", "tcp", "tcp --octet-count"])
def test_what_logger_sends_is_read_in_each_of_its_forms(
    listen: Callable[..., tuple[SyslogSocket, int]], way: str, form: str
) -> None:
    program = shutil.which("logger")
    if program is None:
        pytest.skip("logger, of util-linux, is not installed")
    listening, port = listen(way[:3])
    before_s = time.time()
    for number in range(3):
        command = [
            program,
            *f"--{way}".split(),
            "-n",
            "127.0.0.1",
            "-P",
            str(port),
            form,
            "-p",
            "auth.info",
            "--id=42",
            "-t",
            "sshd",
        ]
        subprocess.run(
            [*command, f"Accepted password for ada from 192.0.2.{number} port 1 ssh2"], check=True, timeout=30
        )

    lines = read(listening, 3)
    parser = SshdParser(LogsSettings())
    events = [event for line in lines for event in parser.feed(line, time.time()) if event.topic == "ssh.login"]
    assert [event.data["client"]["address"] for event in events] == [f"192.0.2.{number}" for number in range(3)]
    assert [event.data["process"]["pid"] for event in events] == [42] * 3
    assert all(before_s - 2 <= event.ts_s <= time.time() for event in events)
