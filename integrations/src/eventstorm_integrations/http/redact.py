"""Secrets in headers and query strings: whose names are known, and what is written instead of their values."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_plus

__all__ = ["REDACTED", "SECRET_NAMES", "Redaction"]

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

# A name that has a value. It begins where a name can, so that no text makes the search look at a letter twice.
# `?` and `#` end a name too, since a value may be a URL that has parameters of its own.
_NAME = re.compile(r"(?<![^=&;?#])([^=&;?#]+)=(?=[^&;])")
_VALUE_END = re.compile(r"[&;]|$")
_URL_PART = re.compile(r"[?#]")
_MAX_NAME = 200


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
        for part in query.replace(";", "&").replace("?", "&").replace("#", "&").split("&"):
            name, is_parameter, _ = part.partition("=")
            if is_parameter and (not name or self.is_secret(name)):
                return self._redacted(query)
        return query

    def header(self, name: str, value: str) -> str:
        """Return what may be recorded of a header. A value that is a URL has its parameters redacted, as Referer's."""
        if self.is_secret(name):
            return REDACTED
        mark = _URL_PART.search(value)
        return value if mark is None else value[: mark.end()] + self.query(value[mark.end() :])

    def _redacted(self, query: str) -> str:
        shown, end = "", 0
        for found in _NAME.finditer(query):
            # Unless it is in the value of a secret.
            if found.start() >= end and self.is_secret(found[1]):
                shown += query[end : found.end()] + REDACTED
                after = _VALUE_END.search(query, found.end())
                end = len(query) if after is None else after.start()
        return shown + query[end:]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def _expression(patterns: Iterable[str]) -> re.Pattern[str]:
    # `translate` writes expressions that do not backtrack beyond one star.
    return re.compile("|".join(fnmatch.translate(_plain(each)) for each in patterns) or r"(?!)")
