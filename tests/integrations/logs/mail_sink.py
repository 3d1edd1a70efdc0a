"""A mail server of the test's own, to which Postfix delivers: its answer is what the recipient's name asks for."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ANSWERS = {"bad": "550 5.1.1 no such user, they say", "later": "450 4.2.0 greylisted", "full": "552 5.2.2 over quota"}


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.say("220 sink ESMTP")
        lmtp, accepted = False, list[str]()
        while line := self.rfile.readline(10_000):
            verb = line[:4].upper()
            if verb in (b"EHLO", b"LHLO"):
                lmtp = verb == b"LHLO"
                self.say("250-sink\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES")
            elif verb == b"RCPT":
                user = line.partition(b"<")[2].partition(b"@")[0].decode()
                answer = ANSWERS.get(user.partition("+")[0], "250 2.1.5 ok")
                if user.startswith("second-try") and user not in self.server.seen:  # type: ignore[attr-defined]
                    self.server.seen.add(user)  # type: ignore[attr-defined]
                    answer = "451 4.7.1 come again"
                if answer.startswith("2"):
                    accepted.append(user)
                self.say(answer)
            elif verb == b"DATA":
                self.say("354 go on")
                while self.rfile.readline(10_000) not in (b".\r\n", b""):
                    pass
                # LMTP answers for each recipient.
                for user in accepted if lmtp else [""]:
                    self.say("554 5.3.0 not after all" if user == "late" else "250 2.0.0 ok: queued as SINK")
                accepted.clear()
            elif verb == b"QUIT":
                self.say("221 2.0.0 bye")
                return
            else:
                self.say("250 2.0.0 ok")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.seen: set[str] = set()


@contextmanager
def mail_sink() -> Iterator[int]:
    """Run it; yields its port. It speaks SMTP, and LMTP to who greets it so."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
