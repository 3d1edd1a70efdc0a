"""Minutes at a steady rate into one store: is each event stored once, does memory stay flat, is the queue empty?

``python tests/bench soak [--minutes 10] [--rate 5000] STORE``, where STORE is ``duckdb``, ``mongodb`` or ``cassandra``,
for which a server is started here (see ``nox -s servers``), or the URL of one that runs. A program emits through the
SDK, a router of its own passes the events on, and a sink stores them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient, uri_parser

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_to_read
from harness import COMMAND, TOPIC, Result, free_port, machine, process, script, table, until

LOOK_S = 10.0
# Partitions of some 75,000 events at 5,000 a second, as docs/cassandra.md advises; other stores take no notice.
ENVIRONMENT = {"EVENTSTORM_SINK_CASSANDRA_LAYOUT": "http.*=1m/4"}


@dataclass(frozen=True)
class Sample:
    """The sink at one moment."""

    at_s: float
    memory_mib: float
    queue_kib: float


def main(arguments: list[str]) -> int:
    """Run, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests/bench soak", description="A steady load for minutes into one store.")
    parser.add_argument("store", metavar="STORE", help="duckdb, mongodb, cassandra, or a URL")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--rate", type=float, default=5000.0, help="events a second (default: 5000)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, _store(chosen.store, Path(folder)) as url:
        results = _run(url, chosen.minutes, chosen.rate)
    print(f"{machine()}, {chosen.minutes:g} minutes at {chosen.rate:,.0f} events/s\n\n{table(results)}")
    return 0 if all(each.passed for each in results) else 1


@contextlib.contextmanager
def _store(name: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a store, with its server running."""
    sys.path.append(str(Path(__file__).parent.parent))
    if name == "duckdb":
        yield f"duckdb:{folder / 'events.duckdb'}"
    elif name == "mongodb":
        from servers.mongodb_server import MongoServer

        # With its data in a file it takes some 4,000 events a second, fewer as they become more.
        mongodb = MongoServer(folder, in_memory=True)
        try:
            mongodb.start()
            yield f"{mongodb.url}/soak"
        finally:
            mongodb.kill()
    elif name == "cassandra":
        from servers.cassandra_server import CassandraServer

        cassandra = CassandraServer(folder, commitlog_sync="periodic")  # the default of Cassandra
        try:
            cassandra.start()
            yield f"{cassandra.url}/soak"
        finally:
            cassandra.kill()
    else:
        yield name


def _run(url: str, minutes: float, rate: float) -> list[Result]:
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    http = f"127.0.0.1:{free_port()}"
    count = int(minutes * 60 * rate)
    samples: list[Sample] = []
    with process(COMMAND, "router", "--ingress", ingress, "--egress", egress, ready=ingress):
        sink_command = (COMMAND, "sink", url, "--egress", egress, "--topic", TOPIC, "--http", http)
        with (
            process(*sink_command, ready=http, environment=ENVIRONMENT) as sink,
            process(*script("emitter.py", ingress, str(count), str(rate)), stdout=subprocess.PIPE) as emitter,
        ):
            began_s = time.monotonic()
            while _is_running(emitter):
                samples.append(_sample(sink, http, time.monotonic() - began_s))
            assert emitter.stdout is not None
            source = json.loads(emitter.stdout.readline())
            ended_s = time.monotonic()
            until(lambda: _is_settled(http, source), 120, pause_s=0.05)
            settled_s = time.monotonic() - ended_s
            samples.append(_sample(sink, http, time.monotonic() - began_s))
            stream, store = _account(http, source["source_id"])
    return _results(samples, source, stream, store, settled_s, _not_once(url, source))


def _is_running(emitter: subprocess.Popen[str]) -> bool:
    """Wait for the next moment to look, or the end."""
    try:
        emitter.wait(LOOK_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _sample(sink: subprocess.Popen[str], http: str, at_s: float) -> Sample:
    [store] = _ledger(http)["stores"]
    sample = Sample(at_s, psutil.Process(sink.pid).memory_info().rss / 2**20, store["queue_bytes"] / 2**10)
    print(
        f"{at_s:6.0f} s  {store['stored']:12,} stored  {sample.queue_kib:10,.0f} KiB wait  "
        f"{sample.memory_mib:8.1f} MiB of memory  {store['last_error']}",
        file=sys.stderr,
        flush=True,
    )
    return sample


def _ledger(http: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{http}/api/ledger", timeout=30) as answer:
        document: dict[str, Any] = json.load(answer)
        return document


def _account(http: str, source_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the sink says of the source's stream: what was received, and what became of it in the store."""
    for stream in _ledger(http)["streams"]:
        if stream["source"]["id"] == source_id and stream["topic"] == TOPIC:
            return stream, stream["stores"][0]
    return {}, {}


def _lost(store: dict[str, Any]) -> int:
    return int(sum(store[name] for name in ("refused", "overflowed", "lost_source", "lost_way")))


def _is_settled(http: str, source: dict[str, Any]) -> bool:
    _, store = _account(http, source["source_id"])
    return bool(store) and not store["pending"] and store["stored"] + _lost(store) >= source["emitted"]


def _not_once(url: str, source: dict[str, Any]) -> int:
    """Ask the store itself, and return how many numbers are not there exactly once; the lost ones are among them."""
    begin = bytes.fromhex(source["source_id"])
    if url.startswith("mongodb:"):
        # Identities are unique there, so that a count says it all. The one server to be had here sorts in memory, and
        # answers nothing else while it looks: neither must be taken for its end.
        place = uri_parser.parse_uri(url)
        with MongoClient[dict[str, Any]](url, connectTimeoutMS=600_000) as client:
            wanted = {"_id": {"$gte": begin + bytes(12), "$lte": begin + b"\xff" * 12}}  # a shorter one would be less
            there = client[place["database"]][place["collection"] or "events"].count_documents(wanted)
        return int(source["emitted"]) - there
    times = bytearray(source["emitted"])
    readable = open_to_read(url, SinkSettings())
    try:
        for event in readable.read([TOPIC]):
            if event.id.startswith(begin):
                times[int.from_bytes(event.id[16:], "big")] += 1
    finally:
        readable.close()
    return len(times) - times.count(1)


def _results(
    samples: list[Sample],
    source: dict[str, Any],
    stream: dict[str, Any],
    store: dict[str, Any],
    settled_s: float,
    not_once: int,
) -> list[Result]:
    emitted, lost = source["emitted"], _lost(store)
    late = samples[len(samples) // 2 :]
    memory_mib = statistics.median(each.memory_mib for each in late)
    slope, _ = statistics.linear_regression([each.at_s for each in late], [each.memory_mib for each in late])
    growth = slope * (late[-1].at_s - late[0].at_s) / memory_mib
    rate = emitted / source["seconds"]
    return [
        Result("emitted", emitted, "events", detail=f"{rate:,.0f}/s"),
        Result("received", stream["received"], "events", at_least=emitted - lost),
        Result("emitted - stored - lost", abs(emitted - store["stored"] - lost), "events", at_most=0),
        Result("lost", lost, "events", at_most=0),
        Result("in the store not exactly once", not_once, "events", at_most=lost),
        Result("the most that waited", max(each.queue_kib for each in samples), "KiB", detail="looked at every 10 s"),
        Result("left in the queue", samples[-1].queue_kib, "KiB", at_most=0, detail=f"{settled_s:.1f} s after the end"),
        Result("the sink's memory, last half", memory_mib, "MiB"),
        Result("its growth in that half", 100 * growth, "%", at_most=5),
    ]
