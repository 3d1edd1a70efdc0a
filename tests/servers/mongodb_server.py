"""Two independent servers of MongoDB's protocol as processes: mongo-java-server, and FerretDB on SQLite."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ports import free_port
from servers.golang import ferretdb
from servers.maven import compiled, fetched

if TYPE_CHECKING:
    from typing_extensions import Self

VERSION = "1.47.0"
MAIN = Path(__file__).with_name("MongoServer.java")
DEADLINE_S = 120.0


def class_path() -> str:
    """Return the class path with the server and its main class; fetched and compiled once for all runs."""
    jars = fetched("de.bwaldvogel", "mongo-java-server-h2-backend", VERSION)
    return f"{jars}/*:{compiled(MAIN, jars)}"


class Server:
    """A server with its data in a folder, which can be killed, started again, and paused; ended by leaving ``with``."""

    options: ClassVar = "serverSelectionTimeoutMS=200&socketTimeoutMS=5000"
    """Of a store's URL: what tells of the server being away soon enough for a test, and waits not much longer."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}"
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def client(self, **options: Any) -> MongoClient[dict[str, Any]]:
        """Connect as somebody who may do all."""
        return MongoClient(self.url, **options)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        give_up_s = time.monotonic() + DEADLINE_S
        with self.client(serverSelectionTimeoutMS=200) as client:
            while True:
                try:
                    client.admin.command("ping")
                    return
                except PyMongoError:
                    if self._process.poll() is not None or time.monotonic() > give_up_s:
                        raise AssertionError("it does not start:\n" + (self.folder / "log").read_text()) from None

    def kill(self) -> None:
        """End it without a warning."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it as one should."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(DEADLINE_S)
        self._process = None

    def pause(self) -> None:
        """Stop it where it is."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class MongoServer(Server):
    """mongo-java-server, which can be made to fail too.

    In memory it takes millions of events, and forgets them when it is killed.
    """

    def __init__(self, folder: Path, *, in_memory: bool = False) -> None:
        super().__init__(folder)
        self._fault = folder / "fault"
        self._data = "memory" if in_memory else str(folder / "data.mv")
        # Small and quick to start; or for long runs.
        small = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]
        self._options = ["-XX:+UseParallelGC", "-Xmx16g"] if in_memory else small

    def _command(self) -> list[str]:
        # A thread for each connection, of which tests have dozens: none waits for what another one has asked.
        java = ["java", *self._options, "-Dio.netty.eventLoopThreads=100", "-cp", class_path(), "MongoServer"]
        return [*java, str(self.port), self._data, str(self._fault)]

    def fail(self, command: str, code: int, text: str) -> None:
        """Answer a command by an error, until `mend`."""
        self._fault.write_text(f"{command} {code} {text}")

    def mend(self) -> None:
        """Answer as usual again."""
        self._fault.unlink(missing_ok=True)


class FerretServer(Server):
    """FerretDB, whose SQLite files outlive it.

    It answers late: ranges of identities, which are removed after a failure, it looks for in all events.

    Args:
        folder: for its files.
        data: another folder for the data.
        certificates: a folder with ``server.pem`` and ``server.key``: it speaks TLS at `tls_port` too.
        password: it asks for a login; who may do all is ``admin``.
    """

    options = "serverSelectionTimeoutMS=200&socketTimeoutMS=15000"

    def __init__(
        self, folder: Path, data: Path | None = None, certificates: Path | None = None, password: str = ""
    ) -> None:
        super().__init__(folder)
        self._data, self._certificates, self._password = data or folder / "data", certificates, password
        self.tls_port = free_port()

    def client(self, **options: Any) -> MongoClient[dict[str, Any]]:
        """Connect as somebody who may do all."""
        login = {"username": "admin", "password": self._password} if self._password else {}
        return MongoClient(self.url, **login, **options)

    def _command(self) -> list[str]:
        self._data.mkdir(exist_ok=True)
        options = {
            "handler": "sqlite",
            "sqlite-url": f"file:{self._data}/",
            "state-dir": str(self.folder),
            "listen-addr": f"127.0.0.1:{self.port}",
            "debug-addr": "-",
            "log-level": "ERROR",
            "telemetry": "disable",
        }
        if self._certificates:
            options |= {
                "listen-tls": f"127.0.0.1:{self.tls_port}",
                "listen-tls-cert-file": str(self._certificates / "server.pem"),
                "listen-tls-key-file": str(self._certificates / "server.key"),
            }
        if self._password:
            options |= {"setup-database": "admin", "setup-username": "admin", "setup-password": self._password}
        login = ["--test-enable-new-auth"] if self._password else []
        return [str(ferretdb()), *login, *(f"--{name}={value}" for name, value in options.items())]
