"""How fast events get into DuckDB: as they come off the wire, against the same rows ready-made as Arrow.

Ready-made means: every column is there, only the documents are still to become `VARIANT`, from the same JSON text. A
second table has them as Arrow structs: a program that knows the fields of its documents beforehand could do that.
Needs pyarrow, for the comparison alone. Also ``python tests/bench/bench_duckdb.py [--quick] [--json]``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bson
import duckdb
import msgspec

from eventstorm.wire import Header, decode_message, encode_event, encode_message
from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.commands.sink import SWITCH_INTERVAL_S
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores.duckdb import DuckdbStore
from harness import FIELDS, Result, table

SOURCE = Source(b"0123456789ab", "host-1.example.org", "shop", 4711)
TOPIC = "http.hit"
NOW_MS = 1_700_000_000_000
EVENTS_IN_MESSAGE = 250  # about 64 KiB, where a source sends
MESSAGES_IN_WRITE = 80
ROWS = EVENTS_IN_MESSAGE * MESSAGES_IN_WRITE
COLUMNS = "id, ts, topic, source, data, bson"


def run(quick: bool) -> list[Result]:
    """Measure both ways in turn, each into a file of its own, and return medians."""
    import pyarrow

    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the sink does, in whose process a store lives
    rounds = 4 if quick else 25
    seconds: dict[str, list[float]] = {"wire": [], "text": [], "structs": []}
    numbers = itertools.count(0, ROWS)
    with tempfile.TemporaryDirectory() as folder:
        store = DuckdbStore(f"{folder}/store.duckdb", SinkSettings())
        peers = {
            name: duckdb.connect(f"{folder}/{name}.duckdb", config=_settings(store)) for name in ("text", "structs")
        }
        for peer in peers.values():
            peer.execute(_schema(store))
        for _ in range(rounds):
            first_seq = next(numbers)
            messages = [_message(first_seq + at) for at in range(0, ROWS, EVENTS_IN_MESSAGE)]
            structs = _arrow(pyarrow, first_seq)
            text = _with_text(pyarrow, structs)
            calls: list[tuple[str, Callable[[], object]]] = [
                ("wire", partial(_write, store, messages, first_seq)),
                ("text", partial(_insert, peers["text"], text, "data::JSON::VARIANT")),
                ("structs", partial(_insert, peers["structs"], structs, "data::VARIANT")),
            ]
            for name, call in random.sample(calls, len(calls)):  # so that none always comes after the same other
                seconds[name].append(_seconds(call))
        stored = store.sql("SELECT count(*) FROM events", max_rows=1, timeout_s=60).rows[0][0]
        assert all(
            peer.execute("SELECT count(*) FROM events").fetchall()[0][0] == stored == ROWS * rounds
            for peer in peers.values()
        )
        store.close()
        for peer in peers.values():
            peer.close()
        size_bytes = Path(folder, "store.duckdb").stat().st_size
    # Over all rounds, not their median: what DuckDB puts off to a checkpoint belongs to the cost.
    wire, text, structs = (ROWS * rounds / sum(seconds[name]) for name in ("wire", "text", "structs"))
    ratio = statistics.median(arrow / wire for wire, arrow in zip(seconds["wire"], seconds["text"], strict=True))
    return [
        Result("wire -> committed in DuckDB", wire, "events/s", at_least=60_000, detail="with its checkpoints"),
        Result("the same rows ready-made as Arrow", text, "events/s", detail="with its checkpoints"),
        Result("wire -> committed / ready-made Arrow", wire / text, "x", at_least=0.6, detail=f"median {ratio:.2f}"),
        Result("documents ready-made as Arrow structs", structs, "events/s", detail="with its checkpoints"),
        Result("size on disk", size_bytes / (ROWS * rounds), "bytes/event"),
    ]


def _message(first_seq: int) -> list[bytes]:
    payload = b"".join(
        encode_event(NOW_MS + seq, bson.encode(_fields(seq))) for seq in range(first_seq, first_seq + EVENTS_IN_MESSAGE)
    )
    host, service, pid = SOURCE.host, SOURCE.service, SOURCE.pid
    header = Header(SOURCE.id, 0, first_seq, EVENTS_IN_MESSAGE, 0, NOW_MS, host, service, pid)
    return encode_message(TOPIC, header, payload)


def _fields(seq: int) -> dict[str, object]:
    """Seven fields whose values vary as they do in life."""
    return {**FIELDS, "path": f"/shop/{seq % 5000}", "size": seq % 99_991, "duration": seq % 1_000_003 / 7e6}


def _write(store: DuckdbStore, messages: list[list[bytes]], first_seq: int) -> None:
    batches = [
        Batch(message.topic, SOURCE, message.header.tid, message.events()) for message in map(decode_message, messages)
    ]
    total = first_seq + ROWS
    store.write(batches, [Book(TOPIC, SOURCE, 0, 0, total, 0, stored=total)])


def _arrow(pyarrow: object, first_seq: int) -> object:
    source = SOURCE._asdict()
    prefix = SOURCE.id + bytes(4)
    seqs = range(first_seq, first_seq + ROWS)
    return pyarrow.table(  # type: ignore[attr-defined]  # has no types
        {
            "id": [prefix + seq.to_bytes(8, "big") for seq in seqs],
            "ts": pyarrow.array([NOW_MS + seq for seq in seqs]).cast(pyarrow.timestamp("ms", "UTC")),  # type: ignore[attr-defined]
            "topic": [TOPIC] * ROWS,
            "source": [source] * ROWS,
            "data": [_fields(seq) for seq in seqs],
            "bson": pyarrow.nulls(ROWS, pyarrow.binary()),  # type: ignore[attr-defined]
        }
    )


def _with_text(pyarrow: object, structs: object) -> object:
    """Replace the documents by their JSON."""
    encode = msgspec.json.Encoder().encode
    text = [encode(each).decode() for each in structs["data"].to_pylist()]  # type: ignore[index]
    return structs.set_column(structs.schema.get_field_index("data"), "data", pyarrow.array(text))  # type: ignore[attr-defined]


def _insert(peer: duckdb.DuckDBPyConnection, ready: object, variant: str) -> None:
    peer.begin()
    peer.register("ready", ready)
    peer.execute(f"INSERT INTO events SELECT {COLUMNS.replace('data', variant)} FROM ready").fetchall()
    peer.unregister("ready")
    peer.commit()


def _schema(store: DuckdbStore) -> str:
    query = "SELECT sql FROM duckdb_tables() WHERE table_name = 'events'"
    return str(store.sql(query, max_rows=1, timeout_s=60).rows[0][0])


def _settings(store: DuckdbStore) -> dict[str, str]:
    """Return what the store's own database is set to, of all that matters for speed."""
    names = ("threads", "memory_limit", "checkpoint_threshold", "storage_compatibility_version")
    columns = ", ".join(f"current_setting('{name}')::VARCHAR" for name in names)
    row = store.sql(f"SELECT {columns}", max_rows=1, timeout_s=60).rows[0]
    return dict(zip(names, map(str, row), strict=True))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> int:
    """Run it alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short and rough")
    parser.add_argument("--json", action="store_true", help="print an object a line")
    arguments = parser.parse_args()
    results = run(arguments.quick)
    if arguments.json:
        for each in results:
            target = each.at_least if each.at_least is not None else each.at_most
            row = {"name": each.what, "value": each.value, "unit": each.unit, "target": target, "ok": each.passed}
            print(json.dumps(row))
    else:
        print(table(results))
    return 0 if all(each.passed for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
