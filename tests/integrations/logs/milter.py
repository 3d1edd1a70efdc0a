"""A mail filter of the test's own, which speaks the milter protocol, and does what addresses ask for.

The protocol (Postfix's `MILTER_README`, libmilter's `mfdef.h`): a packet is its length in four bytes, a command of one
byte, and its arguments, each ending with a zero byte.
"""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION, _QUARANTINES, _ALL_STEPS = 6, 0x20, 0
_CONTINUE, _REJECT, _TEMPFAIL, _DISCARD, _REPLY, _QUARANTINE = b"c", b"r", b"t", b"d", b"y", b"q"
_UNANSWERED = b"DAQK"

# What the local part of an address may ask for, at the step that knows the address.
_DEEDS = {
    b"reject": [(_REJECT, b"")],
    b"tempfail": [(_TEMPFAIL, b"")],
    b"discard": [(_DISCARD, b"")],
    b"reply": [(_REPLY, b"554 5.7.9 not by us: ask <x@y.test> first; from=<z>\0")],
}


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        at_end: list[tuple[bytes, bytes]] = []
        while len(length := self.rfile.read(4)) == 4:
            packet = self.rfile.read(struct.unpack(">I", length)[0])
            command, arguments = packet[:1], packet[1:]
            if command == b"O":
                self.answer([(b"O", struct.pack(">III", _VERSION, _QUARANTINES, _ALL_STEPS))])
                continue
            if command in _UNANSWERED:
                if command in b"QK":
                    return
                continue
            deeds: list[tuple[bytes, bytes]] = []
            if command in b"MR":
                deed, _, step = (
                    arguments.strip(b"\0").strip(b"<>").partition(b"\0")[0].partition(b"@")[0].partition(b"-")
                )
                if step.startswith(b"end"):
                    at_end = [(_QUARANTINE, b"looks odd\0")] if deed == b"hold" else _DEEDS[deed]
                else:
                    deeds = _DEEDS.get(deed, []) if step.startswith(command.lower()) else []
            elif command == b"E":
                deeds, at_end = at_end, []
            self.answer(deeds if deeds and deeds[-1][0] != _QUARANTINE else [*deeds, (_CONTINUE, b"")])

    def answer(self, packets: list[tuple[bytes, bytes]]) -> None:
        self.wfile.write(b"".join(struct.pack(">I", 1 + len(data)) + kind + data for kind, data in packets))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def milter() -> Iterator[int]:
    """Run it; yields its port.

    An address whose local part is ``reject-m…``, ``tempfail-r…``, ``reply-end…`` and so on has the sender, the
    recipient or the whole message refused; ``hold-end…`` has it put into quarantine.
    """
    with _Server(("127.0.0.1", 0), _Session) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
