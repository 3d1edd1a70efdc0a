"""The usual lines of an access log, straight to BSON (https://bsonspec.org), without a dictionary in between.

Text goes as it is between constant parts; what is made of a text and repeats in a log, as referring pages do, is
encoded once. All of it is joined as text whose characters are bytes, and becomes bytes at the end, which takes less
than encoding each part.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import bson

from eventstorm_integrations.http.redact import Redaction
from eventstorm_integrations.logs.nginx.variables import METHODS, Path, Target, whole

__all__ = ["EMPTY", "VERSIONS", "Encode", "encoder"]

Encode = Callable[[Sequence[str]], bytes]

VERSIONS = {f"HTTP/{version}": version for version in ("1.0", "1.1", "2.0", "3.0")}
"""The protocols of usual request lines."""

EMPTY: tuple[Path, ...] = (("http", "request"), ("http", "response"), ("client",))
"""Documents that an event has also where nothing is in them."""

# More than a site has pages that link to it, and longer texts than usual ones are not kept: about 1 MB a variable.
_MOST_KEPT = 2000
_MOST_KEPT_TEXT = 500

_ALWAYS = {path[:depth] for path in EMPTY for depth in range(1, len(path) + 1)}
_ASKED = """
    method, target, protocol = v{request}.split(' ')
    if target[0] != '/':
        raise ValueError
    path, question, query = target.partition('?')
    if '=' in query:
        query = redacted(query)
"""
_int32 = struct.Struct("<i").pack
# Lengths as BSON has them. An event with a longer part is none of the usual ones.
_LENGTHS = [_int32(length).decode("latin-1") for length in range(10_000)]


class _Leaf(NamedTuple):
    """A value's place in the event."""

    variable: str
    """What it is called in the function that is made."""
    convert: Callable[[str], Any] | None
    """Makes the value of the text; None if it is the text itself."""
    given: str = ""
    """On which condition there is such a text; empty for always."""


def encoder(targets: Sequence[Target | None], request: int, redaction: Redaction) -> Encode | None:
    """Make the function that encodes a line's values; None if several of them tell of one thing.

    The function takes values that are ASCII and have no escapes. It raises `LookupError`, `ValueError` or
    `struct.error` where the request line or a number is none of the usual ones.

    Args:
        targets: where the values of the format's variables go; None for those that are not in the event, and for the
            request line.
        request: which value is the request line; negative for none.
        redaction: what is not told of its query.
    """
    leaves = [(each.path, _leaf(f"v{index}", each)) for index, each in enumerate(targets) if each is not None]
    if request >= 0:
        leaves += [
            (("http", "request", "method"), _Leaf("method", {each: each for each in METHODS}.__getitem__)),
            (("url", "path"), _Leaf("path", None)),
            (("url", "query"), _Leaf("query", None, "question")),
            (("network", "protocol", "version"), _Leaf("protocol", VERSIONS.__getitem__)),
        ]
    places = dict(leaves)
    documents = {path[:depth] for path in places for depth in range(1, len(path))}
    if len(places) < len(leaves) or not documents.isdisjoint(places):
        return None
    writer = _Writer(places)
    writer.scope["redacted"] = redaction.query
    document = writer.document(())
    head = [
        "def encode(values):",
        f"    {''.join(f'v{index}, ' for index in range(len(targets)))} = values",
        _ASKED.format(request=request) if request >= 0 else "",
    ]
    tail = f"    return f'{document.text}'.encode('latin-1')"
    exec("\n".join([*head, *writer.lines, tail]), writer.scope)
    encode: Encode = writer.scope["encode"]
    return encode


class _Part(NamedTuple):
    """Some of the event's text, in the source of the function."""

    text: str
    """How it is written in an f-string."""
    size: str
    """The expression for its length."""
    sure: bool
    """Whether there is always something."""


class _Writer:
    """Writes the function as source code, as `dataclasses` does: a loop over the values takes several times longer."""

    def __init__(self, leaves: dict[Path, _Leaf]) -> None:
        self._leaves = leaves
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {"int32": _int32, "latin": "latin-1", "length": _LENGTHS}

    def document(self, path: Path) -> _Part:
        """Write the document at this path."""
        names = dict.fromkeys(
            each[len(path)] for each in (*self._leaves, *EMPTY) if each[: len(path)] == path and each != path
        )
        parts = [self._field((*path, name)) for name in names]
        size = self._variable(" + ".join([part.size for part in parts] + ["5"]))
        text = f"{{length[{size}]}}{''.join(part.text for part in parts)}\\0"
        return _Part(text, size, path in _ALWAYS or any(part.sure for part in parts))

    def _field(self, path: Path) -> _Part:
        leaves = [leaf for leaf in self._leaves if leaf[: len(path)] == path]
        empty = [each for each in EMPTY if each[: len(path)] == path]
        if len(leaves) == 1 and all(leaves[0][: len(each)] == each for each in empty):
            return self._value(path, leaves[0], *self._leaves[leaves[0]])
        document = self.document(path)
        text = f"{_constant(f'{chr(3)}{path[-1]}{chr(0)}')}{document.text}"
        if document.sure:
            return _Part(text, f"{document.size} + {len(path[-1]) + 2}", True)
        return self._chosen(f"f'{text}' if {document.size} > 5 else ''")

    def _value(self, path: Path, leaf: Path, variable: str, convert: Callable[[str], Any] | None, given: str) -> _Part:
        """Write the field at this path, in which there is nothing but this leaf."""
        otherwise = _constant(_chain(path, leaf))
        if convert is None:
            text, more = _within(path, leaf, variable)
            if given:
                return self._chosen(f"f'{text}' if {given} else '{otherwise}'")
            return _Part(text, f"len({variable}) + {more}", True)
        if convert is whole:
            ends = len(leaf) - len(path)  # a NUL for each document
            before = _constant(_chain(path, leaf, 0)[: -4 - ends])
            text = f"{before}{{int32(int({variable})).decode(latin)}}{_constant(chr(0) * ends)}"
            return self._chosen(f"f'{text}' if {given} else '{otherwise}'")
        kept = f"kept{len(self.scope)}"
        self.scope[kept] = _Kept(path, leaf, convert)
        return self._chosen(f"{kept}[{variable}]")

    def _chosen(self, expression: str) -> _Part:
        """Write an expression for what there may be."""
        name = self._variable(expression)
        return _Part(f"{{{name}}}", f"len({name})", False)

    def _variable(self, expression: str) -> str:
        """Write what keeps the value of an expression; return the variable that has it."""
        name = f"x{len(self.lines)}"
        self.lines.append(f"    {name} = {expression}")
        return name


class _Kept(dict[str, str]):
    """Values that were encoded before, each with the documents that only it is in."""

    def __init__(self, path: Path, leaf: Path, convert: Callable[[str], Any]) -> None:
        super().__init__()
        self._path, self._leaf, self._convert = path, leaf, convert

    def __missing__(self, text: str) -> str:
        encoded = _chain(self._path, self._leaf, self._convert(text))
        if len(self) >= _MOST_KEPT:
            self.clear()
        if len(text) <= _MOST_KEPT_TEXT:
            self[text] = encoded
        return encoded


def _chain(path: Path, leaf: Path, value: Any = None) -> str:
    """Encode the field at this path, in which there is nothing but this leaf; it may have no value."""
    document = {} if value is None else {leaf[-1]: value}
    for depth in range(len(leaf) - 1, len(path) - 1, -1):
        document = {leaf[depth - 1]: document} if document or leaf[:depth] in _ALWAYS else {}
    return bson.encode(document)[4:-1].decode("latin-1")


def _within(path: Path, leaf: Path, variable: str) -> tuple[str, int]:
    """Write a text's field with the documents that only it is in; return it and its bytes beside those of the text."""
    source = f"{_constant(f'{chr(2)}{leaf[-1]}{chr(0)}')}{{length[len({variable}) + 1]}}{{{variable}}}\\0"
    more = len(leaf[-1]) + 7
    for name in reversed(leaf[len(path) - 1 : -1]):
        source = f"{_constant(f'{chr(3)}{name}{chr(0)}')}{{length[len({variable}) + {more + 5}]}}{source}\\0"
        more += len(name) + 7
    return source, more


def _leaf(variable: str, target: Target) -> _Leaf:
    given = f"{variable} != '-' and {variable}"
    if target.convert is str:
        return _Leaf(variable, None, given)
    # A number of bytes is another one at each line; the other numbers are few.
    if target.convert is whole and target.path[-1] not in ("status_code", "port"):
        return _Leaf(variable, whole, given)
    return _Leaf(variable, partial(_unless_missing, target.convert))


def _unless_missing(convert: Callable[[str], Any], text: str) -> Any:
    return None if text in ("", "-") else convert(text)


def _constant(text: str) -> str:
    """Return a text as it is written in the source of an f-string."""
    return "".join(each if each.isascii() and each.isalnum() else f"\\x{ord(each):02x}" for each in text)
