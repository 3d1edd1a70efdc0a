"""A server of MongoDB's protocol that takes everything and keeps nothing: what is left is the client's own cost.

``python null_mongodb.py`` prints its port and runs until it is killed.
"""

from __future__ import annotations

import socketserver
import struct
from typing import Any

import bson

_HEADER = struct.Struct("<iiii")
_OP_QUERY, _OP_REPLY, _OP_MSG = 2004, 1, 2013
_HELLO: dict[str, Any] = {
    "ok": 1,
    "isWritablePrimary": True,
    "ismaster": True,
    "maxBsonObjectSize": 16 * 2**20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
}
_FOUND: dict[str, Any] = {"ok": 1, "cursor": {"id": bson.Int64(0), "ns": "a.b", "firstBatch": []}}
_ANSWERS: dict[bytes, dict[str, Any]] = {
    b"hello": _HELLO,
    b"ismaster": _HELLO,
    b"isMaster": _HELLO,
    b"find": _FOUND,
    b"listCollections": _FOUND,
    b"listIndexes": _FOUND,
    b"findAndModify": {"ok": 1, "value": None},
}
_ENCODED = {name: bson.encode(answer) for name, answer in _ANSWERS.items()}
_DONE = bson.encode({"ok": 1, "n": 1, "nModified": 0})


class _Handler(socketserver.StreamRequestHandler):
    rbufsize = 2**20

    def handle(self) -> None:
        while len(header := self.rfile.read(_HEADER.size)) == _HEADER.size:
            length, request, _, operation = _HEADER.unpack(header)
            body = self.rfile.read(length - _HEADER.size)
            if operation == _OP_QUERY:  # only the driver's first greeting
                answer, front, kind = _ENCODED[b"hello"], struct.pack("<iqii", 8, 0, 0, 1), _OP_REPLY
            else:
                # Flags, the kind of the first section, its document's length; then the first element's type and name.
                name = body[10 : body.index(b"\0", 10)]
                answer, front, kind = _ENCODED.get(name, _DONE), bytes(5), _OP_MSG
            size = _HEADER.size + len(front) + len(answer)
            self.wfile.write(_HEADER.pack(size, 1, request, kind) + front + answer)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


if __name__ == "__main__":
    with _Server(("127.0.0.1", 0), _Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
