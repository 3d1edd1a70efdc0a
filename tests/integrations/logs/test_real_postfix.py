"""A real Postfix, driven by real clients: the events equal what the clients did, one for one."""

from __future__ import annotations

import json
import os
import re
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .following import PROGRAM, Running
from .postfix_server import Postfix, queued, running_postfix, told, transactions
from .servers import program, wait

pytestmark = pytest.mark.servers


@pytest.fixture
def postfix(open_path: Path, request: pytest.FixtureRequest) -> Iterator[Postfix]:
    """A running Postfix."""
    with running_postfix(open_path, long_ids=getattr(request, "param", "no")) as started:
        yield started


def send_all_kinds(postfix: Postfix) -> None:
    """Send messages of all kinds, and note what must become of them."""
    expect, mail = postfix.expect, postfix.mail
    expect(mail("a_relay"), "sent", a_relay="sent")
    expect(mail("a_lmtp", "b_lmtp"), "sent", a_lmtp="sent", b_lmtp="sent")
    expect(mail("bad_relay"), "bounced", bad_relay="bounced")
    expect(mail("a_box", "bad_relay"), "partial", a_box="sent", bad_relay="bounced")
    expect(mail("alias_box"), "sent", first_box="sent", second_relay="sent")
    expect(mail("x_closed"), "rejected", x_closed="rejected")
    expect(mail("x_nowhere"), "sent", x_nowhere="sent")
    expect(mail("x_other"), "rejected", x_other="rejected")
    expect(mail("b_relay", "refused_relay"), "sent", b_relay="sent", refused_relay="rejected")
    # Before there is a queue id, a refusal is a transaction of its own.
    sender = mail("refused_relay", "b_relay")
    expect(sender, "rejected", refused_relay="rejected")
    expect(sender, "sent", b_relay="sent")
    expect(mail("a_relay", subject="spam"), "rejected", a_relay="rejected")
    expect(mail("a_relay", subject="away"), "discarded", a_relay="discarded")
    expect(mail("a_relay", port="proxied"), "sent", a_relay="sent")
    expect(mail("second-try-1_relay", "a_relay"), "sent", **{"second-try-1_relay": "sent", "a_relay": "sent"})
    expect(mail("later_relay"), "expired", later_relay="expired")
    expect(mail("a_box", subject="hold"), "sent", a_box="sent")
    (released,) = queued(postfix, "hold")
    postfix.command("postsuper", "-H", released)
    postfix.command("postqueue", "-i", released)  # else it may wait until it is too old
    expect(mail("a_box", subject="hold"), "deleted")
    (held,) = queued(postfix, "hold")
    postfix.command("postsuper", "-d", held)
    with smtplib.SMTP("127.0.0.1", postfix.ports["smtp"], timeout=30) as client:  # several in one session
        for number in range(3):
            sender = f"same-{number}-{len(postfix.expected)}@here.test"
            client.sendmail(sender, ["a@box.test"], "Subject: one of several\r\n\r\nx\r\n")
            expect(sender, "sent", a_box="sent")
    sender = f"local-{len(postfix.expected)}@here.test"
    postfix.command("sendmail", "-f", sender, "l@relay.test", text="Subject: local\n\nbody\n")
    expect(sender, "sent", l_relay="sent")
    postfix.say(b"EHLO x\r\n", b"MAIL FROM:<cut@here.test>\r\n", b"RCPT TO:<a@relay.test>\r\n", b"DATA\r\n", b"half")
    postfix.say(b"GET / HTTP/1.1\r\n")
    postfix.say(b"EHLO x\r\n", b"VRFY\r\n", b"QUIT\r\n")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("postfix", ["no", "yes"], indirect=True, ids=["short ids", "long ids"])
def test_each_message_is_one_transaction_with_what_became_of_it(
    postfix: Postfix, follow: Callable[..., Running]
) -> None:
    running = follow("postfix", "--print", "--from-start", str(postfix.log))
    send_all_kinds(postfix)
    running.wait(lambda: postfix.has_told(running.events, len(postfix.expected)))
    running.wait(lambda: any(each.get("outcome") == "aborted" for each in transactions(running.events)))
    returned = [sender for sender, outcome, _ in postfix.expected if outcome in ("bounced", "partial", "expired")]
    running.wait(lambda: len(_notifications(running)) >= len(returned))
    running.stop()

    assert sorted(told(running.events)) == sorted(postfix.expected)
    by_sender = {each["from"]: each for each in transactions(running.events) if "from" in each}
    assert not [each for each in transactions(running.events) if each.get("incomplete")]
    ids = [each["message_id"] for each in by_sender.values() if each.get("message_id") and each["outcome"] != "deleted"]
    assert set(ids) >= {
        sender for sender, outcome, _ in postfix.expected if "hello" in sender and outcome != "rejected"
    }
    assert sorted(to["to"] for each in _notifications(running) for to in each["recipients"]) == sorted(returned)
    second = next(each for each in by_sender.values() if len(each["recipients"]) > 1 and _try(each))
    assert _try(second)[0]["deferrals"] == 1
    assert [each["outcome"] for each in transactions(running.events) if "from" not in each] == ["aborted"]
    (rejected,) = [each for each in by_sender.values() if [to["to"] for to in each["recipients"]] == ["x@other.test"]]
    assert (rejected["code"], rejected["dsn"], rejected["helo"]) == (554, "5.7.1", "client.test")


def _notifications(running: Running) -> list[dict[str, Any]]:
    return [each for each in transactions(running.events) if each.get("notification_for")]


def _try(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [to for to in message["recipients"] if to["to"].startswith("second-try")]


@pytest.mark.timeout(180)
def test_the_totals_are_those_of_pflogsumm(postfix: Postfix) -> None:
    for _ in range(3):
        send_all_kinds(postfix)
    wait(lambda: postfix.hurry() or not queued(postfix), "an empty queue")
    summary = subprocess.run([program("pflogsumm"), postfix.log], capture_output=True, text=True, check=True).stdout
    done = subprocess.run(
        [PROGRAM, "postfix", "--once", "--print", postfix.log], capture_output=True, text=True, check=True
    )

    told = transactions([json.loads(line) for line in done.stdout.splitlines()])
    recipients = [to for each in told for to in each["recipients"]]
    ours = {
        # What Postfix itself sends, such as notifications, nobody gave to it. And what passes a filter in front of the
        # queue, pflogsumm counts twice: when the client gives it to Postfix, and when the filter does.
        "received": sum("queue_id" in each and ("client" in each or "uid" in each) for each in told)
        + sum("proxy" in each for each in told),
        "delivered": sum(to["status"] == "sent" for to in recipients),
        "forwarded": sum("forwarded_as" in to for to in recipients),
        "deferrals": sum(to.get("deferrals", 0) for to in recipients),
        "deferred": sum(any("deferrals" in to for to in each["recipients"]) for each in told),
        "bounced": sum(to["status"] == "bounced" for to in recipients),
        "rejected": sum(to["status"] == "rejected" for to in recipients),
        "held": sum("held" in each for each in told),
        "discarded": sum(each["outcome"] == "discarded" for each in told),
    }
    theirs = {name: int(re.findall(rf"(\d+) +{name}\b", summary)[0]) for name in ours}
    assert ours == theirs


@pytest.mark.timeout(180)
def test_messages_are_told_once_through_rotation_truncation_and_restarts(
    postfix: Postfix, follow: Callable[..., Running]
) -> None:
    events: list[dict[str, Any]] = []
    running = follow("postfix", "--print", "--from-start", str(postfix.log))
    sender = postfix.mail("later_relay")
    running.wait(lambda: "status=deferred" in postfix.log.read_text())
    # It is remembered over a restart, and over the rotation that comes meanwhile; Postfix's own compresses at once.
    running.stop()
    postfix.expect(sender, "expired", later_relay="expired")
    postfix.expect(postfix.mail("a_relay"), "sent", a_relay="sent")
    postfix.command("postfix", "logrotate")
    wait(lambda: list(postfix.log.parent.glob("mail.log.*.gz")), "the log is rotated")
    postfix.expect(postfix.mail("b_relay"), "sent", b_relay="sent")
    events += running.events
    running = follow("postfix", "--print", str(postfix.log))
    running.wait(lambda: len(told(events + running.events)) >= 2)
    postfix.expect(postfix.mail("c_relay"), "sent", c_relay="sent")
    running.wait(lambda: len(told(events + running.events)) >= 3)
    shutil.copy2(postfix.log, f"{postfix.log}.1")
    os.truncate(postfix.log, 0)
    postfix.expect(postfix.mail("d_relay"), "sent", d_relay="sent")
    running.wait(lambda: postfix.has_told(events + running.events, 5))
    running.stop()
    events += running.events

    assert sorted(told(events)) == sorted(postfix.expected)
    expired = next(each for each in transactions(events) if each["outcome"] == "expired")
    assert expired["recipients"][0]["deferrals"] > 1
    assert not [each for each in transactions(events) if each.get("incomplete")]


def test_a_client_that_speaks_first_is_a_session_and_one_that_waits_is_let_through(
    postfix: Postfix, follow: Callable[..., Running]
) -> None:
    running = follow("postfix", "--print", "--from-start", str(postfix.log))
    with socket.create_connection(("127.0.0.1", postfix.ports["screened"]), timeout=30) as connection:
        connection.sendall(b"EHLO early\r\n")
        connection.recv(65536)
    running.wait(lambda: _reasons(running, "PREGREET"))
    postfix.expect(postfix.mail("a_relay", port="screened"), "sent", a_relay="sent")
    running.wait(lambda: len(told(running.events)) == 1)
    running.stop()

    assert told(running.events) == postfix.expected
    (session,) = _reasons(running, "PREGREET")
    assert session["client"]["address"] == "127.0.0.1"
    assert session["command"].startswith("EHLO early")


def _reasons(running: Running, word: str) -> list[dict[str, Any]]:
    data = [event["data"] for event in running.events if event["topic"] == "smtp.session"]
    return [each for each in data if word in each.get("reason", "")]
