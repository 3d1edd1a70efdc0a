"""The journal is told one for one: entries of a real systemd-journald, read by a real journalctl."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .following import PROGRAM, Running
from .journald import Journald

pytestmark = [pytest.mark.servers, pytest.mark.skipif(os.geteuid() != 0, reason="journald runs as root")]


@pytest.fixture
def journald() -> Iterator[Journald]:
    """A running journald; its folder has a short name, since sockets are in it."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a container without mount namespaces: journald cannot have a /run of its own")
    with tempfile.TemporaryDirectory(prefix="eventstorm-") as folder:
        made = Journald(Path(folder, "run"))
        made.start()
        yield made
        made.stop()


def failed(port: int) -> str:
    return f"Failed password for ann from 192.0.2.7 port {port} ssh2"


def ports(*runs: Running) -> list[int]:
    return [event["data"]["client"]["port"] for run in runs for event in run.events if event["topic"] == "ssh.login"]


def test_entries_are_told_once_through_restarts_of_all_that_takes_part(
    journald: Journald, follow: Callable[..., Running]
) -> None:
    journald.log(failed(1))
    first = follow("sshd", "--print", "--journal", str(journald.journal), "--from-start")
    first.wait(lambda: ports(first) == [1])
    journald.log(failed(2), "noise", failed(3), program="sshd-session")
    journald.log("Failed password for eve from 192.0.2.9 port 9 ssh2", program="cron")
    first.wait(lambda: ports(first) == [1, 2, 3])
    first.stop()

    journald.log(failed(4))
    journald.rotate()
    journald.log(failed(5))
    second = follow("sshd", "--print", "--journal", str(journald.journal))
    second.wait(lambda: ports(second) == [4, 5])
    journald.stop()
    journald.start()
    journald.log(failed(6))
    second.wait(lambda: ports(second) == [4, 5, 6])
    second.stop()

    assert ports(first, second) == [1, 2, 3, 4, 5, 6]


def test_without_a_position_it_begins_with_the_next_entry_and_keeps_to_that(
    journald: Journald, follow: Callable[..., Running]
) -> None:
    journald.log(failed(1))
    look = ["journalctl", "--directory", str(journald.journal), "--lines=1", "--output=cat"]
    deadline = time.monotonic() + 30
    while failed(1) not in subprocess.run(look, capture_output=True, text=True, check=False).stdout:
        assert time.monotonic() < deadline
    first = follow("sshd", "--print", "--journal", str(journald.journal))
    first.stop()
    journald.log(failed(2))
    second = follow("sshd", "--print", "--journal", str(journald.journal))
    second.wait(lambda: ports(second) == [2])
    second.stop()
    assert ports(first, second) == [2]


def test_a_journalctl_that_is_killed_is_started_again_where_it_was(
    journald: Journald, follow: Callable[..., Running]
) -> None:
    running = follow("sshd", "--print", "--journal", str(journald.journal), "--from-start")

    def send() -> None:
        for port in range(1, 1001):
            journald.log(failed(port))
            time.sleep(0.002)  # so that there are entries before and behind the kill

    sender = threading.Thread(target=send)
    sender.start()
    running.wait(lambda: len(ports(running)) > 50)
    child = int(Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGKILL)
    sender.join()
    running.wait(lambda: len(ports(running)) >= 1000)
    assert "journalctl ended with -9" in running.stop()
    assert ports(running) == list(range(1, 1001))


def test_what_postfix_was_in_the_middle_of_is_kept_with_the_cursor(
    journald: Journald, follow: Callable[..., Running]
) -> None:
    first = follow("postfix", "--print", "--journal", str(journald.journal), "--from-start")
    journald.log("4F8B21A0C7: client=a[192.0.2.1]", program="postfix/smtpd")
    journald.log("4F8B21A0C7: message-id=<1@a>", program="postfix/cleanup")
    rejected = "NOQUEUE: reject: RCPT from a[192.0.2.1]: 550 5.1.1 <x@x>: no; from=<a@a> to=<x@x> proto=SMTP helo=<a>"
    journald.log(rejected, program="postfix/smtpd")
    first.wait(lambda: len(first.events) == 1)  # so that what was before it is read
    first.stop()
    second = follow("postfix", "--print", "--journal", str(journald.journal))
    journald.log("4F8B21A0C7: from=<a@a>, size=10, nrcpt=1 (queue active)", program="postfix/qmgr")
    journald.log(
        "4F8B21A0C7: to=<b@b>, relay=none, delay=1, delays=1/0/0/0, dsn=2.0.0, status=sent (ok)", program="postfix/smtp"
    )
    journald.log("4F8B21A0C7: removed", program="postfix/qmgr")
    second.wait(lambda: bool(second.events))
    second.stop()
    (event,) = second.events
    assert event["data"]["client"]["address"] == "192.0.2.1"
    assert event["data"]["message_id"] == "1@a"
    assert "incomplete" not in event["data"]


def test_a_journal_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "sshd", "--print", "--state", str(tmp_path), "--journal", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3
    assert "the journal in" in done.stderr
    assert "cannot be read" in done.stderr
