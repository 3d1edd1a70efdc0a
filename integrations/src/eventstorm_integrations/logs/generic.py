"""Logs of any other program: a regular expression with named groups, JSON lines, logfmt, CSV.

Each line becomes an event of the topic that the settings name, as of the time that one of its fields holds.
"""

from __future__ import annotations

import csv
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from eventstorm.errors import SettingError
from eventstorm_integrations.logs.event import Event, Unparsed
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.times import LineClock, TimeFormat, zone_named

__all__ = ["CsvParser", "JsonParser", "LogfmtParser", "RegexParser"]

# Where the settings name no field, the first of these that a line has is its time.
_TIMES = ("time", "timestamp", "ts", "@timestamp", "datetime", "date")
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})\Z", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})\.\d{1,18}\Z", re.ASCII)
_LOGFMT = re.compile(r'([^\s="]+)(?:=("(?:[^"\\]|\\.)*"|[^\s"]*))?', re.DOTALL)
# Seconds since 1970 have ten digits, milliseconds thirteen, and so on; the first of these is in the year 2286.
_LARGEST_S = 1e10


class _FieldsParser(ABC):
    """Makes events of the fields of lines."""

    def __init__(self, settings: LogsSettings) -> None:
        self._topic = settings.topic
        self._names = (settings.time_field,) if settings.time_field else _TIMES
        self._must = bool(settings.time_field)
        self._format = TimeFormat(settings.time_format, "logs.time_format") if settings.time_format else None
        self._clock = LineClock(zone_named(settings.timezone))

    @abstractmethod
    def fields(self, line: str) -> dict[str, Any] | None:
        """Return a line's fields; None if it has none.

        Raises:
            Unparsed: it is not of the form.
        """

    def feed(self, line: str, now_s: float, /) -> Iterable[Event]:
        """Return the line's event."""
        fields = self.fields(line)
        if fields is None:
            return ()
        ts_s = self._take_time(fields, now_s)
        data: dict[str, Any] = {}
        for name, value in fields.items():
            _put(data, name, value)
        return (Event(self._topic, data, ts_s),)

    def _take_time(self, fields: dict[str, Any], now_s: float) -> float:
        for name in self._names:
            if name in fields:
                try:
                    ts_s = self._time(fields[name], now_s)
                except (Unparsed, ValueError, OverflowError):
                    if self._must:
                        raise Unparsed("time") from None
                    continue
                del fields[name]
                return ts_s
        if self._must:
            raise Unparsed("time")
        return now_s

    def _time(self, value: Any, now_s: float) -> float:
        if self._format is not None:
            return self._format.read(str(value), self._clock, now_s)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        if isinstance(value, str) and not value[:1].isdigit():
            raise ValueError
        if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
            return self._clock.iso(value, now_s)
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        while abs(number) >= _LARGEST_S:
            number /= 1000
        return number


class RegexParser(_FieldsParser):
    """Reads lines that match ``settings.pattern``; its groups' names are fields, in which ``__`` stands for a dot."""

    def __init__(self, settings: LogsSettings) -> None:
        super().__init__(settings)
        try:
            self._match = re.compile(settings.pattern, re.DOTALL).fullmatch
        except re.error as error:
            raise SettingError(f"logs.pattern: {settings.pattern!r} is no regular expression: {error}") from None
        if not re.compile(settings.pattern).groupindex:
            raise SettingError("logs.pattern: there is no named group in it; write some: (?P<user>[^ ]*)")

    def fields(self, line: str) -> dict[str, Any] | None:
        """Return the groups that took part."""
        found = self._match(line)
        if found is None:
            raise Unparsed("pattern")
        groups = found.groupdict().items()
        return {name.replace("__", "."): _value(text) for name, text in groups if text is not None}


class JsonParser(_FieldsParser):
    """Reads lines that are JSON objects."""

    def fields(self, line: str) -> dict[str, Any] | None:
        """Return the object."""
        try:
            found: Any = json.loads(line, parse_int=_integer)
        except (ValueError, RecursionError):
            raise Unparsed("json") from None
        if not isinstance(found, dict):
            raise Unparsed("json object")
        if "\\ud" in line or "\\uD" in line:  # half a character, which BSON cannot hold
            found = _whole(found)
        return dict(found)


class LogfmtParser(_FieldsParser):
    """Reads lines such as ``level=info msg="it is done" took=0.5``; a name alone is true."""

    def fields(self, line: str) -> dict[str, Any] | None:
        """Return the pairs."""
        if "=" not in line:
            raise Unparsed("logfmt")
        fields: dict[str, Any] = {}
        for name, text in _LOGFMT.findall(line):
            if text[:1] == '"':
                fields[name] = re.sub(r"\\(.)", _unescape, text[1:-1], flags=re.DOTALL) if "\\" in text else text[1:-1]
            else:
                fields[name] = _value(text) if text else ("" if f"{name}=" in line else True)
        return fields


class CsvParser(_FieldsParser):
    """Reads records, each a line; without ``settings.columns`` the first line names the columns."""

    def __init__(self, settings: LogsSettings) -> None:
        super().__init__(settings)
        self._columns = list(settings.columns)

    def fields(self, line: str) -> dict[str, Any] | None:
        """Return the record's values by column; empty ones are left out."""
        try:
            values = next(csv.reader([line], strict=True))
        except (csv.Error, StopIteration):
            raise Unparsed("csv") from None
        if not self._columns:
            self._columns = values
            return None
        if len(values) != len(self._columns):
            raise Unparsed("number of columns")
        return {name: _value(text) for name, text in zip(self._columns, values, strict=True) if text}

    def expire(self, now_s: float, /) -> Iterable[Event]:
        """Return nothing: a line is whole."""
        return ()

    def save(self) -> dict[str, Any]:
        """Return the names of the columns, which only the first line tells."""
        return {"columns": self._columns}

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Take up the names of the columns."""
        self._columns = self._columns or list(state["columns"])


def _put(data: dict[str, Any], name: str, value: Any) -> None:
    """Put a value where its dotted name says; where one is in the way, under the whole name or below it."""
    if "\0" in name:
        raise Unparsed("field name")
    place = data
    *parents, last = name.split(".") if ".." not in f".{name}." else [name]
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            data[name] = value
            return
        place = below
    there = place.get(last)
    if not isinstance(there, dict):
        place[last] = value
    elif isinstance(value, dict):
        there.update(value)
    else:
        there["value"] = value


def _value(text: str) -> Any:
    """Return a number if the text is one as programs write them: not 007, nor what no double holds exactly."""
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _NUMBER.match(text) else text


def _integer(text: str) -> int | float:
    """Return a whole number as one if BSON can hold it."""
    return number if len(text) <= 20 and -(2**63) <= (number := int(text)) < 2**63 else float(text)


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _unescape(found: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r", "t": "\t"}.get(found[1], found[1])
