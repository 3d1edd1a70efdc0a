"""Stored events as bytes: the envelope goes around the user's document, which nobody decodes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, Source, StoredEvent, StreamKey

__all__ = ["Documents", "decode_event", "encode_events", "envelope_bytes", "first_invalid", "stream_id"]

# {_id: 24 bytes, ts: datetime, topic: …, source: {…}, data: …}. All but the length, the number and the time is the same
# for all events of a batch.
_length = struct.Struct("<i").pack
_ID = b"\x05_id\0" + _length(24) + b"\0"
_TS = b"\x09ts\0"
_DATA = b"\x03data\0"
_END = b"\0"
_options: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
# The parts beside the middle and the document: length, _id, ts, closing byte.
_FIXED_BYTES = 4 + len(_ID) + 24 + 12 + 1


class Documents(Mapping[str, Any]):
    """Documents one after the other, as a message to a server has them (OP_MSG, a section of kind 1).

    The driver takes them for one `RawBSONDocument`, of which it copies the bytes without a look at them. To make and to
    hand over one for each would take longer than all the rest.
    """

    _type_marker = RawBSONDocument._type_marker

    def __init__(self, documents: bytes) -> None:
        self.raw = documents
        """The bytes of all."""

    def identities(self) -> list[bytes]:
        """Return the ``_id`` of each document, as `encode_events` has put it there."""
        documents, found, at = self.raw, [], 0
        while at < len(documents):
            identity_at = at + 4 + len(_ID)
            found.append(documents[identity_at : identity_at + 24])
            at += int.from_bytes(documents[at : at + 4], "little")
        return found

    def __getitem__(self, name: str) -> NoReturn:
        """Raise KeyError: to whoever looks inside, the driver's log say, there is nothing."""
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def encode_events(batch: Batch, events: Events) -> bytes:
    """Return the events of a batch as the documents that are stored, one after the other.

    What is in the users' documents is not looked at: it is copied, to the byte.
    """
    head, middle = _ID + stream_id(batch.key), _middle(batch.topic, batch.source)
    pack = struct.Struct(f"<i{len(head)}s8s{len(_TS)}sq{len(middle)}s").pack
    fixed_bytes = _FIXED_BYTES + len(middle)
    documents = [
        pack(fixed_bytes + len(data), head, seq.to_bytes(8, "big"), _TS, ts_ms, middle) + data
        for seq, ts_ms, data in zip(events.seqs, events.ts_ms, events.documents, strict=True)
    ]
    documents.append(b"")
    return _END.join(documents)


def envelope_bytes(batch: Batch) -> int:
    """Return how much larger the events of a batch are as stored than their users' documents."""
    return _FIXED_BYTES + len(_middle(batch.topic, batch.source))


def _middle(topic: str, source: Source) -> bytes:
    """Return what stands between the time and the user's document."""
    fields = {
        "topic": topic,
        "source": {
            "id": ObjectId(source.id),
            "host": source.host,
            "service": source.service,
            "pid": source.pid,
        },
    }
    return bson.encode(fields)[4:-1] + _DATA


def stream_id(key: StreamKey) -> bytes:
    """Return how the identities of a stream's events begin: 16 bytes."""
    return key.source_id + key.tid.to_bytes(4, "big")


def decode_event(document: RawBSONDocument) -> StoredEvent | None:
    """Return a stored event, or None if the document is something that somebody else put there."""
    try:
        identity, topic, source = document["_id"], document["topic"], document["source"]
        found = StoredEvent(
            identity,
            int(document["ts"]),
            topic,
            Source(source["id"].binary, source["host"], source["service"], source["pid"]),
            bytes(document["data"].raw),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return found if type(identity) is bytes and len(identity) == 24 and type(topic) is str else None


def first_invalid(batch: Batch) -> str:
    """Return why an event of a batch is no BSON, or an empty text if all are.

    Only asked when a server has refused them, since it looks at every value.
    """
    for event in batch.events:
        try:
            bson.decode(event.data, _options)
        except Exception as error:  # bson raises several kinds for hostile bytes, RecursionError among them
            return f"event {event.seq} of {batch.topic} is no BSON: {str(error)[:200]}"
    return ""
