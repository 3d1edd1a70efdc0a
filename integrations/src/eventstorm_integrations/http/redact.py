"""Secrets in headers and query strings: whose names are known, and what is written instead of their values."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from eventstorm.errors import SettingError

__all__ = ["REDACTED", "SECRET_NAMES", "Redaction", "check_names"]

REDACTED = "[redacted]"

SECRET_NAMES = (
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "auth",
    "code",
    "jwt",
    "key",
    "pass",
    "pwd",
    "sid",
    "sig",
    "*accesskey*",
    "*apikey*",
    "*credential*",
    "*passphrase*",
    "*passwd*",
    "*password*",
    "*privatekey*",
    "*secret*",
    "*session*",
    "*signature*",
    "*token*",
)
"""Of headers and query parameters. Letters' case, ``-`` and ``_`` do not matter: ``X-API-Key`` is one of them."""

# What separates names and values. `?` and `#` do too, since a value may be a URL that has parameters of its own, and
# all of them are percent-encoded once more each time that one URL is put into another: `%3D` is `=`, `%253D` is `%3D`.
# A `%` is followed by digits only, so that no text makes the search look at one twice.
_MARK = re.compile(r"(=|%(?:25)*3[Dd])|([&;]|%(?:25)*(?:26|3[Bb]))|[?#]|%(?:25)*(?:3[Ff]|23)")
_ENCODED_EQUALS = re.compile(r"%(?:25)*3[Dd]")
_URL_PART = re.compile(r"[?#]")
_MAX_NAME = 200


def check_names(value: Any, place: str) -> Any:
    """Return what a setting has as names that are secret, or are not.

    Raises:
        SettingError: one of them is empty.
    """
    for each in value:
        if not each:
            raise SettingError(f"{place}: an empty name; write one such as 'password' or '*token*'")
    return value


class Redaction:
    """Knows which names are secret. Safe from any thread."""

    def __init__(self, redact: Iterable[str] = (), reveal: Iterable[str] = ()) -> None:
        """Take names beside `SECRET_NAMES`, and names that are not secret whatever the others say."""
        secret = _expression([*SECRET_NAMES, *redact])
        shown = _expression(reveal)

        # Names repeat; a client that makes up others pushes these out, and that is all.
        @lru_cache(maxsize=1024)
        def is_secret(name: str) -> bool:
            if len(name) > _MAX_NAME:
                return True
            plain = _plain(unquote_plus(name))
            return shown.fullmatch(plain) is None and secret.fullmatch(plain) is not None

        self.is_secret = is_secret
        """Tell whether a header or a parameter of this name, which may be percent-encoded, is a secret."""

    def query(self, query: str) -> str:
        """Return a query string with the values of secret parameters replaced."""
        # Most have none, which splitting tells at a fraction of the cost of searching.
        plain = query
        if ";" in query or "?" in query or "#" in query:
            plain = query.replace(";", "&").replace("?", "&").replace("#", "&")
        for part in plain.split("&"):
            name, is_parameter, _ = part.partition("=")
            if is_parameter and (not name or self.is_secret(name)):
                return self._redacted(query)
        return self._redacted(query) if "%" in query and _ENCODED_EQUALS.search(query) else query

    def header(self, name: str, value: str) -> str:
        """Return what may be recorded of a header. A value that is a URL has its parameters redacted, as Referer's."""
        return REDACTED if self.is_secret(name) else self.url(value)

    def url(self, value: str) -> str:
        """Return a text that may be a URL, or have one in it, with the values of its secret parameters replaced."""
        mark = _URL_PART.search(value)
        return value if mark is None else value[: mark.end()] + self.query(value[mark.end() :])

    def _redacted(self, query: str) -> str:
        shown: list[str] = []
        copied = name_at = outer_name_at = value_at = 0
        secret: int | None = None  # how often the value is encoded that is left out
        for mark in _MARK.finditer(query):
            level = _times_encoded(mark)
            if secret is not None:
                if not mark[2] or level > secret:
                    continue  # it is part of the value
                if mark.start() > value_at:
                    shown += query[copied:value_at], REDACTED
                    copied = mark.start()
                secret = None
            elif mark[1]:
                names = [_decoded(query[name_at : mark.start()], level)]
                if not level:  # what seems to be a separator may be part of a name
                    names.append(query[outer_name_at : mark.start()])
                if any(map(self.is_secret, names)):
                    secret, value_at = level, mark.end()
            name_at = mark.end()
            if not level:
                outer_name_at = mark.end()
        if secret is not None and value_at < len(query):
            shown += query[copied:value_at], REDACTED
            copied = len(query)
        return "".join(shown) + query[copied:]


def _times_encoded(mark: re.Match[str]) -> int:
    """Return 0 for ``=``, 1 for ``%3D``, 2 for ``%253D`` and so on."""
    return (mark.end() - mark.start() - 1) // 2


def _decoded(name: str, times: int) -> str:
    if len(name) <= _MAX_NAME:
        for _ in range(times):
            name, encoded = unquote_plus(name), name
            if name == encoded:
                break
    return name


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def _expression(patterns: Iterable[str]) -> re.Pattern[str]:
    # `translate` writes expressions that do not backtrack beyond one star.
    return re.compile("|".join(fnmatch.translate(_plain(each)) for each in patterns) or r"(?!)")
