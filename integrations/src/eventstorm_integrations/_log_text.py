"""Texts and numbers that BSON can hold, of whatever a log record has in their place, and their encoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

__all__ = ["MOST_TEXT", "ends_of", "fields_of", "number_of", "representation_of", "text_of", "utf_8_of"]

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)

MOST_TEXT = 4 * 1024
"""In characters, of which UTF-8 takes four bytes at most."""


def text_of(value: object, most: int | None = MOST_TEXT) -> Any:
    """Return a text that can be encoded, of at most so many characters; None stays None."""
    if type(value) is not str:
        if value is None:
            return None
        # Not isinstance, which asks an object for its class; nor str(), which asks a subclass for its text.
        value = str.__str__(value) if issubclass(type(value), str) else representation_of(value)  # pyright: ignore[reportArgumentType]
    if most is not None and len(value) > most:
        value = f"{value[: most - 1]}…"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # lone surrogates, as file names have them
            value = value.encode("utf-8", "backslashreplace").decode()
    return value


def ends_of(text: str, most: int) -> str:
    """Return `text`, or its first and its last part if it is longer: of a stack, both ends tell the most."""
    if len(text) <= most:
        return text
    first, last = most // 4, most - most // 4
    return f"{text[:first]}\n… {len(text) - first - last:,} characters left out …\n{text[-last:]}"


def number_of(value: object) -> int | None:
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def representation_of(value: object) -> str:
    """Return a short ``repr`` of anything, also of what has none."""
    from reprlib import Repr  # only here, since few records need it

    short = Repr()
    short.maxother = short.maxstring = short.maxlong = MOST_TEXT // 4
    try:
        return short.repr(value)
    except Exception:
        return f"<{type(value).__name__} without a repr>"


def utf_8_of(value: object, most: int = MOST_TEXT) -> bytes:
    """Return `text_of` a value that is not None, in UTF-8."""
    if type(value) is str and len(value) <= most:
        try:
            return value.encode()
        except UnicodeEncodeError:
            pass
    return str(text_of(value, most)).encode()


def fields_of(document: Mapping[str, Any]) -> bytes:
    """Return a document's fields in BSON (https://bsonspec.org): without the length before, and the NUL byte behind."""
    return bson.encode(document, codec_options=_OPTIONS)[4:-1]
