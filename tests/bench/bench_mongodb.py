"""What storing into MongoDB costs: as events come off the wire, against the bare driver with the same documents.

Once with a server that takes everything and keeps nothing, so that all of the time is the client's; and once with a
real one, FerretDB, whose own time is the same in all: it needs Go, see ``nox -s servers``. Then what the whole of
a sink's process takes. Also ``python tests/bench mongodb [--quick]``.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bson
import psutil
import zmq
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from eventstorm.wire import Header, decode_message, encode_event, encode_message, event_id
from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.commands.sink import SWITCH_INTERVAL_S
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores.mongodb import MongoStore
from eventstorm_sinks.stores.mongodb._layout import INDEXES
from harness import COMMAND, FIELDS, Result, free_port, process, until

SOURCE = Source(b"0123456789ab", "host-1.example.org", "shop", 4711)
TOPIC = "http.hit"
NOW_MS = 1_700_000_000_000
EVENTS_IN_MESSAGE = 250  # about 64 KiB, where a source sends
EVENTS = 20_000
BATCH = 1_000


def run(quick: bool) -> list[Result]:
    """Measure all ways in turn, and return medians."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the sink does
    with _server() as port:
        nothing = _compared(f"127.0.0.1:{port}", 4 if quick else 25, EVENTS)
        sink_us = statistics.median(_sink_us(port, 200 if quick else 2_000) for _ in range(1 if quick else 5))
    wire, raw_rate = (nothing.rate(name) for name in ("wire", "raw"))
    results = [
        Result("wire -> acknowledged", wire, "events/s", detail="by a server that keeps nothing"),
        Result("`insert_many` of ready RawBSONDocuments", raw_rate, "events/s", detail="the same server"),
        Result("wire -> acknowledged / ready RawBSONDocuments", nothing.ratio("raw", "wire"), "x"),
        Result("wire -> acknowledged / `insert_many` of dicts", nothing.ratio("dicts", "wire"), "x", at_least=1.3),
        Result("CPU of an event / `bson.encode`", nothing.cpu_ratio("wire", "encode"), "x", at_most=2.0),
        Result("CPU of an event in the whole of a sink", sink_us, "µs"),
    ]
    if not shutil.which("go"):
        return results
    with _real_server() as host:
        real = _compared(host, 3 if quick else 9, 10_000)
    return [
        *results,
        Result("wire -> stored by FerretDB", real.rate("wire"), "events/s", detail="SQLite, on this machine"),
        Result("wire -> stored / ready RawBSONDocuments", real.ratio("raw", "wire"), "x", at_least=0.9),
        Result("wire -> stored / `insert_many` of dicts", real.ratio("dicts", "wire"), "x"),
    ]


@dataclass(frozen=True, slots=True)
class _Times:
    """What each way took in each round."""

    events: int
    seconds: dict[str, list[float]]
    cpu: dict[str, list[float]]

    def rate(self, name: str) -> float:
        return self.events / statistics.median(self.seconds[name])

    def ratio(self, over: str, under: str) -> float:
        return statistics.median(a / b for a, b in zip(self.seconds[over], self.seconds[under], strict=True))

    def cpu_ratio(self, over: str, under: str) -> float:
        return statistics.median(a / b for a, b in zip(self.cpu[over], self.cpu[under], strict=True))


def _compared(host: str, rounds: int, events: int) -> _Times:
    times = _Times(events, *({name: [] for name in ("wire", "raw", "dicts", "encode")} for _ in range(2)))
    numbers = itertools.count(0, events)
    with MongoClient(f"mongodb://{host}") as client:
        store = MongoStore(f"//{host}/bench", SinkSettings())
        store.books()
        peer: Any = client.peer
        for index, keys in INDEXES.items():  # what the server has to do for each event is the same
            for name in ("raw", "dicts"):
                peer[name].create_index(keys, name=index)
        for _ in range(rounds):
            first_seq = next(numbers)
            fields = [_fields(seq) for seq in range(first_seq, first_seq + events)]
            messages = [_message(first_seq + at, fields[at : at + EVENTS_IN_MESSAGE]) for at in range(0, events, 250)]
            dicts = [_stored(first_seq + number, each) for number, each in enumerate(fields)]
            raw = [RawBSONDocument(bson.encode(each)) for each in dicts]
            calls: list[tuple[str, Callable[[], object]]] = [
                ("wire", partial(_write, store, messages, first_seq + events)),
                ("raw", partial(_insert, peer.raw, raw)),
                ("dicts", partial(_insert, peer.dicts, dicts)),
                ("encode", partial(_encode, fields)),
            ]
            gc.collect()
            gc.freeze()  # a sink has not all these documents lying about, to be looked through again and again
            for name, call in random.sample(calls, len(calls)):  # so that none always comes after the same other
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                call()
                times.seconds[name].append(time.perf_counter() - began_s)
                times.cpu[name].append(time.process_time() - began_cpu_s)
            gc.unfreeze()
        store.close()
    return times


def _sink_us(port: int, messages: int) -> float:
    """Return the CPU microseconds of an event in a sink's process, which receives, keeps its books, and inserts."""
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    sent = [_message(at, [_fields(seq) for seq in range(at, at + 250)]) for at in range(0, messages * 250, 250)]
    with (
        process(COMMAND, "router", "--ingress", ingress, "--egress", egress, "--hwm", "1000000", ready=ingress),
        process(
            *(COMMAND, "sink", f"mongodb://127.0.0.1:{port}/bench", "--egress", egress, "--topic", TOPIC),
            ready="ready",
            environment={"EVENTSTORM_SINK_QUEUE_BYTES": str(2**30)},
        ) as sink,
        zmq.Context() as context,
        context.socket(zmq.XPUB) as source,
    ):
        source.sndhwm = source.linger = 0
        source.connect(ingress)
        source.recv()
        times = psutil.Process(sink.pid).cpu_times
        before = times()
        for message in sent:
            source.send_multipart(message, copy=False)
        spent_s = until(partial(_settled_s, times, before), 120, pause_s=1.0)
        sink.terminate()
        assert sink.stderr is not None
        said = sink.stderr.read()
        if f"stored {messages * 250} events" not in said:
            raise RuntimeError(f"not all events were stored: {said}")
    return spent_s / (messages * 250) * 1e6


def _settled_s(times: Callable[[], Any], before: Any) -> float:
    """Return the seconds since `before`, if it idles now."""
    first = times()
    time.sleep(0.3)
    now = times()
    spent_s = float(now.user + now.system - before.user - before.system)
    is_idle = now.user + now.system - first.user - first.system < 0.02
    return spent_s if is_idle and spent_s > 0.1 else 0.0


@contextlib.contextmanager
def _real_server() -> Iterator[str]:
    sys.path.append(str(Path(__file__).parent.parent))
    from servers.mongodb_server import FerretServer

    with tempfile.TemporaryDirectory() as folder:
        server = FerretServer(Path(folder))
        try:
            server.start()
            yield f"127.0.0.1:{server.port}"
        finally:
            server.kill()


@contextlib.contextmanager
def _server() -> Iterator[int]:
    program = str(Path(__file__).with_name("null_mongodb.py"))
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _fields(seq: int) -> dict[str, Any]:
    """Seven fields whose values vary as they do in life."""
    return {**FIELDS, "path": f"/shop/{seq % 5000}", "size": seq % 99_991, "duration": seq % 1_000_003 / 7e6}


def _stored(seq: int, fields: dict[str, Any]) -> dict[str, Any]:
    source = {**SOURCE._asdict(), "id": bson.ObjectId(SOURCE.id)}
    ts = bson.DatetimeMS(NOW_MS + seq)
    return {"_id": event_id(SOURCE.id, 0, seq), "ts": ts, "topic": TOPIC, "source": source, "data": fields}


def _message(first_seq: int, fields: list[dict[str, Any]]) -> list[bytes]:
    payload = b"".join(encode_event(NOW_MS + seq, bson.encode(each)) for seq, each in enumerate(fields, first_seq))
    host, service, pid = SOURCE.host, SOURCE.service, SOURCE.pid
    return encode_message(TOPIC, Header(SOURCE.id, 0, first_seq, len(fields), 0, NOW_MS, host, service, pid), payload)


def _write(store: MongoStore, messages: list[list[bytes]], total: int) -> None:
    batches = [Batch(each.topic, SOURCE, each.header.tid, each.events()) for each in map(decode_message, messages)]
    store.write(batches, [Book(TOPIC, SOURCE, 0, 0, total, 0, stored=total)])


def _insert(collection: Any, documents: list[Any]) -> None:
    for first in range(0, len(documents), BATCH):
        collection.insert_many(documents[first : first + BATCH], ordered=False)


def _encode(fields: list[dict[str, Any]]) -> None:
    for each in fields:
        bson.encode(each)
