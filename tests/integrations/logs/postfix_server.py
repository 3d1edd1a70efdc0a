"""A real Postfix for tests, with a configuration, a queue and a log of its own, and what is sent to it noted."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ports import free_port

from .mail_sink import mail_sink
from .servers import answers, needs_root, program, running, wait

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
myhostname = mx.test
mydestination = local.test
local_recipient_maps =
alias_database =
alias_maps = inline:{{ {{ list = a@relay.test, bad@relay.test }} {{ command = |{folder}/deliver }} }}
forward_path = {folder}/forward/$user
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
notify_classes =
smtp_host_lookup = native
default_transport = smtp:[127.0.0.1]:{sink}
relay_domains = relay.test, lmtp.test, pipe.test, closed.test, nowhere.test
relay_transport = smtp:[127.0.0.1]:{sink}
virtual_mailbox_domains = box.test
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:all
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_alias_maps = inline:{{ {{ alias@box.test = first@box.test, second@relay.test }} }}
transport_maps = inline:{{ {{ lmtp.test = lmtp:inet:127.0.0.1:{sink} }} {{ closed.test = error:5.7.1 closed }}
    {{ nowhere.test = discard:gone }} {{ pipe.test = script: }} }}
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
smtpd_error_sleep_time = 0
script_destination_recipient_limit = 1
"""
# Services that listen, by name, each on a port of its own; with the ports of all of them.
SERVICES = {
    "smtp": "inet n - n - - smtpd",
    "proxied": "inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:{smtp}",
    "screened": "inet n - n - 1 postscreen -o postscreen_greet_action=enforce -o postscreen_greet_wait=1s",
}
OTHERS = """smtpd pass - - n - - smtpd
script unix - n n - - pipe flags=Rq user=nobody argv={folder}/deliver ${{user}}
"""
# What a pipe delivers with: the recipient says how it is to end, as in sysexits.h.
DELIVER = """#!/bin/sh
cat >/dev/null
case "$1" in
    later) echo not now; exit 75 ;;
    nobody) echo nobody of that name; exit 67 ;;
    killed) kill -KILL $$ ;;
esac
"""

Told = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass
class Postfix:
    """A running Postfix, and what must become of what was sent to it: sender, outcome, recipients with theirs."""

    folder: Path
    ports: dict[str, int]
    """By the names of services."""
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

    def mail(self, *names: str, port: str = "smtp", subject: str = "hello", sender: str = "") -> str:
        """Send a message as a new sender, and return the sender; refusals are the business of the caller."""
        sender = sender or f"{len(self.expected)}-{subject}@here.test"
        with (
            self.client(port) as client,
            contextlib.suppress(smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError),
        ):
            client.sendmail(sender, [name.replace("_", "@") + ".test" for name in names], text_of(sender, subject))
        return sender

    def client(self, port: str = "smtp") -> smtplib.SMTP:
        """Return a client that is connected."""
        return smtplib.SMTP("127.0.0.1", self.ports[port], local_hostname="client.test", timeout=30)

    def hurry(self) -> None:
        """Have deferred messages tried again: Postfix leaves one for long if it looks at it while it is delivered."""
        if time.monotonic() > self.hurried_at_s + 4:
            self.hurried_at_s = time.monotonic()
            self.command("postqueue", "-f")

    def has_told(self, events: list[dict[str, Any]], count: int) -> bool:
        """Tell whether of so many messages it is known what became of them."""
        self.hurry()
        return len(told(events)) >= count

    def say(self, *lines: bytes, port: str = "smtp") -> None:
        """Say lines without any manners, each after the server has answered the one before, and leave."""
        with socket.create_connection(("127.0.0.1", self.ports[port]), timeout=30) as connection:
            for line in lines:
                connection.recv(65536)
                connection.sendall(line)


@contextlib.contextmanager
def running_postfix(
    folder: Path, *, long_ids: str = "no", main: str = "", services: dict[str, str] | None = None, others: str = ""
) -> Iterator[Postfix]:
    """Run it.

    Args:
        folder: where all of it is to be; users without rights must reach it.
        long_ids: whether queue ids are the long ones: yes or no.
        main: more of main.cf, with the placeholders ``{folder}`` and ``{sink}``.
        services: as `SERVICES`, more of them.
        others: more of master.cf.
    """
    needs_root()
    folder = folder / "postfix"
    for name in ("conf", "queue", "data", "mail", "log"):
        (folder / name).mkdir(parents=True)
    shutil.chown(folder / "data", "postfix")
    shutil.chown(folder / "mail", "nobody")
    (folder / "deliver").write_text(DELIVER)
    (folder / "deliver").chmod(0o755)
    (folder / "forward").mkdir()
    (folder / "forward/daemon").write_text("first@relay.test, second@box.test\n")
    command = [program("postfix"), "-c", str(folder / "conf"), "start-fg"]
    listening = SERVICES | (services or {})
    with mail_sink() as sink, contextlib.ExitStack() as stack:
        (folder / "conf/main.cf").write_text((MAIN + main).format(folder=folder, sink=sink, long_ids=long_ids))
        for _ in range(3):  # somebody else may take a port that was free
            ports = {name: free_port() for name in listening}
            (folder / "conf/master.cf").write_text(_master(listening, ports, (OTHERS + others).format(folder=folder)))
            process = stack.enter_context(running(command, folder / "output", signal.SIGTERM))
            _await_start(process, ports["smtp"])
            if process.poll() is None:
                break
        made = Postfix(folder, ports)
        assert process.poll() is None, (folder / "output").read_text() + made.log.read_text()
        yield made
        with contextlib.suppress(subprocess.CalledProcessError):
            made.command("postfix", "stop")


def _await_start(process: subprocess.Popen[bytes], port: int) -> None:
    wait(lambda: process.poll() is not None or answers(port), "Postfix listens, or has ended")


def _master(services: dict[str, str], ports: dict[str, int], others: str) -> str:
    """Return Debian's master.cf with services on ports of the test's own and without a chroot."""
    master = Path("/etc/postfix/master.cf").read_text()
    lines = [f"127.0.0.1:{ports[name]} {line.format(**ports)}\n" for name, line in services.items()]
    master = re.sub(r"(?m)^smtp +inet .*$", "".join(lines) + others, master, count=1)
    master = re.sub(r"(?m)^(\S+ +\S+ +\S+ +\S+ +)y ", r"\1n ", master)
    return master if "postlogd" in master else master + "postlog unix-dgram n - n - 1 postlogd\n"


def text_of(sender: str, subject: str = "hello") -> str:
    """Return a message, headers included."""
    return f"Message-ID: <{sender}>\r\nSubject: {subject}\r\n\r\nhello\r\n"


def queued(postfix: Postfix, *queues: str) -> list[str]:
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
