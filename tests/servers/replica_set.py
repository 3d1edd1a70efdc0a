"""Two small proxies that look like a replica set, in front of one real server: primaries that step down in mid-command.

No package brings MongoDB itself, whose replica sets these stand for: they say who is the primary as its members do, and
what they are asked otherwise they pass on; until they step down, when they answer as a primary does that loses its
office, or hang up.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import bson
from bson.objectid import ObjectId

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HELLO = ("hello", "ismaster", "isMaster")
_WRITES = ("insert", "update", "delete", "findAndModify", "createIndexes")

# How a primary answers a write that its end meets; after it has been carried out, or not at all.
ENDS: dict[str, dict[str, Any] | None] = {
    "NotWritablePrimary": {"code": 10107, "errmsg": "not primary"},
    "PrimarySteppedDown": {"code": 189, "errmsg": "primary stepped down while waiting for replication"},
    "InterruptedDueToReplStateChange": {"code": 11602, "errmsg": "operation was interrupted"},
    "hanging up": None,
}


class ReplicaSet:
    """Two members, of which one is the primary."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self._stopped = False
        self._lock = threading.Lock()
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self._hosts = [f"127.0.0.1:{each.getsockname()[1]}" for each in self._listeners]
        self.url = f"mongodb://{','.join(self._hosts)}"
        self._primary, self._election = 0, 1
        self._end: tuple[str, bool] | None = None
        self.ended: list[str] = []
        """The commands that met the end of a primary."""
        self._threads = [threading.Thread(target=self._accept, args=(member,)) for member in range(2)]
        self._connections: set[socket.socket] = set()
        for thread in list(self._threads):
            thread.start()

    def step_down(self, how: str, *, after: bool) -> None:
        """Have the next write meet the primary's end, after it is carried out or not at all; then the other is."""
        with self._lock:
            self._end = how, after

    def close(self) -> None:
        """Hang up, and end the threads."""
        self._stopped = True
        for each in (*self._listeners, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self, member: int) -> None:
        while not self._stopped:
            try:
                client, _ = self._listeners[member].accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(member, client))
            self._threads.append(thread)
            thread.start()

    def _serve(self, member: int, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server_port)) as server:
            self._connections |= {client, server}
            for message in _messages(client):
                answer = self._answer(member, message, server)
                if answer is None:
                    return
                client.sendall(answer)

    def _answer(self, member: int, message: bytes, server: socket.socket) -> bytes | None:
        """Return what is answered to a message; None to hang up."""
        name = _command(message)
        if name in _HELLO:
            return _reply(message, self._hello(member))
        if name not in _WRITES:
            return _pass_on(message, server)
        with self._lock:
            end = self._end if member == self._primary else None
            is_primary = member == self._primary
            if end is not None:
                self._end = None
                self._primary, self._election = 1 - member, self._election + 1
                self.ended.append(name)
        if end is not None:
            how, after = end
            if after:
                _pass_on(message, server)
            error = ENDS[how]
            return _reply(message, {"ok": 0.0, "codeName": how, **error}) if error else None
        if not is_primary:
            return _reply(
                message, {"ok": 0.0, "codeName": "NotWritablePrimary", "code": 10107, "errmsg": "not primary"}
            )
        return _pass_on(message, server)

    def _hello(self, member: int) -> dict[str, Any]:
        with self._lock:
            primary, election = self._primary, self._election
        is_primary = member == primary
        said = {"isWritablePrimary": is_primary, "ismaster": is_primary, "secondary": not is_primary}
        if is_primary:
            said["electionId"] = ObjectId(election.to_bytes(12, "big"))
        return {
            "ok": 1.0,
            **said,
            "setName": "tests",
            "setVersion": 1,
            "hosts": self._hosts,
            "me": self._hosts[member],
            "primary": self._hosts[primary],
            "maxBsonObjectSize": 16 * 2**20,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "minWireVersion": 0,
            "maxWireVersion": 13,
        }


def _messages(connection: socket.socket) -> Iterator[bytes]:
    """Yield whole messages until the other side hangs up."""
    with connection.makefile("rb") as stream:
        while len(header := stream.read(_HEADER.size)) == _HEADER.size:
            length = _HEADER.unpack(header)[0]
            yield header + stream.read(length - _HEADER.size)


def _pass_on(message: bytes, server: socket.socket) -> bytes | None:
    server.sendall(message)
    return next(_messages(server), None)


def _command(message: bytes) -> str:
    """Return the name of the command: that of its document's first field."""
    at = _HEADER.size
    if _HEADER.unpack(message[:at])[3] == _OP_QUERY:
        at = message.index(b"\0", at + 4) + 1 + 8  # flags, the collection's name, two numbers
    else:
        at += 5  # flags, the kind of the first section
    return message[at + 5 : message.index(b"\0", at + 5)].decode()


def _reply(message: bytes, document: dict[str, Any]) -> bytes:
    _, request, _, operation = _HEADER.unpack(message[: _HEADER.size])
    answer = bson.encode(document)
    front, kind = (struct.pack("<iqii", 8, 0, 0, 1), _OP_REPLY) if operation == _OP_QUERY else (bytes(5), _OP_MSG)
    return _HEADER.pack(_HEADER.size + len(front) + len(answer), 1, request, kind) + front + answer
