"""A real Postfix, driven by real clients: the events equal what the clients did, one for one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .following import PROGRAM, Running
from .mail_sink import mail_sink
from .servers import answers, free_ports, needs_root, program, running, wait

pytestmark = pytest.mark.servers

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
myhostname = mx.test
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
notify_classes =
smtp_host_lookup = native
default_transport = smtp:[127.0.0.1]:{sink}
relay_domains = relay.test, lmtp.test, closed.test, nowhere.test
relay_transport = smtp:[127.0.0.1]:{sink}
virtual_mailbox_domains = box.test
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:all
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_alias_maps = inline:{{ {{ alias@box.test = first@box.test, second@relay.test }} }}
transport_maps = inline:{{ {{ lmtp.test = lmtp:inet:127.0.0.1:{sink} }} {{ closed.test = error:5.7.1 closed }}
    {{ nowhere.test = discard:gone }} }}
header_checks = regexp:{{ {{ /^Subject: spam/ REJECT no spam here }} {{ /^Subject: away/ DISCARD unwanted }}
    {{ /^Subject: hold/ HOLD look at it }} }}
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{ refused@relay.test = REJECT not welcome }} }}
smtpd_authorized_xforward_hosts = 127.0.0.1
enable_long_queue_ids = {long_ids}
queue_run_delay = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 2s
maximal_queue_lifetime = 10s
bounce_queue_lifetime = 10s
message_size_limit = 100000
"""
SMTPD = """
127.0.0.1:{smtp} inet n - n - - smtpd
127.0.0.1:{proxied} inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:{smtp}
127.0.0.1:{screened} inet n - n - 1 postscreen -o postscreen_greet_action=enforce -o postscreen_greet_wait=1s
smtpd pass - - n - - smtpd
"""

Told = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass
class Postfix:
    """A running Postfix, and what must become of what was sent to it: sender, outcome, recipients with theirs."""

    folder: Path
    smtp: int
    proxied: int
    screened: int
    expected: list[Told] = field(default_factory=list)
    hurried_at_s: float = field(default_factory=time.monotonic)

    @property
    def log(self) -> Path:
        return self.folder / "log/mail.log"

    def command(self, name: str, *arguments: str, text: str = "") -> None:
        option = "-C" if name == "sendmail" else "-c"
        subprocess.run(
            [program(name), option, str(self.folder / "conf"), *arguments],
            input=text,
            text=True,
            check=True,
            capture_output=True,
            timeout=30,
        )

    def expect(self, sender: str, outcome: str, **statuses: str) -> None:
        """Note what a message must become; recipients' names are in one word: a_relay for a@relay.test."""
        named = tuple(sorted((name.replace("_", "@") + ".test", status) for name, status in statuses.items()))
        self.expected.append((sender, outcome, named))

    def mail(self, *names: str, port: int = 0, subject: str = "hello") -> str:
        """Send a message as a new sender, and return the sender; refusals are the business of the caller."""
        sender = f"{len(self.expected)}-{subject}@here.test"
        text = f"Message-ID: <{sender}>\r\nSubject: {subject}\r\n\r\nhello\r\n"
        with (
            smtplib.SMTP("127.0.0.1", port or self.smtp, local_hostname="client.test", timeout=30) as client,
            contextlib.suppress(smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError),
        ):
            client.sendmail(sender, [name.replace("_", "@") + ".test" for name in names], text)
        return sender

    def hurry(self) -> None:
        """Have deferred messages tried again: Postfix leaves one for long if it looks at it while it is delivered."""
        if time.monotonic() > self.hurried_at_s + 4:
            self.hurried_at_s = time.monotonic()
            self.command("postqueue", "-f")

    def has_told(self, events: list[dict[str, Any]], count: int) -> bool:
        """Tell whether of so many messages it is known what became of them."""
        self.hurry()
        return len(told(events)) >= count

    def say(self, *lines: bytes, port: int = 0) -> None:
        """Say lines without any manners, each after the server has answered the one before, and leave."""
        with socket.create_connection(("127.0.0.1", port or self.smtp), timeout=30) as connection:
            for line in lines:
                connection.recv(65536)
                connection.sendall(line)


@pytest.fixture
def postfix(open_path: Path, request: pytest.FixtureRequest) -> Iterator[Postfix]:
    """A running Postfix with a configuration, a queue and a log of its own."""
    needs_root()
    folder = open_path / "postfix"
    for name in ("conf", "queue", "data", "mail", "log"):
        (folder / name).mkdir(parents=True)
    shutil.chown(folder / "data", "postfix")
    shutil.chown(folder / "mail", "nobody")
    long_ids = getattr(request, "param", "no")
    command = [program("postfix"), "-c", str(folder / "conf"), "start-fg"]
    with mail_sink() as sink, contextlib.ExitStack() as stack:
        (folder / "conf/main.cf").write_text(MAIN.format(folder=folder, sink=sink, long_ids=long_ids))
        for _ in range(3):  # somebody else may take a port that was free
            ports = dict(zip(("smtp", "proxied", "screened"), free_ports(3), strict=True))
            (folder / "conf/master.cf").write_text(_master(ports))
            process = stack.enter_context(running(command, folder / "output", signal.SIGTERM))
            _await_start(process, ports["smtp"])
            if process.poll() is None:
                break
        made = Postfix(folder, **ports)
        assert process.poll() is None, (folder / "output").read_text() + made.log.read_text()
        yield made
        with contextlib.suppress(subprocess.CalledProcessError):
            made.command("postfix", "stop")


def _await_start(process: subprocess.Popen[bytes], port: int) -> None:
    wait(lambda: process.poll() is not None or answers(port), "Postfix listens, or has ended")


def _master(ports: dict[str, int]) -> str:
    """Return Debian's master.cf with ports of the test's own and without a chroot."""
    master = Path("/etc/postfix/master.cf").read_text()
    master = re.sub(r"(?m)^smtp +inet .*$", SMTPD.format(**ports), master, count=1)
    master = re.sub(r"(?m)^(\S+ +\S+ +\S+ +\S+ +)y ", r"\1n ", master)
    return master if "postlogd" in master else master + "postlog unix-dgram n - n - 1 postlogd\n"


def _queued(postfix: Postfix, *queues: str) -> list[str]:
    """Return the ids of messages in queues, by default all that are under way."""
    folders = [postfix.folder / "queue" / name for name in queues or ("maildrop", "incoming", "active", "deferred")]
    return [path.name for folder in folders for path in folder.rglob("*") if path.is_file()]


def transactions(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["topic"] == "smtp.transaction"]


def told(events: list[dict[str, Any]]) -> list[Told]:
    """Return of each message what `Postfix.expected` has; without notifications, which nobody sent."""
    return [
        (each["from"], each["outcome"], tuple(sorted((to["to"], to["status"]) for to in each["recipients"])))
        for each in transactions(events)
        if each.get("from")
    ]


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
    expect(mail("a_relay", port=postfix.proxied), "sent", a_relay="sent")
    expect(mail("second-try-1_relay", "a_relay"), "sent", **{"second-try-1_relay": "sent", "a_relay": "sent"})
    expect(mail("later_relay"), "expired", later_relay="expired")
    expect(mail("a_box", subject="hold"), "sent", a_box="sent")
    (released,) = _queued(postfix, "hold")
    postfix.command("postsuper", "-H", released)
    postfix.command("postqueue", "-i", released)  # else it may wait until it is too old
    expect(mail("a_box", subject="hold"), "deleted")
    (held,) = _queued(postfix, "hold")
    postfix.command("postsuper", "-d", held)
    with smtplib.SMTP("127.0.0.1", postfix.smtp, timeout=30) as client:  # several in one session
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
    wait(lambda: postfix.hurry() or not _queued(postfix), "an empty queue")
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
    with socket.create_connection(("127.0.0.1", postfix.screened), timeout=30) as connection:
        connection.sendall(b"EHLO early\r\n")
        connection.recv(65536)
    running.wait(lambda: _reasons(running, "PREGREET"))
    postfix.expect(postfix.mail("a_relay", port=postfix.screened), "sent", a_relay="sent")
    running.wait(lambda: len(told(running.events)) == 1)
    running.stop()

    assert told(running.events) == postfix.expected
    (session,) = _reasons(running, "PREGREET")
    assert session["client"]["address"] == "127.0.0.1"
    assert session["command"].startswith("EHLO early")


def _reasons(running: Running, word: str) -> list[dict[str, Any]]:
    data = [event["data"] for event in running.events if event["topic"] == "smtp.session"]
    return [each for each in data if word in each.get("reason", "")]
