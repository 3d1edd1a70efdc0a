"""mongo-java-server as a process: an independent server of MongoDB's protocol, made of jars of Maven Central."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from servers.maven import fetched

VERSION = "1.47.0"
MAIN = Path(__file__).with_name("MongoServer.java")
DEADLINE_S = 30.0


@cache
def class_path() -> str:
    """Return the class path with the server and its main class; fetched and compiled once for all runs."""
    folder = fetched("de.bwaldvogel", "mongo-java-server-h2-backend", VERSION)
    classes = Path(tempfile.mkdtemp(prefix="eventstorm-classes-"))
    subprocess.run(["javac", "-cp", f"{folder}/*", "-d", classes, MAIN], check=True)
    return f"{folder}/*:{classes}"


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MongoServer:
    """A server with its data in a file, which can be killed, started again, paused, and made to fail."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}"
        self._data, self._fault = folder / "data.mv", folder / "fault"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        arguments = [str(self.port), str(self._data), str(self._fault)]
        self._process = subprocess.Popen(
            [
                "java",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Xmx512m",
                "-cp",
                class_path(),
                "MongoServer",
                *arguments,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up_s = time.monotonic() + DEADLINE_S
        with MongoClient(self.url, serverSelectionTimeoutMS=200) as client:
            while True:
                try:
                    client.admin.command("ping")
                    return
                except PyMongoError:
                    assert time.monotonic() < give_up_s, "the server does not answer"

    def kill(self) -> None:
        """End it without a warning."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it where it is."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def fail(self, command: str, code: int, text: str) -> None:
        """Answer a command by an error, until `mend`."""
        self._fault.write_text(f"{command} {code} {text}")

    def mend(self) -> None:
        """Answer as usual again."""
        self._fault.unlink(missing_ok=True)
