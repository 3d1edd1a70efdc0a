"""A filter in Postfix's way: it takes messages by SMTP, and gives each to another port with what it adds."""

from __future__ import annotations

import smtplib
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Say to the port behind what the client says, and to the client what is answered there."""
        self.say(b"220 filter ESMTP")
        with smtplib.SMTP("127.0.0.1", self.server.behind, timeout=30) as client:
            while line := self.rfile.readline(10_000).strip():
                if line.upper() == b"DATA":
                    self.data(client)
                    continue
                if line[:4].upper() == b"RCPT" and b"<virus" in line:
                    self.say(b"554 5.7.1 filtered")
                    continue
                code, text = client.docmd(line.decode())
                lines = text.split(b"\n")
                for each in lines[:-1]:
                    self.say(b"%d-%s" % (code, each))
                self.say(b"%d %s" % (code, lines[-1]))
                if line.upper() == b"QUIT":
                    return

    def data(self, client: smtplib.SMTP) -> None:
        self.say(b"354 go on")
        lines = []
        while (line := self.rfile.readline(10_000)) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        code, text = client.data(b"X-Filtered: yes\r\n" + b"".join(lines))
        self.say(b"%d %s" % (code, text))

    def say(self, text: bytes) -> None:
        self.wfile.write(text + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    behind: int


class SmtpProxy:
    """A filter, whose port behind it is told later."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.port: int = server.server_address[1]

    def goes_on_at(self, port: int) -> None:
        """Give messages to this port."""
        self._server.behind = port


@contextmanager
def smtp_proxy() -> Iterator[SmtpProxy]:
    """Run it."""
    with _Server(("127.0.0.1", 0), _Session) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield SmtpProxy(server)
        server.shutdown()
        thread.join()
