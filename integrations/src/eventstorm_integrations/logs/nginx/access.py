"""A line of an access log becomes a ``http.hit``."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from eventstorm_integrations.http.redact import Redaction
from eventstorm_integrations.logs.event import Encoded, Event, Unparsed
from eventstorm_integrations.logs.nginx.encode import EMPTY, VERSIONS, encoder
from eventstorm_integrations.logs.nginx.format import LogFormat
from eventstorm_integrations.logs.nginx.variables import (
    METHODS,
    REQUEST_PARTS,
    TIMES,
    UPSTREAM,
    Target,
    add_method,
    parse_request,
    split_port,
    split_target,
    target,
    without_secrets,
)
from eventstorm_integrations.logs.times import MONTHS, LineClock

__all__ = ["AccessLog", "read_values"]

_HIT = "http.hit"
_LIST = re.compile(r", | : ")
_NETWORKS = {protocol: {"protocol": {"version": version}} for protocol, version in VERSIONS.items()}


def is_error(line: str) -> bool:
    """Tell whether a line is one of an error log: it begins with a date, which no value of a usual format does."""
    return line[4:5] == "/" and line[7:8] == "/"


class AccessLog:
    """Reads the lines of one format."""

    def __init__(self, format: LogFormat, clock: LineClock, redaction: Redaction) -> None:
        names = format.names
        self._match = format.pattern.match
        self._unescape = format.unescape
        self._clock = clock
        self._redaction = redaction
        self._times = [(names.index(name), name) for name in TIMES if name in names]
        special = {*TIMES, *UPSTREAM, *REQUEST_PARTS}
        targets = [None if name in special else target(name, redaction) for name in names]
        self._build = _builder(targets)
        self._request = names.index("request") if "request" in names else -1
        # The usual request line's protocol is put in whole, where nothing else says anything about the network.
        self._networks = {} if any(each and each.path[0] == "network" for each in targets) else _NETWORKS
        self._others = [
            (index, name)
            for index, name in enumerate(names)
            if name in UPSTREAM or (name in REQUEST_PARTS and name != "request")
        ]
        self._encode = None if self._others else encoder(targets, self._request, redaction)
        # Most lines are of the same second as the one before.
        self._text, self._ts_s = "", 0.0

    def feed(self, line: str, now_s: float) -> Event:
        """Return the hit that a line tells of.

        Raises:
            Unparsed: it is not of the format.
        """
        found = self._match(line)
        if found is None:
            raise Unparsed("access format")
        values = found.groups()
        if "\\" in line:
            values = tuple([self._unescape(value) for value in values])
        try:
            data, request = self._build(values)
        except ValueError:
            raise Unparsed("access value") from None
        if self._request >= 0:
            words = values[self._request].split(" ")
            # As nearly all are; whatever else it is takes longer.
            if len(words) == 3 and words[1][:1] == "/" and words[2] in self._networks and words[0] in METHODS:
                path, question, query = words[1].partition("?")
                request["method"] = words[0]
                url = data.setdefault("url", {})
                url["path"] = path
                if question:
                    url["query"] = self._redaction.query(query)
                data["network"] = self._networks[words[2]]
            else:
                _add_request(data, request, values[self._request], self._redaction)
        if self._others:
            _add_others(data, [(name, values[index]) for index, name in self._others], self._redaction)
        return Event(_HIT, data, self._time(values, now_s))

    def encode(self, line: str, now_s: float) -> Encoded | None:
        """Return what `feed` does with the event's data in BSON, for a usual line; else None."""
        if self._encode is None or "\\" in line or not line.isascii() or is_error(line):
            return None
        found = self._match(line)
        if found is None:
            return None
        values = found.groups()
        try:
            return _HIT, self._encode(values), self._time(values, now_s)
        except (LookupError, ValueError, struct.error, Unparsed):
            return None

    def _time(self, values: Sequence[str], now_s: float) -> float:
        for index, name in self._times:
            text = values[index]
            if text == self._text:
                return self._ts_s
            if text and text != "-":
                self._ts_s, self._text = _time(name, text, self._clock, now_s), text
                return self._ts_s
        return now_s


def _builder(targets: list[Target | None]) -> Callable[[Sequence[str]], tuple[dict[str, Any], dict[str, Any]]]:
    """Make the function that puts a line's values where they belong; it also returns the part ``http.request``.

    It is written as source code and compiled, as `dataclasses` does: a loop over the targets takes several times
    longer, and this is done for each line.
    """
    nodes: dict[tuple[str, ...], str] = {(): "n0"}
    lines: list[str] = []
    scope: dict[str, Any] = {}

    def node(path: tuple[str, ...]) -> str:
        if path not in nodes:
            node(path[:-1])
            nodes[path] = f"n{len(nodes)}"
        return nodes[path]

    for path in EMPTY:
        node(path)
    for index, each in enumerate(targets):
        if each is not None:
            scope[f"c{index}"] = each.convert
            value = f"v{index}" if each.convert is str else f"c{index}(v{index})"
            place = f"{node(each.path[:-1])}[{each.path[-1]!r}]"
            lines.append(f"    if v{index} != '-' and v{index}: {place} = {value}")
    kept = {path[:depth] for path in EMPTY for depth in range(len(path) + 1)}
    for path in sorted(nodes, key=len, reverse=True):
        if path:
            parent = f"{nodes[path[:-1]]}[{path[-1]!r}] = {nodes[path]}"
            lines.append(f"    {parent}" if path in kept else f"    if {nodes[path]}: {parent}")
    made = [f"    {name} = {{}}" for name in nodes.values()]
    names = "".join(f"v{index}, " for index in range(len(targets)))
    returned = f"    return n0, {nodes['http', 'request']}"
    exec("\n".join(["def build(values):", f"    {names} = values", *made, *lines, returned]), scope)
    build: Callable[[Sequence[str]], tuple[dict[str, Any], dict[str, Any]]] = scope["build"]
    return build


def read_values(values: dict[str, str], clock: LineClock, now_s: float, redaction: Redaction) -> Event:
    """Return the hit of variables by name, as JSON logs have them; for a format whose layout does not matter."""
    data: dict[str, Any] = {"http": {"request": {}, "response": {}}, "client": {}}
    special = {*TIMES, *UPSTREAM, *REQUEST_PARTS}
    if "request" in values:
        _add_request(data, data["http"]["request"], values["request"], redaction)
    for name, value in values.items():
        if name not in special and value not in ("", "-"):
            parents, key, convert = _place(name, redaction)
            place = data
            for parent in parents:
                place = place.setdefault(parent, {})
            try:
                place[key] = convert(value)
            except ValueError:
                raise Unparsed("access value") from None
    _add_others(
        data, [(name, value) for name, value in values.items() if name in special - {*TIMES, "request"}], redaction
    )
    for name in TIMES:
        if values.get(name, "-") not in ("", "-"):
            return Event(_HIT, data, _time(name, values[name], clock, now_s))
    return Event(_HIT, data, now_s)


@lru_cache(1024)
def _place(name: str, redaction: Redaction) -> tuple[tuple[str, ...], str, Callable[[str], Any]]:
    path, convert = target(name, redaction)
    return path[:-1], path[-1], convert


def _add_request(data: dict[str, Any], request: dict[str, Any], line: str, redaction: Redaction) -> None:
    parsed = parse_request(line)
    if parsed is not None:
        add_method(request, parsed.method)
        data["url"] = {**data.get("url", {}), **without_secrets(parsed.url, redaction)}
        if parsed.version:
            data.setdefault("network", {})["protocol"] = {"version": parsed.version}
        if parsed.host:
            host, port = split_port(parsed.host)
            server = data.setdefault("server", {})
            server.setdefault("address", host)
            if port:
                server.setdefault("port", port)
    elif line not in ("", "-"):
        request["line"] = redaction.url(line)


def _add_others(data: dict[str, Any], values: list[tuple[str, str]], redaction: Redaction) -> None:
    """Add the parts of the request line, where a format has them one by one, and the lists of upstream servers."""
    upstream: list[dict[str, Any]] = []
    for name, value in values:
        if value in ("", "-"):
            continue
        if name == "request_method":
            add_method(data["http"]["request"], value)
            continue
        url = data.setdefault("url", {})
        if name == "request_uri":
            url.update(without_secrets(split_target(value)[0], redaction))
        elif name in ("args", "query_string"):
            url["query"] = redaction.query(value)
        elif name in ("uri", "document_uri"):
            url.setdefault("path", value)
        else:
            key, convert = UPSTREAM[name]
            for number, each in enumerate(_LIST.split(value)):
                if number == len(upstream):
                    upstream.append({})
                if each not in ("", "-"):
                    try:
                        upstream[number][key] = convert(each)
                    except ValueError:
                        raise Unparsed("access value") from None
    if not data.get("url", True):
        del data["url"]
    if upstream:
        data.setdefault("nginx", {})["upstream"] = upstream


# Later ones, and those that are no numbers, cannot be sent.
_MOST_S = 1e13


def _time(name: str, text: str, clock: LineClock, now_s: float) -> float:
    if name == "time_local":
        return _local_time(text)
    if name == "time_iso8601":
        return clock.iso(text, now_s)
    try:
        ts_s = float(text)
    except ValueError:
        raise Unparsed("time") from None
    if not abs(ts_s) < _MOST_S:
        raise Unparsed("time")
    return ts_s


@lru_cache(64)
def _local_time(text: str) -> float:
    """Return the time of ``10/Oct/2000:13:55:36 -0700``."""
    try:
        date, hour, minute, second = text[:20].split(":")
        day, month, year = date.split("/")
        sign = -1 if text[21] == "-" else 1
        offset = timedelta(minutes=sign * (int(text[22:24]) * 60 + int(text[24:26])))
        naive = datetime(int(year), MONTHS[month], int(day), int(hour), int(minute), min(int(second), 59))
        return (naive - offset).replace(tzinfo=timezone.utc).timestamp()
    except (ValueError, KeyError, IndexError, OverflowError):
        raise Unparsed("time") from None
