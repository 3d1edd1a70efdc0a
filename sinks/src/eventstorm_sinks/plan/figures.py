"""The figures that plans are made of: each with where it is from, and each to be replaced by one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eventstorm.errors import SettingError
from eventstorm.settings import nearest

__all__ = ["FIGURES", "STORES", "Figure", "figures_with"]

STORES = ("mongodb", "cassandra", "duckdb", "jsonl")
_BENCH = "measured, `nox -s bench -- scale`"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and how far it is to be believed."""

    value: float
    what: str
    source: str


# CPU times are of one core of the machine that docs/benchmarks.md calls B, which is shared with others: a modest one.
FIGURES: Mapping[str, Figure] = {
    "router.message_us": Figure(3.6, "CPU of a router for a message, to one sink", _BENCH),
    "router.mib_us": Figure(835.0, "CPU of a router for a MiB, to one sink", _BENCH),
    "router.further_sink": Figure(0.71, "what a further sink costs a router, of what the first one does", _BENCH),
    "sink.skip_us": Figure(52.0, "CPU of a sink for a full message of another's share", _BENCH),
    "sink.mib": Figure(150.0, "memory of a sink's process in MiB, without its queues", "measured, `up` idle: 106 MiB"),
    "sink.stall": Figure(0.1, "part of the time in which a store takes nothing: checkpoints, elections", "assumed"),
    "mongodb.event_us": Figure(6.0, "time of a worker for an event into MongoDB", "measured: CPU 2.6; and answers"),
    "cassandra.event_us": Figure(14.0, "time of a worker for an event into Cassandra", "measured, beside a node"),
    "duckdb.event_us": Figure(13.0, "time of a worker for an event into DuckDB", "measured, `nox -s bench -- sink`"),
    "jsonl.event_us": Figure(15.0, "time of a worker for an event into JSON lines", _BENCH),
    "mongodb.server_events": Figure(25_000, "events a second that a shard takes", "assumed; measure yours"),
    "cassandra.server_events": Figure(15_000, "events a second that a node takes", "assumed; measure yours"),
    "mongodb.stored": Figure(1.0, "bytes on disk, of those of the events", "assumed: compressed by half, envelope"),
    "cassandra.stored": Figure(1.0, "bytes on disk, of those of the events", "assumed: JSON, compressed"),
    "duckdb.stored": Figure(0.5, "bytes on disk, of those of the events", "measured 0.2; real texts compress less"),
    "jsonl.stored": Figure(1.5, "bytes on disk, of those of the events", "measured, beside the envelope"),
    "mongodb.event_bytes": Figure(80, "bytes on disk of an event beside its document: envelope, indexes", "assumed"),
    "cassandra.event_bytes": Figure(60, "bytes on disk of an event beside its document", "assumed"),
    "duckdb.event_bytes": Figure(10, "bytes on disk of an event beside its document", "measured"),
    "jsonl.event_bytes": Figure(175, "bytes on disk of an event beside its document", "measured"),
    "cassandra.partition_events": Figure(100_000, "events that a partition should hold at most", "docs/cassandra.md"),
}


def figures_with(replaced: Sequence[str]) -> dict[str, Figure]:
    """Return the figures with those replaced that ``NAME=VALUE`` says.

    Raises:
        SettingError: there is no such figure, or the value is no positive number.
    """
    figures = dict(FIGURES)
    for text in replaced:
        name, _, value = text.partition("=")
        if name not in figures:
            raise SettingError(f"--figure {text}: no figure {name!r}{nearest(name, list(figures))}")
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise SettingError(f"--figure {text}: {value!r} is no number above 0; write it as {name}=12.5")
        figures[name] = Figure(number, figures[name].what, "as you said")
    return figures
