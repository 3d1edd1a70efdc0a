"""Lines that were made to break a parser: none takes more than linear time, or raises anything else than it may.

The lines have the longest size that is read, so what takes quadratic time would take minutes here, and the tests have a
deadline.
"""

from __future__ import annotations

import contextlib
import math
import random
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import bson
import psutil
import pytest

from eventstorm_integrations.logs.event import Event, Parser, Remembering, Unparsed
from eventstorm_integrations.logs.nginx import NginxParser
from eventstorm_integrations.logs.postfix import PostfixParser
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.sshd import SshdParser

from .following import DEADLINE_S, Running

NOW_S = 1_790_000_000.0
SIZE = LogsSettings().max_line_bytes
PIECES = [
    *(
        " ",
        '"',
        "\\",
        "a",
        "a ",
        ": ",
        ", ",
        "<",
        ">",
        "[",
        "]",
        "(",
        " from ",
        " for ",
        "; from=<",
        " port 1",
        "=",
        "/",
        "1",
    ),
    *(
        "\\x22",
        '\\"',
        ".",
        "é",
        "\t",
        "to=<a>, ",
        "client=a[b], ",
        "<a>: ",
        " user ",
        "]: ",
        "::",
        "{",
        '{"a":',
        "%",
        "0,",
    ),
    *(", client: ", ' "GET / HTTP/1.1" 200', " HTTP/1.1", "?", "- ", " : ", " [preauth]"),
]
SYSLOG = "Jun  1 12:00:00 host "
SSHD = [
    *(
        "",
        "Accepted password for ",
        "Failed password for invalid user ",
        "Invalid user ",
        "User ",
        "Connection closed by ",
    ),
    *("Disconnected from user ", "error: maximum authentication attempts exceeded for ", "error: PAM: "),
    *("pam_unix(sshd:auth): ", "pam_unix(sshd:session): session ", "message repeated 5 times: [ "),
    *("banner exchange: Connection from ", "Bad protocol version identification '", "ssh_dispatch_run_fatal: "),
    *("Unable to negotiate with ", "drop connection #1 from ", "refused connect from "),
    "message repeated 999 times: [ Failed password for a from 1.2.3.4 port 1 ssh2",
]
POSTFIX = [
    *("", "smtpd[7]: ", "smtpd[7]: connect from ", "smtpd[7]: 4ABCDEF012: client=", "smtpd[7]: lost connection after "),
    *("smtpd[7]: warning: ", "smtpd[7]: NOQUEUE: reject: RCPT from ", "smtpd[7]: disconnect from a[1.2.3.4] "),
    *("smtpd[7]: NOQUEUE: reject: RCPT from a[1.2.3.4]: 554 5.7.1 ", "cleanup[7]: 4ABCDEF012: message-id="),
    *("cleanup[7]: 4ABCDEF012: reject: header ", "cleanup[7]: 4ABCDEF012: milter-reject: END-OF-MESSAGE from "),
    *("qmgr[7]: 4ABCDEF012: from=<", "smtp[7]: 4ABCDEF012: to=<", "smtp[7]: 4ABCDEF012: to=<a>, relay="),
    *('smtp[7]: 4ABCDEF012: to=<"', "bounce[7]: 4ABCDEF012: sender ", "postscreen[7]: PREGREET 1 after 1 from "),
    "smtp[7]: 4ABCDEF012: to=<a>, relay=b, delay=1, delays=1/1/1/1, dsn=2.0.0, status=sent (",
    *("postscreen[7]: ", "pickup[7]: 4ABCDEF012: uid=1 from="),
]
NGINX = [
    *("", "1.2.3.4 - ", "1.2.3.4 - - [", '1.2.3.4 - - [10/Oct/2025:13:55:36 -0700] "'),
    '1.2.3.4 - - [10/Oct/2025:13:55:36 -0700] "GET /',
    '1.2.3.4 - - [10/Oct/2025:13:55:36 -0700] "GET / HTTP/1.1" 200 5 "',
    "2026/01/24 16:33:06 [error] 334#334: ",
    '2026/01/24 16:33:06 [error] 334#334: *338 user "',
    '2026/01/24 16:33:06 [error] 334#334: *338 x, client: 1.2.3.4, server: a, request: "',
    SYSLOG + "nginx: ",
    '<190>1 2026-06-01T12:00:00Z host nginx 7 - [a b="',
]
PREFIXES = {
    "nginx": NGINX,
    "postfix": [f"{SYSLOG}postfix/{text}" for text in POSTFIX],
    "sshd": [SYSLOG, *(f"{SYSLOG}sshd[7]: {text}" for text in SSHD)],
}


def parser(name: str, format: str = "combined") -> Parser:
    settings = LogsSettings(timezone="UTC", format=format, max_transactions=100)
    if name == "nginx":
        return NginxParser(settings)
    return SshdParser(settings) if name == "sshd" else PostfixParser(settings)


def told(parser: Parser, lines: Iterable[str]) -> Iterator[Event]:
    for line in lines:
        with contextlib.suppress(Unparsed):
            yield from parser.feed(line, NOW_S)
    if isinstance(parser, Remembering):
        yield from parser.expire(math.inf)


CASES = [(name, prefix) for name, prefixes in PREFIXES.items() for prefix in prefixes]


@pytest.mark.parametrize(("name", "prefix"), CASES)
def test_a_line_of_hostile_pieces_takes_linear_time(name: str, prefix: str) -> None:
    chance = random.Random(0)
    reader = parser(name)
    for _ in told(reader, (prefix + piece * ((SIZE - len(prefix)) // len(piece)) for piece in PIECES)):
        pass
    # Two pieces in turn, and all in any order.
    for _ in range(20):
        pieces = chance.choices(PIECES, k=chance.choice([2, 2, 3, 10]))
        line = prefix + "".join(pieces) * (SIZE // len("".join(pieces)))
        for _ in told(reader, [line]):
            pass


@pytest.mark.parametrize("format", ["main", "ingress", "json", "$upstream_addr $upstream_status $http_a $request"])
def test_lines_of_other_formats_take_linear_time(format: str) -> None:
    reader = parser("nginx", format)
    for begin in ("", "a ", "{", '1.2.3.4 - - [10/Oct/2025:13:55:36 -0700] "GET / HTTP/1.1" 200 5 "'):
        for _ in told(reader, (begin + piece * (SIZE // len(piece)) for piece in PIECES)):
            pass


@pytest.mark.parametrize("name", PREFIXES)
def test_any_garbage_gives_events_that_can_be_sent_or_a_reason(name: str) -> None:
    chance = random.Random(1)
    reader = parser(name)
    characters = "".join(chr(each) for each in range(32, 127)) + "\t\0é€😀\u2028"

    def lines() -> Iterator[str]:
        for _ in range(20_000):
            begin = chance.choice(PREFIXES[name])
            middle = "".join(chance.choices(PIECES, k=chance.randint(0, 8)))
            end = "".join(chance.choices(characters, k=chance.randint(0, 30)))
            yield chance.choice([begin + middle, begin + end, begin + middle + end, middle + end])

    for event in told(reader, lines()):
        assert isinstance(event.ts_s, float)
        bson.encode(event.data)


def test_a_users_pattern_that_takes_forever_is_ended_by_a_second_signal(
    tmp_path: Path, follow: Callable[..., Running]
) -> None:
    """The first lets the line be read to its end, which never comes."""
    path = tmp_path / "shop.log"
    running = follow("regex", "--print", "--from-start", "--pattern", "(?P<letters>(a+)+)", str(path))
    path.write_text("aaa\n")
    running.wait(lambda: len(running.events) == 1)
    before_s = _cpu_s(running.process.pid)
    with path.open("a") as file:
        file.write("a" * 60 + "b\n")
    running.wait(lambda: _cpu_s(running.process.pid) > before_s + 1)

    running.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(1)
    running.process.send_signal(signal.SIGTERM)
    exit_code = running.process.wait(DEADLINE_S)
    running.kill()

    assert exit_code == -signal.SIGTERM


def _cpu_s(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system
