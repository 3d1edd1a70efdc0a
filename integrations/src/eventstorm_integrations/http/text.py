"""Texts that BSON can hold and that are of bounded length, whatever a client sent."""

from __future__ import annotations

__all__ = ["MAX_TEXT", "from_bytes", "from_header", "from_latin1", "number", "type_name", "valid"]

MAX_TEXT = 4096
"""Longer paths, queries and headers are cut."""


def from_latin1(value: str) -> str:
    """Return the text that a string of WSGI stands for: each of its characters is a byte (PEP 3333), of UTF-8."""
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT]
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:  # a server that does not keep to it
        return valid(value)


def from_bytes(value: bytes) -> str:
    """Return bytes as text; what is not UTF-8 becomes U+FFFD."""
    return value[:MAX_TEXT].decode("utf-8", "replace")


def from_header(value: str | bytes) -> str:
    """Return the text of a header, as WSGI or as ASGI has it."""
    return from_bytes(value) if isinstance(value, bytes) else from_latin1(value)


def number(value: str) -> int | None:
    """Return the number that a header has; None if it is none, or none that fits into 64 bits."""
    return int(value) if len(value) <= 18 and value.isascii() and value.isdigit() else None


def valid(value: str) -> str:
    """Return `value`, cut, with U+FFFD for each half of a surrogate pair that stands alone."""
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT]
    if value.isascii():
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def type_name(error: BaseException) -> str:
    """Return an exception's name as OpenTelemetry's ``error.type`` has it: with its module, unless that is builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
