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

_PARAMETER = re.compile(r"([^=&;]+)=([^&;]+)")
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
        return _PARAMETER.sub(self._parameter, query) if "=" in query else query

    def header(self, name: str, value: str) -> str:
        """Return what may be recorded of a header. A value that is a URL has its query redacted, as Referer's."""
        if self.is_secret(name):
            return REDACTED
        start, mark, query = value.partition("?")
        return f"{start}?{self.query(query)}" if mark else value

    def _parameter(self, found: re.Match[str]) -> str:
        return f"{found[1]}={REDACTED}" if self.is_secret(found[1]) else found[0]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def _expression(patterns: Iterable[str]) -> re.Pattern[str]:
    # `translate` writes expressions that do not backtrack beyond one star.
    return re.compile("|".join(fnmatch.translate(_plain(each)) for each in patterns) or r"(?!)")
