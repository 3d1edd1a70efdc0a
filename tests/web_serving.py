"""A served sink and a source with a clock of its own, for the tests of the page and the HTTP API."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import zmq
from bson.objectid import ObjectId

from eventstorm.wire import Header, encode_event, encode_message
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink

# As long as a busy machine may take.
DEADLINE_S = 60.0


def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` is true, and return what it gave."""
    give_up_s = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < give_up_s, "waited too long"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Sink]:
    """Run a sink with an embedded router, a DuckDB file in `folder` and a page, on free ports."""
    given = {
        "ingress": "tcp://127.0.0.1:0",
        "egress": "tcp://127.0.0.1:0",
        "embed_router": True,
        "stores": (f"duckdb:{folder / 'events.duckdb'}",),
        "http": "127.0.0.1:0",
        "commit_s": 0.05,
        **settings,
    }
    with Sink(SinkSettings(**given)) as sink:
        yield sink


def url_of(sink: Sink) -> str:
    """Where the sink's page is."""
    assert sink.web is not None
    return sink.web.url


def ask(sink: Sink, path: str) -> Any:
    """GET a path of the API."""
    with urllib.request.urlopen(url_of(sink) + path, timeout=DEADLINE_S) as answer:
        return json.load(answer)


class Publisher:
    """Sends events of any time, topic and content, numbered as a source would."""

    def __init__(self, ingress: str, host: str = "atlas", service: str = "test") -> None:
        self._id, self._host, self._service = ObjectId().binary, host, service
        self._streams: dict[str, tuple[int, int]] = {}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.connect(ingress)
        assert self._socket.poll(int(DEADLINE_S * 1000)), "nobody subscribed"

    def send(self, topic: str, *documents: Any, ts_ms: int | None = None) -> None:
        """Send one message; a document may be BSON already."""
        ts_ms = int(time.time() * 1000) if ts_ms is None else ts_ms
        encoded = [each if isinstance(each, bytes) else bson.encode(each) for each in documents]
        self.send_encoded(topic, b"".join(encode_event(ts_ms, each) for each in encoded), len(encoded))

    def send_encoded(self, topic: str, payload: bytes, n: int, skipped: int = 0) -> None:
        """Send a ready payload of `n` events, after having lost so many numbers."""
        tid, seq = self._streams.get(topic, (len(self._streams), 0))
        seq += skipped
        self._streams[topic] = tid, seq + n
        header = Header(self._id, tid, seq, n, 0, int(time.time() * 1000), self._host, self._service, 7)
        self._socket.send_multipart(encode_message(topic, header, payload))

    def close(self) -> None:
        """Send what waits, and close."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
