"""Sharing: which of several sinks of one router stores a message. Pure; decided by the message's first bytes.

ZeroMQ subscribes by prefixes of topics, so each of the sinks receives everything that it subscribes to and leaves out,
before anything is decoded, what others store. The division is a function of a stream's source or topic alone: crc32 of
it, modulo the number of shares. So all messages of a stream come to the same sink, which sees every gap in its numbers,
and sinks need not know of each other.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from math import gcd
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.objectid import ObjectId

from eventstorm.errors import SettingError
from eventstorm.wire import MAX_HEADER_BYTES

__all__ = ["WHOLE", "Share"]

MAX_SHARES = 65_536
# A header that begins with these, after its length, goes on with the source's id: so do those of all our sources.
_BEFORE_SOURCE = b"\x10v\0\x01\0\0\0\x07src\0"
_SOURCE = slice(4 + len(_BEFORE_SOURCE), 4 + len(_BEFORE_SOURCE) + 12)
_OWN_TOPICS = "eventstorm."
_header_options: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


@dataclass(frozen=True, slots=True)
class Share:
    """The `number`-th of `of` shares, from 1; by ``source``, or by ``topic``.

    Eventstorm's own topics, ``eventstorm.loss`` and the like, are always shared by source, so that a sink stores what
    it tells of itself.
    """

    number: int = 1
    of: int = 1
    by: str = "source"

    @classmethod
    def parse(cls, text: str, by: str, place: str) -> Share:
        """Read ``2/3``.

        Raises:
            SettingError: it is not a share.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]) <= MAX_SHARES:
            raise SettingError(f"{place}: {text!r} is no share; write the second of three as 2/3, {MAX_SHARES} at most")
        return cls(int(found[1]), int(found[2]), by)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def part(self, number: int, of: int) -> Share:
        """Return the `number`-th of `of` equal parts of this share: a share as well."""
        return Share(self.number + self.of * (number - 1), self.of * of, self.by)

    def takes(self, topic: str, source_id: bytes) -> bool:
        """Tell whether a stream belongs to this share."""
        return self._has(source_id if self._goes_by_source(topic) else topic.encode())

    def takes_message(self, frames: Sequence[bytes]) -> bool:
        """Tell the same of a message as it comes from a socket; one that is malformed belongs to some share too."""
        if self.of == 1:
            return True
        if self.by == "topic" and not frames[0].startswith(_OWN_TOPICS.encode()):
            return self._has(frames[0][:-1])
        return self._has(_source_of(frames[1]) if len(frames) > 1 else b"")

    def _goes_by_source(self, topic: str) -> bool:
        # A * stands for many topics, in accounts that are not kept topic by topic any more.
        return self.by == "source" or topic.startswith(_OWN_TOPICS) or topic == "*"

    def _has(self, key: bytes) -> bool:
        return zlib.crc32(key) % self.of == self.number - 1

    def overlaps(self, other: Share) -> bool:
        """Tell whether there may be a stream that belongs to both."""
        return self.by != other.by or (self.number - other.number) % gcd(self.of, other.of) == 0

    def remainder_id(self, topic: str) -> bytes:
        """Return 12 bytes that are no source's id, always the same for a topic, and different in each share.

        They name the account of those streams of the topic that are not kept one by one any more.
        """
        for attempt in count():
            salt = attempt.to_bytes(8, "big") if attempt else b""
            found = blake2b(topic.encode(), digest_size=12, salt=salt).digest()
            if self._has(found) or not self._goes_by_source(topic):
                return found
        raise AssertionError  # `count` does not end

    def new_source_id(self) -> bytes:
        """Return the id of a new source in this share."""
        while not self._has(found := ObjectId().binary):
            pass
        return found


WHOLE = Share()


def _source_of(header: bytes) -> bytes:
    if header[4 : _SOURCE.start] == _BEFORE_SOURCE:
        return header[_SOURCE]
    if len(header) > MAX_HEADER_BYTES:
        return b""
    try:  # the order of keys means nothing
        source = bson.decode(header, _header_options).get("src")
    except Exception:  # bson raises several kinds for hostile bytes, RecursionError among them
        return b""
    return source.binary if isinstance(source, ObjectId) else b""
