"""Texts that BSON can hold and that are of bounded length, whatever a client sent or a server made of it.

What is no text at all becomes an empty one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["MAX_TEXT", "from_bytes", "from_header", "from_latin1", "number", "pairs", "type_name", "valid"]

MAX_TEXT = 4096
"""Longer paths, queries and headers are cut."""


def from_latin1(value: object) -> str:
    """Return the text that a string of WSGI stands for: each of its characters is a byte (PEP 3333), of UTF-8."""
    if not isinstance(value, str):
        return ""
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT]
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:  # a server that does not keep to it
        return valid(value)


def from_bytes(value: object) -> str:
    """Return bytes as text; what is not UTF-8 becomes U+FFFD."""
    if not isinstance(value, bytes):
        return ""
    return value[:MAX_TEXT].decode("utf-8", "replace")


def from_header(value: object) -> str:
    """Return the text of a header, as WSGI or as ASGI has it."""
    return from_latin1(value) if isinstance(value, str) else from_bytes(value)


def pairs(headers: object, kind: type) -> Iterator[tuple[Any, Any]]:
    """Yield the headers whose name and value are of a kind."""
    for each in headers if isinstance(headers, Iterable) else ():
        if (
            isinstance(each, (list, tuple))
            and len(each) == 2
            and isinstance(each[0], kind)
            and isinstance(each[1], kind)
        ):
            yield each[0], each[1]


def number(value: object) -> int | None:
    """Return the number that a header has; None if it is none, or none that fits into 64 bits."""
    if not isinstance(value, (str, bytes)):
        return None
    return int(value) if len(value) <= 18 and value.isascii() and value.isdigit() else None


def valid(value: object) -> str:
    """Return `value`, cut, with U+FFFD for each half of a surrogate pair that stands alone."""
    if not isinstance(value, str):
        return ""
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT]
    if value.isascii():
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def type_name(error: BaseException) -> str:
    """Return an exception's name as OpenTelemetry's ``error.type`` has it: with its module, unless that is builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
