"""A real systemd-journald with a place of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

# As long as a busy machine may take.
DEADLINE_S = 60
_JOURNALD = "/lib/systemd/systemd-journald"

# journald takes its sockets and files in /run alone; here that is a folder of the test's.
_SCRIPT = """
mount --make-rprivate / && mount --bind "$1" /run && mkdir -p /run/log/journal /run/systemd/journal && exec "$2"
"""


class Journald:
    """systemd-journald as it is, in a mount namespace: it is nobody's PID 1 that it needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.journal = folder / "log" / "journal"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        if not Path(_JOURNALD).exists() or shutil.which("unshare") is None:
            pytest.fail("systemd-journald is not installed; install it, or leave these tests out with --no-servers")
        self._folder.mkdir(exist_ok=True)
        listening = self._folder / "systemd" / "journal" / "dev-log"
        listening.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", str(self._folder), _JOURNALD],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + DEADLINE_S
        while not listening.exists():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def log(self, *messages: str, program: str = "sshd") -> None:
        """Log as `syslog(3)` does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(self._folder / "systemd" / "journal" / "dev-log"))
            for message in messages:
                sender.send(f"<38>{program}[{os.getpid()}]: {message}".encode())

    def rotate(self) -> None:
        """Have it begin a new file, as it does by itself when one is large."""
        assert self._process
        self._process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + DEADLINE_S
        while not list(self.journal.glob("*/*@*.journal")):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        """End it; its files stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)
            self._process = None
