"""A real sshd, and the rsyslog that writes its log, driven by real clients: the events equal what the clients did."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ports import free_port

from .following import Running
from .servers import answers, needs_root, program, running, wait

pytestmark = pytest.mark.servers

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
UsePAM yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
AuthorizedKeysFile {folder}/keys/%u
StrictModes no
DenyUsers denied
MaxAuthTries 3
MaxStartups 100
UseDNS no
"""
RSYSLOG = """
$RepeatedMsgReduction on
module(load="imuxsock")
*.* action(type="omfile" file="{folder}/log/auth.log" template="RSYSLOG_TraditionalFileFormat")
*.* action(type="omfile" file="{folder}/log/iso.log" template="RSYSLOG_FileFormat")
"""
# As Debian has it, but without the two seconds that a wrong password takes.
PAM = """
auth required pam_unix.so nodelay
account required pam_permit.so
session required pam_unix.so
"""
ASK = """#!/bin/sh
printf '%s' "$PASSWORD"
"""


def text(path: Path) -> str:
    """Return what is in a file that may not be there yet, or under another name by now."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    return ""


@dataclass
class Sshd:
    """A running sshd."""

    folder: Path
    port: int

    def log(self, name: str) -> Path:
        return self.folder / "log" / name

    def reopen(self) -> None:
        """Let rsyslog write to a new file, as logrotate does."""
        os.kill(int((self.folder / "rsyslogd.pid").read_text()), signal.SIGHUP)

    def ssh(self, user: str, *options: str, password: str = "", command: str = "true") -> int:
        """Log in as a user does; returns the exit code, which is 255 if it failed."""
        words = [program("ssh"), "-F", "none", "-p", str(self.port), "-l", user]
        settings = {
            "UserKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "no",
            "LogLevel": "ERROR",
            "IdentitiesOnly": "yes",
            "IdentityFile": "none",
            "PreferredAuthentications": "password" if password else "publickey",
            "NumberOfPasswordPrompts": "1",
        }
        given = {option.partition("=")[0] for option in options}
        for name, value in settings.items():
            if name not in given:
                words += ["-o", f"{name}={value}"]
        words += [word for option in options for word in ("-o", option)]
        done = subprocess.run(
            [*words, "127.0.0.1", command],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "PASSWORD": password,
                "SSH_ASKPASS": str(self.folder / "ask"),
                "SSH_ASKPASS_REQUIRE": "force",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode


@pytest.fixture
def sshd(open_path: Path) -> Iterator[Sshd]:
    """A running sshd with users, keys and a log of its own."""
    needs_root()
    if subprocess.run([program("unshare"), "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine permits no mount namespaces, without which sshd would need changed users")
    folder = open_path / "sshd"
    for name in ("log", "keys", "home"):
        (folder / name).mkdir(parents=True)
    hashed = subprocess.run([program("openssl"), "passwd", "-6", "right"], capture_output=True, text=True, check=True)
    passwd, shadow = Path("/etc/passwd").read_text(), Path("/etc/shadow").read_text()
    for number, name in enumerate(("ada", "bob", "denied")):
        passwd += f"{name}:x:{65001 + number}:65534::{folder}/home:/bin/sh\n"
        shadow += f"{name}:{hashed.stdout.strip()}:19000:0:99999:7:::\n"
    (folder / "passwd").write_text(passwd)
    (folder / "shadow").write_text(shadow)
    for name, kind in (("host_key", "ed25519"), ("ada_key", "ed25519"), ("rsa_key", "rsa"), ("strange_key", "ed25519")):
        subprocess.run([program("ssh-keygen"), "-q", "-N", "", "-t", kind, "-f", folder / name], check=True)
    (folder / "keys/ada").write_text((folder / "ada_key.pub").read_text() + (folder / "rsa_key.pub").read_text())
    (folder / "ask").write_text(ASK)
    (folder / "ask").chmod(0o755)
    port = free_port()
    (folder / "sshd_config").write_text(SSHD.format(folder=folder, port=port))
    (folder / "pam").write_text(PAM)
    (folder / "rsyslog.conf").write_text(RSYSLOG.format(folder=folder))
    script = Path(__file__).with_name("sshd_alone.sh")
    command = [program("unshare"), "-m", "sh", str(script), str(folder), program("sshd"), program("rsyslogd")]
    with running(command, folder / "output") as process:
        try:
            wait(lambda: process.poll() is not None or answers(port), "sshd listens")
            assert process.poll() is None, (folder / "output").read_text()
            made = Sshd(folder, port)
            # That it answers was asked by a connection, of which it tells a little later.
            logs = [made.log("auth.log"), made.log("iso.log")]
            wait(lambda: all("by 127.0.0.1 port" in text(each) for each in logs), "what sshd says of that")
            yield made
        finally:
            if (folder / "rsyslogd.pid").exists():
                os.kill(int((folder / "rsyslogd.pid").read_text()), signal.SIGTERM)


def logins(running: Running) -> list[dict[str, Any]]:
    return [event["data"] for event in running.events if event["topic"] == "ssh.login"]


def told(running: Running) -> list[tuple[str, str, str, bool]]:
    """Return of each login its outcome, the method, the user, and whether there is such a user."""
    return [
        (
            each["outcome"],
            each.get("auth", {}).get("method", ""),
            each.get("user", {}).get("name", ""),
            each.get("user", {}).get("valid", True),
        )
        for each in logins(running)
    ]


def connect(sshd: Sshd, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", sshd.port), timeout=30) as connection:
        connection.recv(100)
        connection.sendall(data)
        if data:
            connection.recv(100)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["auth.log", "iso.log"])
def test_each_login_is_told_with_how_it_went(sshd: Sshd, follow: Callable[..., Running], name: str) -> None:
    running = follow("sshd", "--print", str(sshd.log(name)))
    expected: list[tuple[str, str, str, bool]] = []

    def expect(outcome: str, method: str, user: str, valid: bool = True, *, times: int = 1) -> None:
        expected.extend([(outcome, method, user, valid)] * times)
        running.wait(lambda: len(told(running)) >= len(expected))

    assert sshd.ssh("ada", password="right") == 0
    expect("accepted", "password", "ada")
    assert sshd.ssh("ada", f"IdentityFile={sshd.folder}/ada_key") == 0
    expect("accepted", "publickey", "ada")
    assert sshd.ssh("ada", f"IdentityFile={sshd.folder}/rsa_key") == 0
    expect("accepted", "publickey", "ada")
    assert sshd.ssh("bob", password="wrong") == 255
    expect("failed", "password", "bob")
    # Three times in one connection, which sshd then ends; rsyslog writes repeated lines as one.
    assert sshd.ssh("bob", "NumberOfPasswordPrompts=3", password="wrong") == 255
    expect("failed", "password", "bob", times=3)
    assert sshd.ssh("nobody-here", password="x") == 255
    expect("failed", "password", "nobody-here", valid=False)
    assert sshd.ssh("denied", password="right") == 255
    expect("failed", "password", "denied", valid=False)
    assert sshd.ssh("evil from 1.2.3.4 port 5 ssh2", password="x") == 255
    expect("failed", "password", "evil from 1.2.3.4 port 5 ssh2", valid=False)
    # With a key that nobody knows there is no line of a failure, only of the end.
    assert sshd.ssh("ada", f"IdentityFile={sshd.folder}/strange_key") == 255
    expect("failed", "", "ada")
    connect(sshd, b"")
    expect("aborted", "", "")
    connect(sshd, b"GET / HTTP/1.1\r\n\r\n")
    expect("aborted", "", "")
    assert sshd.ssh("ada", "Ciphers=aes128-cbc", password="right") == 255
    expect("aborted", "", "")
    assert sshd.ssh("ada", password="right", command="sleep 1.5") == 0
    expect("accepted", "password", "ada")
    running.wait(lambda: len([event for event in running.events if event["topic"] == "ssh.session"]) == 4)
    running.stop()

    assert told(running) == expected
    sessions = [event["data"] for event in running.events if event["topic"] == "ssh.session"]
    assert [each["user"]["name"] for each in sessions] == ["ada"] * 4
    assert 0.9 < sessions[3]["duration"] < 15
    ed25519, rsa = (each["key"] for each in logins(running) if "key" in each)
    assert (ed25519["type"], rsa["type"]) == ("ED25519", "RSA")
    printed = subprocess.run(
        [program("ssh-keygen"), "-l", "-f", sshd.folder / "ada_key"], capture_output=True, text=True, check=True
    )
    assert ed25519["fingerprint"] == printed.stdout.split()[1]
    assert {each["client"]["address"] for each in logins(running)} == {"127.0.0.1"}
    assert {event["topic"] for event in running.events} == {"ssh.login", "ssh.session"}


@pytest.mark.timeout(180)
def test_no_login_is_lost_or_told_twice_through_rotation_truncation_and_restarts(
    sshd: Sshd, follow: Callable[..., Running]
) -> None:
    path = sshd.log("auth.log")
    seen: list[str] = []
    count = 0

    def login(*, caught_up: bool = True) -> None:
        nonlocal count
        sshd.ssh(f"user-{count}", password="x")
        count += 1
        wait(lambda: f"user-{count - 1}" in "".join(map(text, path.parent.glob("auth*"))), "its line")
        if caught_up:
            running.wait(lambda: len(seen) + len(told(running)) == count)

    running = follow("sshd", "--print", str(path))
    login()
    path.rename(f"{path}.1")
    login()
    sshd.reopen()
    login()
    running.stop()
    seen += [user for _, _, user, _ in told(running)]
    login(caught_up=False)
    path.rename(f"{path}.2")
    sshd.reopen()
    login(caught_up=False)
    running = follow("sshd", "--print", str(path))
    login()
    shutil.copy2(path, f"{path}.0")
    os.truncate(path, 0)
    login()
    running.stop()
    seen += [user for _, _, user, _ in told(running)]

    assert seen == [f"user-{number}" for number in range(7)]
