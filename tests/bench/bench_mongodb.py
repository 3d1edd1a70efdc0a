"""What storing into MongoDB costs: as events come off the wire, against the bare driver with the same documents.

The server takes everything and keeps nothing, so that all of the time is the client's: with a real one, whose own time
is the same in all, the ratios are nearer to 1. Also ``python tests/bench mongodb [--quick]``.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from eventstorm.wire import Header, decode_message, encode_event, encode_message, event_id
from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.commands.sink import SWITCH_INTERVAL_S
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores.mongodb import MongoStore
from harness import FIELDS, Result

SOURCE = Source(b"0123456789ab", "host-1.example.org", "shop", 4711)
TOPIC = "http.hit"
NOW_MS = 1_700_000_000_000
EVENTS_IN_MESSAGE = 250  # about 64 KiB, where a source sends
EVENTS = 20_000
BATCH = 1_000


def run(quick: bool) -> list[Result]:
    """Measure all ways in turn, and return medians."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the sink does
    rounds = 4 if quick else 25
    seconds: dict[str, list[float]] = {"wire": [], "raw": [], "dicts": [], "encode": []}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    numbers = itertools.count(0, EVENTS)
    with _server() as port, MongoClient(f"mongodb://127.0.0.1:{port}") as client:
        store = MongoStore(f"//127.0.0.1:{port}/bench", SinkSettings())
        store.books()
        peer: Any = client.peer
        for _ in range(rounds):
            first_seq = next(numbers)
            fields = [_fields(seq) for seq in range(first_seq, first_seq + EVENTS)]
            messages = [_message(first_seq + at, fields[at : at + EVENTS_IN_MESSAGE]) for at in range(0, EVENTS, 250)]
            dicts = [_stored(first_seq + number, each) for number, each in enumerate(fields)]
            raw = [RawBSONDocument(bson.encode(each)) for each in dicts]
            calls: list[tuple[str, Callable[[], object]]] = [
                ("wire", partial(_write, store, messages, first_seq)),
                ("raw", partial(_insert, peer.raw, raw)),
                ("dicts", partial(_insert, peer.dicts, dicts)),
                ("encode", partial(_encode, fields)),
            ]
            gc.collect()
            gc.freeze()  # a sink has not all these documents lying about, to be looked through again and again
            for name, call in random.sample(calls, len(calls)):  # so that none always comes after the same other
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                call()
                seconds[name].append(time.perf_counter() - began_s)
                cpu[name].append(time.process_time() - began_cpu_s)
            gc.unfreeze()
        store.close()

    def ratio(values: dict[str, list[float]], over: str, under: str) -> float:
        return statistics.median(a / b for a, b in zip(values[over], values[under], strict=True))

    wire, raw_rate = (EVENTS / statistics.median(seconds[name]) for name in ("wire", "raw"))
    return [
        Result("wire -> acknowledged", wire, "events/s", detail="by a server that keeps nothing"),
        Result("`insert_many` of ready RawBSONDocuments", raw_rate, "events/s", detail="the same server"),
        Result("wire -> acknowledged / ready RawBSONDocuments", ratio(seconds, "raw", "wire"), "x"),
        Result("wire -> acknowledged / `insert_many` of dicts", ratio(seconds, "dicts", "wire"), "x", at_least=1.3),
        Result("CPU of an event / `bson.encode`", ratio(cpu, "wire", "encode"), "x", at_most=2.0),
    ]


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


def _write(store: MongoStore, messages: list[list[bytes]], first_seq: int) -> None:
    batches = [Batch(each.topic, SOURCE, each.header.tid, each.events()) for each in map(decode_message, messages)]
    total = first_seq + EVENTS
    store.write(batches, [Book(TOPIC, SOURCE, 0, 0, total, 0, stored=total)])


def _insert(collection: Any, documents: list[Any]) -> None:
    for first in range(0, EVENTS, BATCH):
        collection.insert_many(documents[first : first + BATCH], ordered=False)


def _encode(fields: list[dict[str, Any]]) -> None:
    for each in fields:
        bson.encode(each)
