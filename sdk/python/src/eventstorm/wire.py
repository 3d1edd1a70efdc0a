"""The wire, version 1: one message is one batch of events of one topic from one source, in three frames.

``sdk/WIRE.md`` in the repository is the specification; ``sdk/vectors`` has examples of it in JSON. This module does no
I/O. Writers call `encode_message`, readers `decode_message`, which takes whatever a socket gave: it raises nothing but
`WireError`, and checks all of the structure except the inside of the users' documents.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple, overload

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.objectid import ObjectId

from eventstorm.errors import WireError
from eventstorm.topics import is_valid_topic, wire_topic

__all__ = [
    "ENVELOPE_BYTES",
    "MAX_HEADER_BYTES",
    "VERSION",
    "Event",
    "Events",
    "Header",
    "Message",
    "decode_message",
    "encode_event",
    "encode_message",
    "event_id",
    "start_event",
]

VERSION = 1
MAX_HEADER_BYTES = 4096
MAX_SEQ = 2**63 - 1

# An event is {ts: datetime, data: document}: total length, 0x09 "ts" NUL, milliseconds, 0x03 "data" NUL, the document,
# NUL. Both names have fixed places, so a reader can step over events without decoding them.
_envelope = struct.Struct("<i4sq6s")
_envelope_and_length = struct.Struct("<i4sq6si")
_identity = struct.Struct(">12siq")
_TS = b"\x09ts\0"
_DATA = b"\x03data\0"
_END = b"\0\0"  # of the document and of the event around it
ENVELOPE_BYTES = _envelope.size + 1
_EMPTY_DOCUMENT_BYTES = 5
_MARK_BYTES = 16

# As what bson gives int32 and int64. The exact types, since bool is a subclass of int.
_INTEGERS = (int, bson.Int64)

# Milliseconds in place of datetimes: `at` may lie outside of what datetime can hold, and a hostile one must not raise.
_header_options: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


class Event(NamedTuple):
    """One event of a message, its user's document still encoded."""

    seq: int
    ts_ms: int
    """When it was emitted, in milliseconds since 1970 UTC."""
    data: bytes
    """The user's document: BSON, exactly the bytes that the source encoded, not looked into yet."""


@dataclass(frozen=True, slots=True)
class Events(Sequence[Event]):
    """Events of one stream in the order of their numbers: columns, cheaper to make and to hand on than a tuple each."""

    seqs: Sequence[int]
    ts_ms: Sequence[int]
    documents: Sequence[bytes]

    @classmethod
    def of(cls, events: Iterable[Event]) -> Events:
        """Turn single events into columns."""
        columns = list(zip(*events, strict=True))
        return cls(*columns) if columns else cls((), (), ())

    @classmethod
    def joined(cls, parts: Sequence[Events]) -> Events:
        """Put events that follow one another together."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            list(chain.from_iterable(part.seqs for part in parts)),
            list(chain.from_iterable(part.ts_ms for part in parts)),
            list(chain.from_iterable(part.documents for part in parts)),
        )

    def since(self, seq: int) -> Events:
        """Return those numbered from `seq` on."""
        index = bisect_left(self.seqs, seq)
        return self[index:] if index else self

    def __len__(self) -> int:
        return len(self.seqs)

    def __iter__(self) -> Iterator[Event]:
        return map(Event, self.seqs, self.ts_ms, self.documents)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> Events: ...

    def __getitem__(self, index: int | slice) -> Event | Events:
        if isinstance(index, slice):
            return Events(self.seqs[index], self.ts_ms[index], self.documents[index])
        return Event(self.seqs[index], self.ts_ms[index], self.documents[index])


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a message: see ``sdk/WIRE.md`` for each field."""

    source_id: bytes
    """`src`: the 12 bytes of the ObjectId of this incarnation of the source."""
    tid: int
    seq: int
    n: int
    drop: int
    at_ms: int
    host: str
    service: str
    pid: int
    bye: bool = False


class _Marks(NamedTuple):
    """What a walk through a payload found: while a message waits, 16 bytes an event, where a copy takes over 100."""

    ts_ms: array[int]
    stops: array[int]
    """Where the users' documents end."""


@dataclass(frozen=True, slots=True)
class Message:
    """A valid message."""

    topic: str
    header: Header
    payload: bytes

    _marks: _Marks | None = field(default=None, repr=False, compare=False)

    def events(self) -> Events:
        """Return the events, in order, numbered from the header's `seq`; made anew each time.

        Raises:
            WireError: the payload is not what the header says. `decode_message` has looked at that already.
        """
        ts_ms, stops = self._marks or _read_payload(self.payload, self.header)
        documents: list[bytes] = []
        payload, add, start = self.payload, documents.append, _envelope.size
        for stop in stops:
            add(payload[start:stop])
            start = stop + ENVELOPE_BYTES
        return Events(range(self.header.seq, self.header.seq + self.header.n), ts_ms.tolist(), documents)

    @property
    def size_bytes(self) -> int:
        """How much memory its parts take whose size is up to the source; a character takes four bytes at most."""
        header = self.header
        return len(self.payload) + _MARK_BYTES * header.n + 4 * (len(header.host) + len(header.service))


def event_id(source_id: bytes, tid: int, seq: int) -> bytes:
    """Return an event's identity, 24 bytes: source, topic number and sequence number, big-endian."""
    return _identity.pack(source_id, tid, seq)


def encode_event(ts_ms: int, data: bytes) -> bytes:
    """Wrap an encoded document into the event that a payload holds."""
    return start_event(len(data), ts_ms) + data + b"\0"


def start_event(data_bytes: int, ts_ms: int) -> bytes:
    """Return what goes before the `data_bytes` of an encoded document; one NUL byte goes after it."""
    return _envelope.pack(data_bytes + ENVELOPE_BYTES, _TS, ts_ms, _DATA)


def encode_message(topic: str, header: Header, payload: bytes) -> list[bytes]:
    """Return the three frames of a message; `payload` is `header.n` results of `encode_event`, joined."""
    document: dict[str, Any] = {
        "v": VERSION,
        "src": ObjectId(header.source_id),
        "tid": header.tid,
        "seq": bson.Int64(header.seq),
        "n": header.n,
        "drop": bson.Int64(header.drop),
        "at": bson.DatetimeMS(header.at_ms),
        "host": header.host,
        "service": header.service,
        "pid": header.pid,
    }
    if header.bye:
        document["bye"] = True
    return [wire_topic(topic), bson.encode(document), payload]


def decode_message(frames: Sequence[bytes]) -> Message:
    """Check a message from a socket and return it.

    Raises:
        WireError: the message is not of this version of the wire. Nothing else is raised, whatever the bytes.
    """
    if len(frames) != 3:
        raise WireError("frames", f"{len(frames)} frames where a message has 3")
    topic = _decode_topic(frames[0])
    header = _decode_header(frames[1])
    return Message(topic, header, frames[2], _read_payload(frames[2], header))


def _decode_topic(frame: bytes) -> str:
    if not frame.endswith(b"\0"):
        raise WireError("topic", "the first frame does not end with a NUL byte")
    try:
        topic = frame[:-1].decode("ascii")
    except UnicodeDecodeError:
        raise WireError("topic", "not ASCII") from None
    if not is_valid_topic(topic):
        raise WireError("topic", f"{topic[:80]!r} is no topic")
    return topic


def _decode_header(frame: bytes) -> Header:
    if len(frame) > MAX_HEADER_BYTES:
        raise WireError("header", f"{len(frame)} bytes; the limit is {MAX_HEADER_BYTES}")
    try:
        document = bson.decode(frame, _header_options)
    except Exception as error:  # bson raises several kinds for hostile bytes, RecursionError among them
        raise WireError("header", f"not a BSON document: {str(error)[:200]}") from None
    version = document.get("v")
    if type(version) not in _INTEGERS or version != VERSION:
        raise WireError("version", f"v is {str(version)[:80]!r}; this reader knows {VERSION}")
    header = Header(
        source_id=_field(document, "src", ObjectId).binary,
        tid=_number(document, "tid", 2**31 - 1),
        seq=_number(document, "seq", MAX_SEQ),
        n=_number(document, "n", 2**31 - 1),
        drop=_number(document, "drop", MAX_SEQ),
        at_ms=_milliseconds(document),
        host=_field(document, "host", str),
        service=_field(document, "service", str),
        pid=_number(document, "pid", 2**31 - 1),
        bye=_field(document, "bye", bool) if "bye" in document else False,
    )
    if header.seq > MAX_SEQ - header.n:
        raise WireError("header", f"seq {header.seq} and n {header.n} pass 2^63")
    if header.drop > header.seq + header.n:
        raise WireError("header", f"drop {header.drop} is more than the {header.seq + header.n} events numbered so far")
    return header


def _field(document: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = document.get(name)
    if type(value) is not kind:  # exactly: BSON's code is a subclass of str
        raise WireError("header", f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def _number(document: dict[str, Any], name: str, most: int) -> int:
    value: Any = document.get(name)
    if type(value) not in _INTEGERS or not 0 <= value <= most:
        raise WireError("header", f"{name} is {str(value)[:80]!r}, not an integer from 0 to {most}")
    return int(value)


def _milliseconds(document: dict[str, Any]) -> int:
    value = document.get("at")
    if isinstance(value, bson.DatetimeMS):
        return int(value)
    raise WireError("header", f"at is {type(value).__name__}, not {datetime.__name__}")


def _read_payload(payload: bytes, header: Header) -> _Marks:
    """Walk the payload: exactly `header.n` events of the fixed shape, back to back, and nothing else."""
    times: list[int] = []
    stops: list[int] = []
    size, start, unpack = len(payload), 0, _envelope_and_length.unpack_from
    least = ENVELOPE_BYTES + _EMPTY_DOCUMENT_BYTES
    while start < size:
        if size - start < least:
            raise WireError("payload", f"{size - start} bytes left over at {start}")
        length, ts, ts_ms, data, document_length = unpack(payload, start)
        if ts != _TS or data != _DATA:
            raise WireError("payload", f"the document at {start} is not {{ts: datetime, data: document}}")
        if not least <= length <= size - start:
            raise WireError("payload", f"the document at {start} says {length} bytes, {size - start} are there")
        if document_length != length - ENVELOPE_BYTES:
            raise WireError("payload", f"the lengths at {start} contradict each other")
        stop = start + length
        if not payload.endswith(_END, start, stop):
            raise WireError("payload", f"the document that ends at {stop} has no closing NUL bytes")
        times.append(ts_ms)
        stops.append(stop - 1)
        start = stop
    if len(stops) != header.n:
        raise WireError("payload", f"{len(stops)} events where the header says {header.n}")
    return _Marks(array("q", times), array("q", stops))
