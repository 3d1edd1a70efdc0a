"""A line of nginx's error log becomes a ``log.record``, with the request that it is about."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from eventstorm_integrations.http.redact import Redaction
from eventstorm_integrations.logs.event import Event, Unparsed
from eventstorm_integrations.logs.nginx.variables import add_method, parse_request, without_secrets
from eventstorm_integrations.logs.times import LineClock

__all__ = ["feed_error"]

_LINE = re.compile(
    r"(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) \[(\w+)\] "
    r"(\d{1,18})#(\d{1,18}): (?:\*(\d{1,18}) )?(.*)\Z",
    re.ASCII | re.DOTALL,
)
# What nginx appends about the request, always in this order. Clients choose the request, the host and the referrer, and
# files' names in the message, and nginx does not escape them here: a hostile one can write what looks like another
# field.
_CONTEXT = ("client: ", "server: ", "login: ", "request: ", "subrequest: ", "upstream: ", "host: ", "referrer: ")
_CONNECTED = re.compile(r"client \[?([0-9A-Fa-f.:]+?)\]?(?::(\d{1,5}))? (?:connected to|closed keepalive)")
_USER = re.compile(r'user "(.*)"(?:: password mismatch| was not found in ")', re.DOTALL)
_LIMIT = re.compile(r"(?:limiting|delaying) (?:request|connection)s?, excess: ([\d.]+),? by zone \"([^\"]*)\"")
# OpenTelemetry's numbers of severities.
_SEVERITIES = {
    "debug": 5, "info": 9, "notice": 10, "warn": 13, "error": 17, "crit": 18, "alert": 19, "emerg": 21,
}  # fmt: skip


def feed_error(line: str, clock: LineClock, now_s: float, redaction: Redaction) -> Event:
    """Return the record that a line holds, without secrets in its URLs.

    Raises:
        Unparsed: it is not of nginx's error log.
    """
    found = _LINE.match(line)
    if found is None:
        raise Unparsed("error format")
    *date, severity, pid, thread, connection, message = found.groups()
    try:
        year, month, day, hour, minute, second = map(int, date)
        ts_s = clock.at(datetime(year, month, day, hour, minute, min(second, 59)), now_s)
    except (ValueError, OverflowError):
        raise Unparsed("time") from None
    body, context = _split_context(message)
    data: dict[str, Any] = {
        "severity_text": severity,
        "severity_number": _SEVERITIES.get(severity, 0),
        "body": redaction.url(body),
        "logger": "nginx",
        "process": {"pid": int(pid)},
        "thread": {"id": int(thread)},
    }
    nginx: dict[str, Any] = {}
    if connection:
        nginx["connection"] = int(connection)
    if limit := _LIMIT.match(body):
        nginx["limit"] = {"excess": float(limit[1]), "zone": limit[2]}
    if context.get("client"):
        data["client"] = {"address": context["client"]}
    elif connected := _CONNECTED.match(body):
        data["client"] = {"address": connected[1], **({"port": int(connected[2])} if connected[2] else {})}
    if context.get("login"):
        data["user"] = {"name": context["login"]}
    elif user := _USER.match(body):
        data["user"] = {"name": user[1]}
    if context.get("host"):
        data["server"] = {"address": context["host"]}
    if context.get("server"):
        nginx["server_name"] = context["server"]
    nginx.update({name: redaction.url(context[name]) for name in ("subrequest", "upstream") if context.get(name)})
    _add_request(data, context.get("request", ""), context.get("referrer", ""), redaction)
    if nginx:
        data["nginx"] = nginx
    return Event("log.record", data, ts_s)


def _split_context(message: str) -> tuple[str, dict[str, str]]:
    starts: list[tuple[str, int, int]] = []
    at = 0
    for name in _CONTEXT:
        begin = message.find(f", {name}", at)
        if begin >= 0:
            at = begin + len(name) + 2
            starts.append((name[:-2], begin, at))
        elif name == "client: ":
            return message, {}
    ends = [begin for _, begin, _ in starts[1:]] + [len(message)]
    context = {}
    for (name, _, begin), end in zip(starts, ends, strict=True):
        value = message[begin:end]
        context[name] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return message[: starts[0][1]], context


def _add_request(data: dict[str, Any], line: str, referrer: str, redaction: Redaction) -> None:
    request: dict[str, Any] = {}
    parsed = parse_request(line)
    if parsed is not None:
        add_method(request, parsed.method)
        data["url"] = dict(without_secrets(parsed.url, redaction))
        if parsed.version:
            data["network"] = {"protocol": {"version": parsed.version}}
    elif line:
        request["line"] = redaction.url(line)
    if referrer:
        request["header"] = {"referer": redaction.header("referer", referrer)}
    if request:
        data["http"] = {"request": request}
