"""The settings of a sink and of what it serves: the table ``[sink]`` of ``eventstorm.toml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from eventstorm.endpoints import DEFAULT_EGRESS, DEFAULT_HTTP, DEFAULT_INGRESS, split_host_port
from eventstorm.errors import SettingError
from eventstorm.settings import Check, at_least, endpoint, nearest, setting, within
from eventstorm.topics import subscription
from eventstorm_sinks.share import Share

__all__ = ["SinkSettings", "parse_duration", "parse_size"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def parse_duration(text: str, place: str) -> float | None:
    """Return the seconds that ``30d``, ``12h``, ``90s`` say, some thousand years at most; None for the empty string."""
    return _parse(text, place, _SECONDS, "30d (units s, m, h, d, w)", 1e11)


def parse_size(text: str, place: str) -> float | None:
    """Return the bytes that ``10GB``, ``512MiB`` say, an exabyte at most; None for the empty string."""
    return _parse(text, place, _BYTES, "10GB (units B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)", 1e18)


def _parse(text: str, place: str, units: dict[str, int], example: str, most: float) -> float | None:
    if not text:
        return None
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if not matched or matched[2] not in units or not float(matched[1]):
        raise SettingError(f"{place}: {text!r} is not understood; write it as {example}")
    value = float(matched[1]) * units[matched[2]]
    if value > most:
        raise SettingError(f"{place}: {text!r} is too much; write it as {example}")
    return value


def _duration(value: Any, place: str) -> Any:
    parse_duration(value, place)
    return value


def _size(value: Any, place: str) -> Any:
    parse_size(value, place)
    return value


def _address(value: Any, place: str) -> Any:
    if value:
        split_host_port(value, place)
    return value


def _one_of(*known: str) -> Check:
    def check(value: Any, place: str) -> Any:
        if value not in known:
            raise SettingError(f"{place}: {value!r} is none of {', '.join(known)}{nearest(value, list(known))}")
        return value

    return check


def _each(pattern: str, example: str) -> Check:
    def check(value: Any, place: str) -> Any:
        for each in value:
            if not re.fullmatch(pattern, each):
                raise SettingError(f"{place}: {each!r}: write it as {example}")
        return value

    return check


def _share(value: Any, place: str) -> Any:
    Share.parse(value, "source", place)
    return value


def _topics(value: Any, place: str) -> Any:
    for each in value:
        try:
            subscription(each)
        except ValueError as error:
            raise SettingError(f"{place}: {error}") from None
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    """The settings of ``eventstorm sink`` and ``eventstorm up``."""

    ingress: str = setting(DEFAULT_INGRESS, "where an embedded router listens for sources", endpoint)
    egress: str = setting(
        DEFAULT_EGRESS, "the router's egress: connected to, or bound if the router is embedded", endpoint
    )
    embed_router: bool = setting(False, "run the router in this process")
    topics: tuple[str, ...] = setting(("*",), "what to store: topics, or subtrees as http.*", _topics)
    stores: tuple[str, ...] = setting((), "URLs of stores, such as duckdb:events.duckdb")
    http: str = setting(DEFAULT_HTTP, "address of the page and the HTTP API; empty for none", _address)
    insecure: bool = setting(False, "allow addresses that other machines reach")
    workers: int = setting(1, "processes of `eventstorm sink` that share its work", within(1, 64))
    share: str = setting("1/1", "which share this sink stores, where several share a router: 2/3", _share)
    share_by: str = setting("source", "what decides on a share: source or topic", _one_of("source", "topic"))
    queue_bytes: int = setting(64 * 2**20, "bytes that may wait for each store", at_least(2**20))
    queue_drop: str = setting(
        "newest", "what is lost to a store whose queue is full: newest or oldest events", _one_of("newest", "oldest")
    )
    commit_s: float = setting(0.5, "the longest that an event waits for its commit, in seconds", at_least(0.01))
    batch_events: int = setting(20_000, "the most events in one write", at_least(1))
    keep: str = setting("", "remove events older than this, such as 30d", _duration)
    keep_size: str = setting("", "remove the oldest events beyond this size, such as 10GB", _size)
    sql_rows: int = setting(10_000, "the most rows that a query may return", at_least(1))
    sql_timeout_s: float = setting(30.0, "the longest that a query may take, in seconds", at_least(0.1))
    mongodb_collections: str = setting(
        "one",
        "how MongoDB's events are spread: one collection, one a topic, or one a day",
        _one_of("one", "topic", "day"),
    )
    mongodb_writers: int = setting(1, "insertions into MongoDB at the same time", at_least(1))
    cassandra_layout: tuple[str, ...] = setting(
        (),
        "how wide the buckets of topics are in Cassandra, and in how many shards: http.*=10m/4",
        _each(r"[a-z0-9_.-]*\*?=[^/]+(/[0-9]{1,3})?", "*=1h/1 or http.*=10m/4"),
    )
    cassandra_columns: tuple[str, ...] = setting(
        (),
        "fields with columns of their own in Cassandra: status=http.response.status_code:int",
        _each(r"[a-z][a-z0-9_]*=.+:[a-z]+", "status=http.response.status_code:int"),
    )
    cassandra_requests: int = setting(32, "insertions into Cassandra at the same time", at_least(1))
    sql_memory: str = setting("512MB", "memory that DuckDB may use", _size)
