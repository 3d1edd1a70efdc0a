"""A log record as the fields of a ``log.record`` event: bounded in size, and nothing that BSON could refuse.

Names and severities are those of OpenTelemetry's semantic conventions and log data model
(https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber).
"""

from __future__ import annotations

import datetime
import logging
import traceback
import uuid
from collections.abc import Mapping
from itertools import islice
from types import TracebackType
from typing import Any

__all__ = ["describe"]

# In characters, of which UTF-8 takes four bytes at most: together they stay well below the SDK's max_event_bytes.
_MOST_BODY = 32 * 1024
_MOST_STACK = 48 * 1024
_MOST_TEXT = 4 * 1024
_MOST_EXTRA = 24 * 1024
_MOST_FRAMES = 100
_MOST_ITEMS = 100
_MOST_DEPTH = 5
# What a number or a key takes of the room for extra fields, whatever its length.
_COST_OF_ONE = 16

_SEVERITIES = {
    logging.DEBUG: ("DEBUG", 5),
    logging.INFO: ("INFO", 9),
    logging.WARNING: ("WARN", 13),
    logging.ERROR: ("ERROR", 17),
    logging.CRITICAL: ("FATAL", 21),
}
_SEVERITY_NAMES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")

_PLAIN_RECORD = logging.LogRecord("", 0, "", 0, "", (), None).__dict__
# What a formatter leaves behind in a record is not the application's.
_NOT_EXTRA = frozenset({*_PLAIN_RECORD, "message", "asctime", "taskName"})
_PLAIN_LENGTH = len(_PLAIN_RECORD)


def describe(record: logging.LogRecord) -> dict[str, Any]:
    """Return the event of `record`, whose message is formatted here and nowhere else.

    Raises:
        Exception: whatever formatting the message raises.
    """
    severity = _SEVERITIES.get(record.levelno) or _severity(record)
    body = record.getMessage()
    event: dict[str, Any] = {
        "severity_text": severity[0],
        "severity_number": severity[1],
        "body": body if type(body) is str and len(body) < _MOST_TEXT and body.isascii() else _text(body, _MOST_BODY),
        "logger": _text(record.name),
        "code": {
            "file": {"path": _text(record.pathname)},
            "function": {"name": _text(record.funcName)},
            "line": {"number": _number(record.lineno)},
        },
        "thread": {"id": _number(record.thread), "name": _text(record.threadName)},
    }
    if record.args:
        event["template"] = _text(record.msg)
    if (record.exc_info or record.exc_text) and (exception := _exception(record)):
        event["exception"] = exception
    if record.stack_info:
        event["code"]["stacktrace"] = _ends(_text(record.stack_info, None), _MOST_STACK // 4)
    if len(record.__dict__) > _PLAIN_LENGTH:
        extra = {name: value for name, value in list(record.__dict__.items()) if name not in _NOT_EXTRA}
        if len(extra) == 1 and type(extra.get("extra")) is dict:
            extra = extra["extra"]  # loguru hands all its fields over as one of that name
        if extra:
            event["extra"] = _Plain().mapping(extra)
    return event


def _severity(record: logging.LogRecord) -> tuple[str, int]:
    """Return the severity of a level that is not one of the five: between theirs, by its own name if it has one."""
    level, name = record.levelno, record.levelname
    number = min(max(1 + 4 * level // 10, 1), 24) if isinstance(level, int) else 0
    if number == 0 or (type(name) is str and not name.startswith("Level ")):
        return _text(name) or "", number
    rank = (number - 1) % 4 + 1
    return f"{_SEVERITY_NAMES[(number - 1) // 4]}{rank if rank > 1 else ''}", number


def _exception(record: logging.LogRecord) -> dict[str, Any]:
    kind: type[BaseException] | None
    value: BaseException | None
    trace: TracebackType | None
    kind, value, trace = record.exc_info or (None, None, None)
    described: dict[str, Any] = {}
    if kind is not None:
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        described["type"] = _text(f"{module}{kind.__qualname__}")
        try:
            described["message"] = _text(str(value))
        except Exception:
            described["message"] = f"<its text cannot be had: {_text(kind.__qualname__, 200)}.__str__ raises>"
    # What a formatter has put there is used again, as other formatters do; loguru puts a line feed there.
    stack = record.exc_text.strip() if type(record.exc_text) is str else ""
    if not stack and kind is not None:
        # As many frames as may fit at best: the last ones, where it happened.
        stack = "".join(traceback.format_exception(kind, value, trace, limit=-_MOST_FRAMES)).rstrip()
    if stack:
        described["stacktrace"] = _ends(_text(stack, None), _MOST_STACK)
    return described


def _text(value: object, most: int | None = _MOST_TEXT) -> Any:
    """Return a text that can be encoded, of at most so many characters; None stays None."""
    if type(value) is not str:
        if value is None:
            return None
        # Not isinstance, which asks an object for its class; nor str(), which asks a subclass for its text.
        value = str.__str__(value) if issubclass(type(value), str) else _representation(value)  # pyright: ignore[reportArgumentType]
    if most is not None and len(value) > most:
        value = f"{value[: most - 1]}…"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # lone surrogates, as file names have them
            value = value.encode("utf-8", "backslashreplace").decode()
    return value


def _ends(text: str, most: int) -> str:
    """Return `text`, or its first and its last part if it is longer: of a stack, both ends tell the most."""
    if len(text) <= most:
        return text
    first, last = most // 4, most - most // 4
    return f"{text[:first]}\n… {len(text) - first - last:,} characters left out …\n{text[-last:]}"


def _number(value: object) -> int | None:
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _representation(value: object) -> str:
    """Return a short ``repr`` of anything, also of what has none."""
    from reprlib import Repr  # only here, since few records need it

    short = Repr()
    short.maxother = short.maxstring = short.maxlong = _MOST_TEXT // 4
    try:
        return short.repr(value)
    except Exception:
        return f"<{type(value).__name__} without a repr>"


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
            key = str(_text(name, _MOST_TEXT // 16)).replace("\0", "\\0")
            self._room -= _COST_OF_ONE + len(key)
            document[key] = self._value(value, depth + 1)
        return document

    def _value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str or issubclass(kind, str):
            text = _text(value, max(1, min(_MOST_TEXT, self._room)))
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
        text = _text(_representation(value), max(1, min(_MOST_TEXT, self._room)))
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
