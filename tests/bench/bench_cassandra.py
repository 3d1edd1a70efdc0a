"""What storing into Cassandra costs: as events come off the wire, against the driver's own way with ready-made rows.

One real node on this machine, which shares its cores with the client, takes both in turn; it needs a JDK and Maven, see
``nox -s servers``. Also ``python tests/bench cassandra [--quick]``.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import bson
import msgspec
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from eventstorm.wire import Header, decode_message, encode_event, encode_message, event_id
from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.commands.sink import SWITCH_INTERVAL_S
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores.cassandra import CassandraStore
from harness import FIELDS, Result

SOURCE = Source(b"0123456789ab", "host-1.example.org", "shop", 4711)
TOPIC = "http.hit"
NOW_MS = 1_700_000_000_000
EVENTS_IN_MESSAGE = 250  # about 64 KiB, where a source sends
EVENTS = 10_000
CONCURRENCIES = (32, 100, 300)


def run(quick: bool) -> list[Result]:
    """Measure all ways in turn, and return medians."""
    if not (shutil.which("java") and shutil.which("mvn")):
        print("no Java and Maven here: Cassandra is left out", file=sys.stderr)
        return []
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the sink does
    rounds = 3 if quick else 15
    ways = ["wire", "encode", *map(str, CONCURRENCIES)]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    numbers = itertools.count(0, EVENTS)
    with _node() as (url, session):
        store = CassandraStore(f"{url.removeprefix('cassandra:')}/bench", SinkSettings())
        store.books()
        insert = session.prepare(
            "INSERT INTO bench.events (topic, bucket, shard, ts, id, host, service, pid, data) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        for number in range(rounds + 1):
            first_seq = next(numbers)
            fields = [_fields(seq) for seq in range(first_seq, first_seq + EVENTS)]
            messages = [_message(first_seq + at, fields[at : at + EVENTS_IN_MESSAGE]) for at in range(0, EVENTS, 250)]
            calls: list[tuple[str, Callable[[], object]]] = [
                ("wire", partial(_write, store, messages, first_seq)),
                ("encode", partial(_encode, fields)),
            ]
            for each in CONCURRENCIES:
                rows = [_row(each, first_seq + at, one) for at, one in enumerate(fields)]
                calls.append((str(each), partial(execute_concurrent_with_args, session, insert, rows, each)))
            gc.collect()
            gc.freeze()  # a sink has not all these documents lying about, to be looked through again and again
            for name, call in random.sample(calls, len(calls)):  # so that none always comes after the same other
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                call()
                if number:  # the first round warms the server up
                    seconds[name].append(time.perf_counter() - began_s)
                    cpu[name].append(time.process_time() - began_cpu_s)
            gc.unfreeze()
        store.close()
    best = min(map(str, CONCURRENCIES), key=lambda name: statistics.median(seconds[name]))

    def ratio(values: dict[str, list[float]], over: str, under: str) -> float:
        return statistics.median(a / b for a, b in zip(values[over], values[under], strict=True))

    wire, peer = (EVENTS / statistics.median(seconds[name]) for name in ("wire", best))
    many = f"`execute_concurrent_with_args` of ready-made rows, {best} at a time"
    return [
        Result("wire -> acknowledged by Cassandra", wire, "events/s", detail="one node on this machine"),
        Result(many, peer, "events/s", detail="the same node"),
        Result("wire -> acknowledged by Cassandra / that", ratio(seconds, best, "wire"), "x", at_least=1.5),
        Result("CPU of an event into Cassandra / `bson.encode`", ratio(cpu, "wire", "encode"), "x"),
    ]


@contextlib.contextmanager
def _node() -> Iterator[tuple[str, Session]]:
    sys.path.append(str(Path(__file__).parent.parent))
    from servers.cassandra_server import CassandraServer

    with tempfile.TemporaryDirectory() as folder:
        server = CassandraServer(Path(folder), commitlog_sync="periodic")  # the default of Cassandra
        try:
            server.start()
            with server.session() as session:
                yield server.url, session
        finally:
            server.kill()


def _fields(seq: int) -> dict[str, Any]:
    """Seven fields whose values vary as they do in life."""
    return {**FIELDS, "path": f"/shop/{seq % 5000}", "size": seq % 99_991, "duration": seq % 1_000_003 / 7e6}


def _row(way: int, seq: int, fields: dict[str, Any]) -> tuple[object, ...]:
    identity = event_id(SOURCE.id, way, seq)
    data = msgspec.json.encode(fields).decode()
    return TOPIC, NOW_MS, way, NOW_MS + seq, identity, SOURCE.host, SOURCE.service, SOURCE.pid, data


def _message(first_seq: int, fields: list[dict[str, Any]]) -> list[bytes]:
    payload = b"".join(encode_event(NOW_MS + seq, bson.encode(each)) for seq, each in enumerate(fields, first_seq))
    host, service, pid = SOURCE.host, SOURCE.service, SOURCE.pid
    return encode_message(TOPIC, Header(SOURCE.id, 0, first_seq, len(fields), 0, NOW_MS, host, service, pid), payload)


def _write(store: CassandraStore, messages: list[list[bytes]], first_seq: int) -> None:
    batches = [Batch(each.topic, SOURCE, each.header.tid, each.events()) for each in map(decode_message, messages)]
    total = first_seq + EVENTS
    store.write(batches, [Book(TOPIC, SOURCE, 0, 0, total, 0, stored=total)])


def _encode(fields: list[dict[str, Any]]) -> None:
    for each in fields:
        bson.encode(each)
