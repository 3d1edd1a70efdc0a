"""Make the vectors in this folder: ``python sdk/vectors/generate.py``. They are also what the wire's tests are made of.

Nothing here uses `eventstorm`: the bytes are put together from the specification, so that the vectors can find its
faults. ``data`` is in canonical MongoDB Extended JSON, bytes are in hexadecimal.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bson
from bson import json_util

Json = dict[str, Any]
SOURCE = "0123456789abcdef01234567"
AT_MS = 1_700_000_000_123
INT64_MOST = 2**63 - 1


def header(**changes: Any) -> Json:
    """Return a header's fields; a change to None leaves one out."""
    fields: Json = {
        "v": 1,
        "src": bson.ObjectId(SOURCE),
        "tid": 0,
        "seq": bson.Int64(0),
        "n": 1,
        "drop": bson.Int64(0),
        "at": bson.DatetimeMS(AT_MS),
        "host": "web-1",
        "service": "shop",
        "pid": 4711,
    }
    fields.update(changes)
    return {name: value for name, value in fields.items() if value is not None}


def event(data: Any, ts_ms: int = AT_MS) -> bytes:
    """Return one event, from a document or from bytes that pass for one."""
    encoded = data if isinstance(data, bytes) else bson.encode(data)
    return struct.pack("<i4sq6s", len(encoded) + 23, b"\x09ts\0", ts_ms, b"\x03data\0") + encoded + b"\0"


def frames(topic: bytes = b"shop.order\0", head: Any = None, payload: bytes | None = None) -> list[bytes]:
    """Return a message, by default a valid one of one event."""
    head = header() if head is None else head
    encoded = head if isinstance(head, bytes) else bson.encode(head)
    return [topic, encoded, event({"total": 42.5}) if payload is None else payload]


def valid() -> list[Json]:
    """Messages and what they mean."""
    types = {
        "double": 1.5,
        "nan": float("nan"),
        "string": "grüße \u0000 \U0001f389",
        "document": {"": {"a.b": 1, "$c": 2}},
        "array": [1, "two", None, [3]],
        "binary": bson.Binary(b"\x00\xff", 128),
        "id": bson.ObjectId("ffeeddccbbaa998877665544"),
        "true": True,
        "date": datetime(1969, 7, 20, 20, 17, 40, tzinfo=timezone.utc),
        "null": None,
        "regex": bson.Regex("^a", "i"),
        "code": bson.Code("f()"),
        "int32": -1,
        "timestamp": bson.Timestamp(1, 2),
        "int64": bson.Int64(2**62),
        "decimal": bson.Decimal128("1.10"),
        "min": bson.MinKey(),
        "max": bson.MaxKey(),
    }
    nested: Json = {}
    for _ in range(60):
        nested = {"d": nested}
    made: list[tuple[str, str, Json, list[tuple[int, Json]]]] = [
        ("one event", "shop.order", {}, [(AT_MS, {"total": 42.5})]),
        ("three events", "a", {"seq": bson.Int64(7), "n": 3}, [(AT_MS + i, {"i": i}) for i in range(3)]),
        ("an empty document", "a", {}, [(0, {})]),
        ("every type of BSON", "types", {}, [(AT_MS, types)]),
        ("a nested document", "a", {}, [(AT_MS, nested)]),
        ("a heartbeat before the first event", "a", {"n": 0}, []),
        ("a heartbeat that tells of drops", "a", {"seq": bson.Int64(10), "n": 0, "drop": bson.Int64(10)}, []),
        ("as many drops as numbers", "a", {"seq": bson.Int64(4), "drop": bson.Int64(5)}, [(AT_MS, {})]),
        ("a farewell", "a", {"seq": bson.Int64(1), "n": 0, "bye": True}, []),
        ("a farewell with the last event", "a", {"bye": True}, [(AT_MS, {})]),
        ("bye that is false", "a", {"bye": False}, [(AT_MS, {})]),
        ("keys that this version does not know", "a", {"x": {"y": [1]}, "zz": bson.Regex("x")}, [(AT_MS, {})]),
        ("int32 where int64 is usual", "a", {"seq": 3, "drop": 2}, [(AT_MS, {})]),
        ("int64 where int32 is usual", "a", {"v": bson.Int64(1), "tid": bson.Int64(2), "n": bson.Int64(1)}, [(0, {})]),
        ("the greatest numbers", "a", {"tid": 2**31 - 1, "seq": bson.Int64(INT64_MOST - 1)}, [(AT_MS, {})]),
        ("the longest topic", "a" * 200, {}, [(AT_MS, {})]),
        ("a topic of many segments", "a.b-c.d_e.0", {}, [(AT_MS, {})]),
        ("a reserved topic", "eventstorm.stats", {}, [(AT_MS, {})]),
        ("times before 1970 and beyond the calendar", "a", {"n": 2}, [(-1, {}), (INT64_MOST, {})]),
        ("empty names", "a", {"host": "", "service": ""}, [(AT_MS, {})]),
        ("names that are no ASCII", "a", {"host": "hôst", "service": "a\u0000b\u001b[31m"}, [(AT_MS, {})]),
    ]
    vectors = []
    for name, topic, changes, events in made:
        fields = header(**changes)
        message = frames(topic.encode() + b"\0", fields, b"".join(event(data, ts_ms) for ts_ms, data in events))
        meaning = {
            "topic": topic,
            "src": SOURCE,
            "tid": int(fields["tid"]),
            "seq": int(fields["seq"]),
            "n": int(fields["n"]),
            "drop": int(fields["drop"]),
            "at_ms": AT_MS,
            "host": fields["host"],
            "service": fields["service"],
            "pid": fields["pid"],
            "bye": bool(fields.get("bye")),
            "events": [
                {
                    "id": SOURCE + struct.pack(">iq", int(fields["tid"]), int(fields["seq"]) + number).hex(),
                    "ts_ms": ts_ms,
                    "data": _extended(data),
                }
                for number, (ts_ms, data) in enumerate(events)
            ],
        }
        vectors.append({"name": name, "frames": [frame.hex() for frame in message], "meaning": meaning})
    return vectors


def invalid() -> list[Json]:
    """Messages to reject, and which part is wrong."""
    good = event({"a": 1})
    deep = b"\x05\0\0\0\0"
    for _ in range(500):
        deep = struct.pack("<i", len(deep) + 8) + b"\x03a\0" + deep + b"\0"
    plain = bson.encode(header())

    def patched(data: bytes, offset: int, value: bytes) -> bytes:
        return data[:offset] + value + data[offset + len(value) :]

    made: list[tuple[str, str, list[bytes]]] = [
        ("no frames", "frames", []),
        ("one frame", "frames", [b"a\0"]),
        ("two frames", "frames", frames()[:2]),
        ("four frames", "frames", [*frames(), b""]),
        ("ten frames", "frames", [b"a\0"] * 10),
    ]
    topics = {
        "empty topic frame": b"",
        "no topic before NUL": b"\0",
        "no NUL after the topic": b"shop.order",
        "two NULs": b"shop.order\0\0",
        "a NUL within": b"shop\0order\0",
        "upper case": b"Shop\0",
        "a space": b"shop order\0",
        "a line break": b"shop\n\0",
        "an escape sequence": b"\x1b[31mred\0",
        "an empty segment": b"a..b\0",
        "a dot in front": b".a\0",
        "a dot at the end": b"a.\0",
        "201 bytes": b"a" * 201 + b"\0",
        "not ASCII": "größe".encode() + b"\0",
        "not UTF-8": b"a\xff\0",
        "a star": b"a.*\0",
    }
    made += [(f"topic: {name}", "topic", frames(topic)) for name, topic in topics.items()]
    versions = {"missing": None, "2": 2, "0": 0, "a double": 1.0, "a boolean": True, "a string": "1"}
    made += [(f"version: {name}", "version", frames(head=header(v=value))) for name, value in versions.items()]
    heads: dict[str, Any] = {
        "an empty frame": b"",
        "not BSON": b"hello",
        "length beyond the frame": patched(plain, 0, struct.pack("<i", len(plain) + 1)),
        "length short of the frame": patched(plain, 0, struct.pack("<i", len(plain) - 1)),
        "a negative length": patched(plain, 0, struct.pack("<i", -1)),
        "cut off": plain[:-10],
        "bytes after the document": plain + b"\0",
        "a string that is not UTF-8": plain.replace(b"web-1", b"web-\xff"),
        "an unknown type": plain.replace(b"\x10pid\0", b"\x42pid\0"),
        "longer than 4096 bytes": header(padding="x" * 4096),
        "nested deeply beyond the limit": header(x=bson.decode(deep), y="x" * 2048),
        "seq and n past 2^63": header(seq=bson.Int64(INT64_MOST)),
        "more drops than numbers": header(drop=bson.Int64(2)),
        "bye is a number": header(bye=1),
        "bye is null": plain[:-1].replace(plain[:4], struct.pack("<i", len(plain) + 5), 1) + b"\x0abye\0\0",
        "src is a string": header(src=SOURCE),
        "src is binary": header(src=bson.Binary(bytes(12))),
        "at is a number": header(at=bson.Int64(AT_MS)),
        "at is a timestamp": header(at=bson.Timestamp(1, 1)),
        "host is code": header(host=bson.Code("x")),
        "host is a number": header(host=1),
        "service is binary": header(service=bson.Binary(b"shop")),
    }
    heads |= {f"{name} is missing": header(**{name: None}) for name in header() if name != "v"}
    for name in ("tid", "seq", "n", "drop", "pid"):
        heads |= {
            f"{name} is negative": header(**{name: -1}),
            f"{name} is a double": header(**{name: 1.0}),
            f"{name} is a boolean": header(**{name: True}),
            f"{name} is a string": header(**{name: "1"}),
        }
    heads |= {f"{name} is over 31 bits": header(**{name: bson.Int64(2**31)}) for name in ("tid", "n", "pid")}
    made += [(f"header: {name}", "header", frames(head=head)) for name, head in heads.items()]
    payloads = {
        "fewer events than n": (2, good),
        "more events than n": (1, good * 2),
        "events in a heartbeat": (0, good),
        "nothing, with n = 1": (1, b""),
        "n of 2^31 - 1": (2**31 - 1, good),
        "cut off": (1, good[:-1]),
        "cut off in the second event": (2, (good * 2)[:-3]),
        "bytes after the last event": (1, good + b"\0"),
        "a length of zero": (1, patched(good, 0, struct.pack("<i", 0))),
        "a negative length": (1, patched(good, 0, struct.pack("<i", -5))),
        "a length beyond the payload": (1, patched(good, 0, struct.pack("<i", len(good) + 1))),
        "a length that swallows the next event": (1, patched(good, 0, struct.pack("<i", 2 * len(good))) + good),
        "a length of 2^31 - 1": (1, patched(good, 0, struct.pack("<i", 2**31 - 1))),
        "data longer than its event": (1, patched(good, 22, struct.pack("<i", 1000))),
        "data shorter than its event": (1, patched(good, 22, struct.pack("<i", 5))),
        "data of a negative length": (1, patched(good, 22, struct.pack("<i", -1))),
        "no NUL at the end of data": (1, patched(good, len(good) - 2, b"\x01")),
        "no NUL at the end of the event": (1, patched(good, len(good) - 1, b"\x01")),
        "data before ts": (1, bson.encode({"data": {"a": 1}, "ts": bson.DatetimeMS(0)})),
        "ts only": (1, bson.encode({"ts": bson.DatetimeMS(0)})),
        "a third field": (1, bson.encode({"ts": bson.DatetimeMS(0), "data": {}, "x": 1})),
        "ts is a number": (1, bson.encode({"ts": bson.Int64(0), "data": {}})),
        "data is an array": (1, good.replace(b"\x03data", b"\x04data")),
        "data is a string": (1, bson.encode({"ts": bson.DatetimeMS(0), "data": "xxxxxxxx"})),
        "bare documents": (1, bson.encode({"total": 42.5, "items": [1, 2, 3]})),
        "JSON": (1, b'{"ts": 1, "data": {"a": "some text"}}'),
    }
    made += [(f"payload: {name}", "payload", frames(head=header(n=n), payload=p)) for name, (n, p) in payloads.items()]
    return [
        {"name": name, "reason": reason, "frames": [frame.hex() for frame in message]} for name, reason, message in made
    ]


def ledger() -> list[Json]:
    """Headers of one stream in the order of their arrival, and a reader's account after them."""

    def steps(*headers: tuple[int, int, int]) -> list[Json]:
        return [dict(zip(("seq", "n", "drop"), each, strict=True)) for each in headers]

    def counts(first: int, following: int, received: int, source: int = 0, way: int = 0, twice: int = 0) -> Json:
        return {
            "first_seq": first,
            "next_seq": following,
            "received": received,
            "lost_source": source,
            "lost_way": way,
            "duplicates": twice,
        }

    made = [
        ("nothing is lost", steps((0, 0, 0), (0, 3, 0), (3, 2, 0), (5, 0, 0)), counts(0, 5, 5)),
        ("listening begins late", steps((100, 5, 7), (105, 5, 7)), counts(100, 110, 10)),
        ("listening begins with a heartbeat", steps((40, 0, 3), (40, 2, 3)), counts(40, 42, 2)),
        ("the first batch is lost", steps((0, 0, 0), (3, 2, 0)), counts(0, 5, 2, way=3)),
        ("a batch is lost on the way", steps((0, 3, 0), (6, 3, 0)), counts(0, 9, 6, way=3)),
        ("the tail is lost", steps((0, 3, 0), (6, 0, 0)), counts(0, 6, 3, way=3)),
        ("the source drops", steps((0, 3, 0), (10, 2, 7)), counts(0, 12, 5, source=7)),
        ("the source drops at the tail", steps((0, 3, 0), (10, 0, 7)), counts(0, 10, 3, source=7)),
        ("both in one gap", steps((0, 3, 0), (10, 2, 4)), counts(0, 12, 5, source=4, way=3)),
        (
            "a lost batch, then drops",
            steps((0, 3, 0), (6, 3, 0), (12, 1, 3), (13, 0, 3)),
            counts(0, 13, 7, source=3, way=3),
        ),
        ("drops from before listening count nowhere", steps((10, 2, 10), (15, 1, 10)), counts(10, 16, 3, way=3)),
        ("only heartbeats", steps((0, 0, 0), (0, 0, 0)), counts(0, 0, 0)),
        ("a batch comes twice", steps((0, 3, 0), (0, 3, 0), (3, 1, 0)), counts(0, 4, 4, twice=3)),
        ("a batch overlaps", steps((0, 3, 0), (2, 3, 0)), counts(0, 5, 5, twice=1)),
        ("an old heartbeat", steps((0, 3, 0), (1, 0, 0), (3, 1, 0)), counts(0, 4, 4)),
    ]
    return [{"name": name, "headers": headers, "account": account} for name, headers, account in made]


def topics() -> Json:
    """Topics that are and are not, and what people's patterns subscribe to."""
    patterns = {"": "", "*": "", "http.hit": "http.hit\0", "http.": "http.", "http.*": "http.", "a.b.*": "a.b."}
    return {
        "valid": ["a", "0", "-", "_", "http.hit", "a-b_c.d0", "eventstorm.stats", "a" * 200],
        "invalid": ["", ".", "a.", ".a", "a..b", "A", "a b", "a\0", "a\n", "a/b", "a*", "é", "\uff41", "a" * 201],
        "subscriptions": [{"pattern": key, "prefix": value.encode().hex()} for key, value in patterns.items()],
        "invalid_subscriptions": ["http*", "**", "*.hit", "a..", "a.**", ".", ".*", "A", "a b", "a\0"],
    }


def _extended(document: Json) -> Json:
    text = json_util.dumps(document, json_options=json_util.CANONICAL_JSON_OPTIONS)
    extended: Json = json.loads(text)
    return extended


FILES: dict[str, Callable[[], Any]] = {
    "valid.json": valid,
    "invalid.json": invalid,
    "ledger.json": ledger,
    "topics.json": topics,
}


def text_of(name: str) -> str:
    """Return what the file of that name has to hold."""
    return json.dumps(FILES[name](), indent=1) + "\n"


if __name__ == "__main__":
    for file_name in FILES:
        Path(__file__).with_name(file_name).write_text(text_of(file_name), encoding="utf-8")
