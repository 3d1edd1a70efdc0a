"""nginx's ``log_format``: a format as nginx writes it becomes a pattern that reads its lines.

nginx escapes quotes, backslashes and what is not printable, so the character that follows a variable in the format
mostly ends its value. Patterns are made so that a value's end is never a matter of trying: they take linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from eventstorm.errors import SettingError
from eventstorm_integrations.logs.nginx.variables import UPSTREAM, may_hold_space

__all__ = ["NAMED", "LogFormat", "compile_format", "unescape_default", "unescape_json"]

_COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)
NAMED = {
    "combined": _COMBINED,
    "common": '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent',
    "ingress": f"{_COMBINED} $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name]"
    " $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id",
    "main": f'{_COMBINED} "$http_x_forwarded_for"',
    "vhost": f"$host:$server_port {_COMBINED}",
}
"""Formats that have a name without any nginx.conf: nginx's own, those of its packages, and what others made usual."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_HEX = re.compile(rb"\\x([0-9A-Fa-f]{2})")
_JSON = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_JSON_CHARACTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class LogFormat(NamedTuple):
    """A format that lines can be read with."""

    names: tuple[str, ...]
    """The variables, in the order of the pattern's groups."""
    pattern: re.Pattern[str]
    unescape: Callable[[str], str]


def compile_format(text: str, escape: str = "default", *, more: bool = False) -> LogFormat:
    """Make a pattern of a format.

    Args:
        text: as nginx has it: ``$remote_addr - $remote_user …``, also ``${name}``.
        escape: nginx's ``escape=``: ``default``, ``json`` or ``none``.
        more: whether lines may go on after the format's end; many formats are a known one and something more.

    Raises:
        SettingError: there is no variable in it, or one follows another without anything between them.
    """
    parts: list[str] = []
    names: list[str] = []
    found = list(_VARIABLE.finditer(text))
    if not found:
        raise SettingError(f"format: {text!r} has no variable such as $remote_addr, and is no format's name")
    end = 0
    for index, variable in enumerate(found):
        before = text[end : variable.start()]
        if index and not before:
            raise SettingError(
                f"format: nothing tells where ${names[-1]} ends and {variable[0]} begins; put a space between them"
            )
        end = variable.end()
        after = text[end : found[index + 1].start() if index + 1 < len(found) else len(text)]
        name = variable[1] or variable[2]
        names.append(name)
        parts.append(f"{re.escape(before)}({_value(name, after, escape)})")
    tail = r"(?: .*)?" if more else ""
    pattern = re.compile(f"{''.join(parts)}{re.escape(text[end:])}{tail}\\Z", re.DOTALL)
    unescape = _UNESCAPE.get(escape)
    if unescape is None:
        raise SettingError(f"format: there is no escape={escape}; nginx has default, json and none")
    return LogFormat(tuple(names), pattern, unescape)


def _value(name: str, after: str, escape: str) -> str:
    """Return the pattern of a variable's value, which ends where `after` begins."""
    if not after:
        return ".*"
    stop = re.escape(after[0])
    if after[0] == '"':
        # In JSON a quote within the value has a backslash; by default it is \x22.
        return r'[^"\\]*(?:\\.[^"\\]*)*' if escape != "default" else '[^"]*'
    if name in UPSTREAM and after[0] == " ":
        return r"[^ ]*(?:(?:(?<=,)| :) [^ ]*)*"
    if len(after) > 1 and may_hold_space(name):  # as long as the next character is not that of the format too
        return f"[^{stop}]*(?:{stop}(?!{re.escape(after[1])})[^{stop}]*)*"
    return f"[^{stop}]*"


def unescape_default(text: str) -> str:
    r"""Turn ``\xHH`` into the bytes that were sent, and these into text; what is not UTF-8 in them stays ``\xhh``."""
    if "\\" not in text:
        return text
    raw = _HEX.sub(lambda found: bytes([int(found[1], 16)]), text.encode("utf-8", "backslashreplace"))
    return raw.decode("utf-8", "backslashreplace")


def unescape_json(text: str) -> str:
    """Turn the escapes of JSON into what they stand for."""
    if "\\" not in text:
        return text
    plain = _JSON.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _JSON_CHARACTERS.get(found[2], found[2]), text
    )
    # Two escapes may be one character; a half one is none.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_UNESCAPE: dict[str, Callable[[str], str]] = {"default": unescape_default, "json": unescape_json, "none": str}
