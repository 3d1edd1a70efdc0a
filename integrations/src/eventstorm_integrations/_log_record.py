"""A log record as an encoded ``log.record`` event: bounded in size, and nothing that BSON could refuse."""

from __future__ import annotations

import datetime
import logging
import struct
import traceback
import uuid
from collections.abc import Mapping
from itertools import islice
from types import TracebackType
from typing import Any

from eventstorm_integrations._log_head import head_of
from eventstorm_integrations._log_text import MOST_TEXT, ends_of, fields_of, representation_of, text_of, utf_8_of

__all__ = ["encode_record"]

_length = struct.Struct("<i").pack

# In characters as MOST_TEXT is: together they stay well below the SDK's max_event_bytes.
_MOST_BODY = 32 * 1024
_MOST_STACK = 48 * 1024
_MOST_EXTRA = 24 * 1024
_MOST_FRAMES = 100
_MOST_ITEMS = 100
_MOST_DEPTH = 5
# What a number or a key takes of the room for extra fields, whatever its length.
_COST_OF_ONE = 16

# A common field of one of these names is left out, as `emit` does.
_NAMES = frozenset(
    ("severity_text", "severity_number", "body", "template", "logger", "code", "thread", "exception", "extra")
)

_PLAIN_RECORD = logging.LogRecord("", 0, "", 0, "", (), None).__dict__
# What a formatter leaves behind in a record is not the application's.
_NOT_EXTRA = frozenset({*_PLAIN_RECORD, "message", "asctime", "taskName"})
_PLAIN_LENGTH = len(_PLAIN_RECORD)


def encode_record(record: logging.LogRecord, common: Mapping[str, Any] | None) -> bytes | None:
    """Return the event of `record` with the common fields of its context, encoded; None if it is Eventstorm's own.

    The message is formatted here and nowhere else. What the records of a place have alike is encoded once, and what
    each has of its own is a text, so that no dictionary is made: that would double what a record costs. If the common
    fields cannot be encoded the event is empty bytes, which the SDK refuses and counts as it does with other events.

    Raises:
        BaseException: whatever formatting the message raises.
    """
    head = head_of(record)
    if head is None:
        return None
    text = record.getMessage()
    # Nearly all are plain, and need no call.
    is_plain = type(text) is str and len(text) < MOST_TEXT and text.isascii()
    body = text.encode() if is_plain else utf_8_of(text, _MOST_BODY)
    more = b""
    if record.exc_info or record.exc_text or len(record.__dict__) > _PLAIN_LENGTH:
        more = fields_of(_more(record))
    if common is not None:
        try:
            more += _common_fields(common)
        except Exception:
            return b""
    size = len(head) + len(body) + len(more) + 10  # two lengths of 4 bytes, and a NUL after the text and the document
    return b"".join((_length(size), head, _length(len(body) + 1), body, b"\0", more, b"\0"))


def _more(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that most records do not have."""
    more = {}
    if (record.exc_info or record.exc_text) and (exception := _exception(record)):
        more["exception"] = exception
    extra = {name: value for name, value in list(record.__dict__.items()) if name not in _NOT_EXTRA}
    if len(extra) == 1 and type(extra.get("extra")) is dict:
        extra = extra["extra"]  # loguru hands all its fields over as one of that name
    if extra:
        more["extra"] = _Plain().mapping(extra)
    return more


def _common_fields(common: Mapping[str, Any]) -> bytes:
    global _last_common
    before, fields = _last_common
    if common is not before:
        # Nobody changes such a mapping, and most records of a request follow upon each other.
        fields = fields_of({name: value for name, value in common.items() if name not in _NAMES})
        _last_common = common, fields
    return fields


def _exception(record: logging.LogRecord) -> dict[str, Any]:
    kind: type[BaseException] | None
    value: BaseException | None
    trace: TracebackType | None
    kind, value, trace = record.exc_info or (None, None, None)
    described: dict[str, Any] = {}
    if kind is not None:
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        described["type"] = text_of(f"{module}{kind.__qualname__}")
        try:
            described["message"] = text_of(str(value))
        except Exception:
            described["message"] = f"<its text cannot be had: {text_of(kind.__qualname__, 200)}.__str__ raises>"
    # What a formatter has put there is used again, as other formatters do; loguru puts a line feed there.
    stack = record.exc_text.strip() if type(record.exc_text) is str else ""
    if not stack and kind is not None:
        # As many frames as may fit at best: the last ones, where it happened.
        stack = "".join(traceback.format_exception(kind, value, trace, limit=-_MOST_FRAMES)).rstrip()
    if stack:
        described["stacktrace"] = ends_of(text_of(stack, None), _MOST_STACK)
    return described


class _Plain:
    """Makes of any value one that BSON can hold, within a room that all values of a record share."""

    def __init__(self) -> None:
        self._room = _MOST_EXTRA

    def mapping(self, values: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
        """Return a document of the first so many values that there is room for."""
        document = {}
        for name, value in islice(list(values.items()), _MOST_ITEMS):
            if self._room <= 0:
                break
            key = str(text_of(name, MOST_TEXT // 16)).replace("\0", "\\0")
            self._room -= _COST_OF_ONE + len(key)
            document[key] = self._value(value, depth + 1)
        return document

    def _value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str or issubclass(kind, str):
            text = text_of(value, max(1, min(MOST_TEXT, self._room)))
            self._room -= len(text)
            return text
        if kind is int and -(2**63) <= value < 2**63:
            return value
        if value is None or kind in (bool, float, uuid.UUID):
            return value
        if kind is datetime.datetime and 1 < value.year < 9999 and type(value.tzinfo) in _SAFE_ZONES:
            return value
        if depth < _MOST_DEPTH:
            if kind is dict:
                return self.mapping(value, depth)
            if kind is list or kind is tuple:
                return self._array(value, depth)
        text = text_of(representation_of(value), max(1, min(MOST_TEXT, self._room)))
        self._room -= len(text)
        return text

    def _array(self, values: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        array = []
        for value in values[:_MOST_ITEMS]:
            if self._room <= 0:
                break
            self._room -= _COST_OF_ONE
            array.append(self._value(value, depth + 1))
        return array


# Whose offset is a constant; others may raise.
_SAFE_ZONES = (type(None), datetime.timezone)

_last_common: tuple[Mapping[str, Any] | None, bytes] = None, b""
