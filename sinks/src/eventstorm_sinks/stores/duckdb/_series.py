"""Numeric fields over time, aggregated by DuckDB."""

from __future__ import annotations

from typing import Any

import duckdb

from eventstorm_sinks.stores import Series

__all__ = ["path_expression", "read_series"]

_AGGREGATES = {
    "count": "count({0})",
    "sum": "sum({0})",
    "avg": "avg({0})",
    "min": "min({0})",
    "max": "max({0})",
    "p50": "quantile_cont({0}, 0.50)",
    "p95": "quantile_cont({0}, 0.95)",
    "p99": "quantile_cont({0}, 0.99)",
}
_MAX_LINES = 50
_MAX_NAME = 200
_SOURCE_FIELDS = {
    "topic": "topic",
    "source.id": "lower(hex(source.id))",
    "source.host": "source.host",
    "source.service": "source.service",
    "source.pid": "source.pid::VARCHAR",
}
# TIMESTAMPTZ ends at some 9.2e12 s on both sides; whoever asks for more gets everything.
_MAX_S = 9 * 10**12
# BSON's own usual limit to how deep documents are nested. DuckDB's limit for expressions lies beyond.
_MAX_DEPTH = 100


def read_series(
    connection: duckdb.DuckDBPyConnection,
    topic: str,
    field: str | None,
    aggregate: str,
    start_s: int,
    stop_s: int,
    step_s: int,
    by: str | None,
) -> list[Series]:
    """Aggregate over steps of time; see `Reader.series`. Lines come with the most events first.

    Raises:
        ValueError: an argument is not one of those, or a path is too deep.
    """
    if aggregate not in _AGGREGATES:
        raise ValueError(f"no aggregate {aggregate!r}; there are {', '.join(_AGGREGATES)}")
    if field is None and aggregate != "count":
        raise ValueError(f"{aggregate} needs a field")
    if step_s < 1 or start_s % step_s:
        raise ValueError(f"a step of {step_s} s: it must be 1 or more, and start_s a multiple of it")
    values: dict[str, Any] = {
        "topic": topic,
        "start_ms": max(start_s, -_MAX_S) * 1000,
        "stop_ms": min(max(stop_s, -_MAX_S), _MAX_S) * 1000,
        "step_ms": step_s * 1000,
    }
    value = "true" if field is None else _number(path_expression(field, "field", values))
    if by is None:
        name = "''"
    elif by in _SOURCE_FIELDS:
        name = _SOURCE_FIELDS[by]
    else:
        name = f"coalesce(left({path_expression(by, 'by', values)}::VARCHAR, {_MAX_NAME}), '')"
    rows = connection.execute(
        f"""
        WITH chosen AS (
            SELECT (epoch_ms(ts) - $start_ms) // $step_ms AS step, {name} AS name, {value} AS value
            FROM events
            WHERE ($topic = '' OR topic = $topic) AND ts >= make_timestamp_ms($start_ms)::TIMESTAMPTZ
                AND ts < make_timestamp_ms($stop_ms)::TIMESTAMPTZ
        ),
        biggest AS (
            SELECT name, count(*) AS events FROM chosen GROUP BY name ORDER BY events DESC, name LIMIT {_MAX_LINES}
        )
        SELECT name, step, {_AGGREGATES[aggregate].format("value")}
        FROM chosen JOIN biggest USING (name)
        GROUP BY name, events, step ORDER BY events DESC, name, step
        """,
        values,
    ).fetchall()
    lines: dict[str, Series] = {}
    for name, step, result in rows:
        point = (start_s + step * step_s, None if result is None else float(result))
        lines.setdefault(name, Series(name, [])).points.append(point)
    return list(lines.values())


def path_expression(path: str, prefix: str, values: dict[str, Any]) -> str:
    """Return the expression for a dotted path; its names travel as bound values, never as SQL."""
    names = path.split(".")
    if len(names) > _MAX_DEPTH:
        raise ValueError(f"{prefix}: {len(names)} names with dots in between; at most {_MAX_DEPTH} are allowed")
    expression = "data"
    for number, name in enumerate(names):
        values[f"{prefix}_{number}"] = name
        expression += f"[${prefix}_{number}::VARCHAR]"
    return expression


def _number(expression: str) -> str:
    """Return the expression's value where it is a number; a text of digits is none, and neither is a boolean."""
    return (
        f"CASE WHEN variant_typeof({expression}) NOT IN ('VARCHAR', 'BOOL_TRUE', 'BOOL_FALSE') "
        f"THEN try_cast({expression} AS DOUBLE) END"
    )
