"""The newest row of each host and key: cores, filesystems, processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from eventstorm_sinks.live_values import clip, dig
from eventstorm_sinks.panels import Table

__all__ = ["LatestRows", "Row"]

MAX_HOSTS = 16


class Row(NamedTuple):
    """One row of a table, as sent to the page."""

    host: str
    key: float | str | list[float] | None
    ts_ms: int
    values: list[float | str | list[float] | None]
    """In the order of the table's fields; None where the event had no usable value."""


class LatestRows:
    """The rows of one table, bounded in hosts and rows. Not safe from several threads at once."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._hosts: dict[str, dict[str, Row]] = {}

    @property
    def topic(self) -> str:
        """The topic whose events make the rows."""
        return self._table.topic

    def add(self, host: str, ts_ms: int, document: Mapping[str, Any]) -> None:
        """Put an event's row in the place of the one before; what does not fit any more is left out."""
        rows = self._hosts.get(host)
        if rows is None:
            if len(self._hosts) >= MAX_HOSTS:
                del self._hosts[min(self._hosts, key=lambda each: _newest_ms(self._hosts[each]))]
            rows = self._hosts[host] = {}
        key = clip(dig(document, self._table.key)) if self._table.key else None
        row = Row(host, key, ts_ms, [clip(dig(document, each)) for each in self._table.fields])
        rows[str(key)] = row
        oldest_ms = _newest_ms(rows) - self._table.keep_s * 1000
        for name in [name for name, each in rows.items() if each.ts_ms < oldest_ms]:
            del rows[name]
        if len(rows) > self._table.max_rows:
            rows.pop(str(key))

    def rows(self) -> list[Row]:
        """Return all rows, by host and in the order in which keys first came."""
        return [row for host in sorted(self._hosts) for row in self._hosts[host].values()]


def _newest_ms(rows: Mapping[str, Row]) -> int:
    return max((each.ts_ms for each in rows.values()), default=0)
