"""People's own SQL: one read-only statement, bounded in time, rows and bytes, its result as JSON can hold it."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import msgspec

from eventstorm.errors import EventstormError
from eventstorm_sinks.stores import SqlResult

__all__ = ["limited", "run_query"]

_FETCHED_ROWS = 256
_MAX_RESULT_BYTES = 64 * 2**20
# How soon a query notices that its time is up or that nobody waits for it.
_LOOK_S = 0.05

# What DuckDB 1.5, which Python 3.10 has, lets a locked configuration's SELECT do. One of them makes it write its log to
# a file, after which every query fails, as no file may be opened. Later versions refuse them by themselves.
_SWITCHES = {
    "CHECKPOINT",
    "DISABLE_LOGGING",
    "DISABLE_PROFILING",
    "ENABLE_LOGGING",
    "ENABLE_PROFILING",
    "FORCE_CHECKPOINT",
    "JSON_EXECUTE_SERIALIZED_SQL",  # which may hide any of the others
    "TRUNCATE_DUCKDB_LOGS",
}

_size_of = msgspec.json.Encoder(enc_hook=str).encode
_from_json = msgspec.json.Decoder().decode


def run_query(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    max_rows: int,
    timeout_s: float,
    cancelled: threading.Event | None = None,
) -> SqlResult:
    """Answer a query on a connection that is in a read-only transaction; see `Reader.sql`.

    Raises:
        EventstormError: the query is wrong, not read-only, took too long, or was cancelled.
    """
    try:
        with limited(connection, timeout_s, cancelled):
            statement = _only_select(connection, query)
            if duckdb.__version__.startswith("1."):
                _refuse_switches(connection, statement)
            described = connection.execute(f"DESCRIBE (\n{statement}\n)").fetchall()
            names, types = [row[0] for row in described], [row[1] for row in described]
            shown = ", ".join(_shown(f"c{number}", kind) for number, kind in enumerate(types))
            aliases = ", ".join(f"c{number}" for number in range(len(types)))
            # One more than asked for, to tell whether there are more.
            result = connection.execute(
                f"SELECT {shown} FROM (\n{statement}\n) AS query({aliases}) LIMIT {max(0, max_rows) + 1}"
            )
            rows, complete = _fetch(result, max_rows, [_is_json(kind) for kind in types])
    except duckdb.Error as error:
        # The query stands in the second line of what DuckDB was given.
        text = re.sub(r"^LINE (\d+):", lambda line: f"LINE {int(line[1]) - 1}:", str(error), flags=re.MULTILINE)
        raise EventstormError(f"the query failed: {text}") from None
    return SqlResult(names, types, rows, not complete)


@contextlib.contextmanager
def limited(
    connection: duckdb.DuckDBPyConnection, timeout_s: float, cancelled: threading.Event | None = None
) -> Iterator[None]:
    """Interrupt what runs on a connection when its time is up or `cancelled` is set.

    A scalar function at work on one huge value ends before it notices.

    Raises:
        EventstormError: one of these happened.
    """
    done = threading.Event()
    reason: list[str] = []
    stop = time.monotonic() + timeout_s

    def watch() -> None:
        while not done.wait(_LOOK_S):
            if not reason and cancelled is not None and cancelled.is_set():
                reason.append("the query was cancelled")
            if not reason and time.monotonic() >= stop:
                reason.append(f"the query took more than {timeout_s:g} s: narrow it down, for example by ts and topic")
            if reason:
                # Again and again: one that has not begun yet does not notice.
                connection.interrupt()

    watcher = threading.Thread(target=watch, name="eventstorm-query-limit", daemon=True)
    watcher.start()
    try:
        yield
    except duckdb.InterruptException:
        raise EventstormError(reason[0] if reason else "the query was cut off, since the store closes") from None
    finally:
        done.set()
        watcher.join()


def _only_select(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """Return the text of the one statement, without its semicolon."""
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise EventstormError(f"{len(statements)} statements; a query is one SELECT")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = statements[0].type.name.lower().replace("_", " ")
        raise EventstormError(f"a {kind} statement; only SELECT and its like are answered, nothing can be changed")
    return statements[0].query.strip().rstrip(";")


def _refuse_switches(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Refuse a query whose plan, where macros and texts of SQL are resolved, calls what is more than a question."""
    ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) (\n{statement}\n)").fetchall()
    steps = list(_from_json(plan))
    while steps:
        step = steps.pop()
        if step["name"] in _SWITCHES:
            raise EventstormError(f"{step['name'].lower()}(): only questions are answered, nothing can be changed")
        steps += step["children"]


def _shown(column: str, kind: str) -> str:
    """Return the expression that turns a column into what `_plain` understands.

    Times are made text by DuckDB, whose range is more than Python's.
    """
    if kind == "TIMESTAMP WITH TIME ZONE":
        text = f"replace(timezone('UTC', {column})::VARCHAR, ' ', 'T')"
        return f"CASE WHEN isfinite({column}) THEN {text} || 'Z' ELSE {column}::VARCHAR END"
    if kind.startswith("TIMESTAMP") and kind.isidentifier():
        return f"replace({column}::VARCHAR, ' ', 'T')"
    if kind in ("DATE", "TIME", "TIME WITH TIME ZONE", "INTERVAL", "UUID", "BIT", "BIGNUM"):
        return f"{column}::VARCHAR"
    return f"{column}::JSON" if _is_json(kind) else column


def _is_json(kind: str) -> bool:
    """Tell whether a column is fetched as JSON: Python's own values would need pytz, or hashable keys."""
    return kind in ("VARIANT", "JSON") or "MAP(" in kind or ("TIME" in kind and kind.endswith((")", "]")))


def _fetch(result: duckdb.DuckDBPyConnection, max_rows: int, from_json: list[bool]) -> tuple[list[list[Any]], bool]:
    rows: list[list[Any]] = []
    size = 0
    while fetched := result.fetchmany(_FETCHED_ROWS):
        for row in fetched:
            if len(rows) >= max_rows or size > _MAX_RESULT_BYTES:
                return rows, False
            values = [
                _parsed(value) if is_json else _plain(value) for value, is_json in zip(row, from_json, strict=True)
            ]
            size += len(_size_of(values))
            rows.append(values)
    return rows, True


def _parsed(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return _from_json(text)
    except msgspec.DecodeError:  # NaN, which DuckDB writes as it is
        return text


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: bytes in hexadecimal, NaN and the infinities as text, decimals as floats."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value)
