"""Retention: removing the oldest events, by age and by size."""

from __future__ import annotations

import contextlib
import time

import duckdb

__all__ = ["checkpoint", "remove_beyond_size", "remove_older", "used_bytes"]

# What one transaction removes: others wait for no longer than this takes.
_STEP_EVENTS = 500_000
# The events that arrive in the meantime wait in the sink's queue.
_MOST_S = 5.0
# Remove a little more than needed, so that it is not needed again at once.
_TARGET = 0.95


def remove_older(connection: duckdb.DuckDBPyConnection, before_ms: int) -> int:
    """Remove the events from before a time, in steps, for a few seconds at most; return how many went."""
    stop = time.monotonic() + _MOST_S
    removed = 0
    while True:
        ((count,),) = connection.execute(
            """
            DELETE FROM events WHERE rowid IN (
                SELECT rowid FROM events WHERE ts < make_timestamp_ms($before_ms)::TIMESTAMPTZ LIMIT $most
            )
            """,
            {"before_ms": before_ms, "most": _STEP_EVENTS},
        ).fetchall()
        removed += int(count)
        if count < _STEP_EVENTS or time.monotonic() > stop:
            return removed


def remove_beyond_size(connection: duckdb.DuckDBPyConnection, keep_bytes: float, log_bytes: int) -> int:
    """Remove the oldest events if file and log hold more than `keep_bytes`; return how many went."""
    if used_bytes(connection) + log_bytes <= keep_bytes:
        return 0
    # What is in the log takes a fraction of its size in the file.
    checkpoint(connection)
    used = used_bytes(connection)
    if used <= keep_bytes:
        return 0
    share = 1 - keep_bytes * _TARGET / used
    (before_ms,) = connection.execute(
        "SELECT approx_quantile(epoch_ms(ts), $share::FLOAT) FROM events", {"share": share}
    ).fetchall()[0]
    return 0 if before_ms is None else remove_older(connection, before_ms + 1)


def used_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    """Return what of the file is in use. The file itself does not shrink: its free blocks are used again."""
    (used,) = connection.execute("SELECT used_blocks * block_size FROM pragma_database_size()").fetchall()[0]
    return int(used)


def checkpoint(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the log into the file, which frees the blocks of removed events."""
    # Not possible while someone reads what was removed; the next one does it.
    with contextlib.suppress(duckdb.TransactionException):
        connection.execute("CHECKPOINT").fetchall()
