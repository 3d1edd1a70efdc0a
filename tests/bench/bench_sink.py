"""From the wire into committed rows: `eventstorm sink` with an embedded router and DuckDB, fed ready-made messages."""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from statistics import median

import bson
import zmq

from eventstorm.wire import Header, encode_event, encode_message
from harness import COMMAND, FIELDS, TOPIC, Result, free_port, process, until

EVENTS_A_BATCH = 400


def run(quick: bool) -> list[Result]:
    """Measure."""
    rounds, batches = (1, 250) if quick else (5, 750)
    rates = [_pass(batches) for _ in range(rounds)]
    return [
        Result(
            "wire → committed in DuckDB",
            median(rates),
            "events/s",
            at_least=60_000,
            detail=f"median of {rounds}, {batches * EVENTS_A_BATCH:,} events each",
        )
    ]


def _pass(batches: int) -> float:
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    http = f"127.0.0.1:{free_port()}"
    messages = _messages(batches)
    with (
        tempfile.TemporaryDirectory() as folder,
        process(
            *(COMMAND, "sink", f"duckdb:{folder}/events.duckdb", "--embed-router"),
            *("--ingress", ingress, "--egress", egress, "--http", http),
            ready=http,
        ),
        zmq.Context() as context,
        context.socket(zmq.XPUB) as source,
    ):
        source.sndhwm = 0
        source.linger = 0
        source.connect(ingress)
        source.recv()  # the sink's subscription
        url = f"http://{http}/api/ledger"
        start = time.perf_counter()
        for frames in messages:
            source.send_multipart(frames)
        # Asked seldom, since answering takes time from storing.
        until(lambda: _stored(url) >= batches * EVENTS_A_BATCH, 120, pause_s=0.1)
        return batches * EVENTS_A_BATCH / (time.perf_counter() - start)


def _messages(batches: int) -> list[list[bytes]]:
    now, source_id = time.time_ns() // 1_000_000, bson.ObjectId().binary
    payload = encode_event(now, bson.encode(FIELDS)) * EVENTS_A_BATCH
    return [
        encode_message(
            TOPIC,
            Header(
                source_id=source_id,
                tid=0,
                seq=index * EVENTS_A_BATCH,
                n=EVENTS_A_BATCH,
                drop=0,
                at_ms=now,
                host="bench",
                service="bench",
                pid=1,
            ),
            payload,
        )
        for index in range(batches)
    ]


def _stored(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as answer:
        streams = json.load(answer)["streams"]
    return sum(store["stored"] for stream in streams if stream["topic"] == TOPIC for store in stream["stores"])
