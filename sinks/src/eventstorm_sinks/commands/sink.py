"""``eventstorm sink``, also ``eventstorm-sink``: receive events and write them into stores."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from eventstorm.cli import DONE, run_alone
from eventstorm.daemon import announce_ready, leave, stop_signal
from eventstorm.errors import EventstormError, SettingError
from eventstorm.settings import load
from eventstorm_sinks.settings import SinkSettings

if TYPE_CHECKING:
    from eventstorm_sinks.worker import Report

HELP = "write events into stores"

DESCRIPTION = """\
Receive events and write them into stores. Each store has a queue of its own, so
that one that is down or slow stops no other; what is lost is counted.

A store is written as KIND:PLACE: duckdb:events.duckdb, mongodb://host/database.collection,
cassandra://host/keyspace.table, jsonl:events.jsonl, or jsonl:- for standard output.

Where one process is not enough, --workers N runs N that share the events, and --share
2/3 makes this sink the second of three, on one host or several, at the same router. Each
event is stored by one of them. MongoDB and Cassandra they may share; of jsonl:events.jsonl
each writes a file of its own, events-2of3.jsonl; a DuckDB file belongs to one process."""

EPILOG = """\
examples:
  eventstorm sink duckdb:events.duckdb --keep 30d
  eventstorm sink mongodb://127.0.0.1:27017/eventstorm.events --keep 30d
  eventstorm sink mongodb://127.0.0.1:27017/eventstorm.events --workers 4
  eventstorm sink mongodb://127.0.0.1:27017/eventstorm.events --share 1/2
  eventstorm sink jsonl:- --topic shop. --topic http.hit

Every option is also a line of the table [sink] of eventstorm.toml, and a variable:
EVENTSTORM_SINK_EGRESS and so on. Exit codes: 0 stopped by SIGTERM or SIGINT, 2 wrong
usage, 3 could not start, for example since a port is in use."""

_SAME_NAME = (
    "egress", "embed_router", "ingress", "topics", "workers", "share", "share_by",
    "http", "keep", "keep_size", "insecure",
)  # fmt: skip
# How often to look whether the router still runs.
_LOOK_S = 1.0
# And what workers tell; a signal is noticed so late at most.
_WATCH_S = 0.2
# Threads that hold the interpreter, as a writer does while it encodes, give it to the receiver after this long.
# Python's own 5 ms would let the receiver, which asks for it three times a message, take only some 70 messages a
# second then; and the thread in which DuckDB inserts asks for it several times a statement.
SWITCH_INTERVAL_S = 0.0001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    said = {each.name: (each.metadata["help"], each.default) for each in fields(SinkSettings)}
    parser.add_argument("store", nargs="*", metavar="STORE", help="where events are written")
    parser.add_argument("--store", dest="more_stores", metavar="URL", action="append", default=[], help="one more")
    parser.add_argument("--egress", metavar="ENDPOINT", help="{} (default: {})".format(*said["egress"]))
    parser.add_argument("--embed-router", action="store_const", const=True, help=said["embed_router"][0])
    parser.add_argument("--ingress", metavar="ENDPOINT", help="{} (default: {})".format(*said["ingress"]))
    parser.add_argument(
        "--topic", dest="topics", metavar="TOPIC", action="append", help=f"{said['topics'][0]}; repeatable"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="so many processes share the work (default: {1})".format(*said["workers"]),
    )
    parser.add_argument("--share", metavar="I/N", help=f"{said['share'][0]} (default: {said['share'][1]})")
    parser.add_argument("--share-by", metavar="WHAT", help=f"{said['share_by'][0]} (default: {said['share_by'][1]})")
    parser.add_argument(
        "--http",
        metavar="HOST:PORT",
        default="",
        help="serve the page and the HTTP API there; each worker at a port of its own, from this one on "
        "(one page over all of them: eventstorm page)",
    )
    parser.add_argument("--keep", metavar="TIME", help=said["keep"][0])
    parser.add_argument("--keep-size", metavar="SIZE", help=said["keep_size"][0])
    parser.add_argument("--insecure", action="store_const", const=True, help=said["insecure"][0])
    parser.add_argument("--config", metavar="FILE", type=Path, help="read this file in place of eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Receive and write until SIGTERM or SIGINT."""
    logging.basicConfig(format="eventstorm sink: %(message)s", level=logging.WARNING)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keywords = {name: getattr(arguments, name) for name in _SAME_NAME}
    keywords["stores"] = tuple(arguments.store + arguments.more_stores) or None
    settings = load(SinkSettings, "sink", keywords, arguments.config)
    if not settings.stores:
        raise SettingError(
            "no store: write one as duckdb:events.duckdb or jsonl:events.jsonl, or jsonl:- to see events"
        )
    return _run_workers(settings) if settings.workers > 1 else _run_alone(settings)


def _run_alone(settings: SinkSettings) -> int:
    from eventstorm_sinks.sink import Sink
    from eventstorm_sinks.worker import report_of

    with stop_signal() as stop:
        sink = Sink(settings)
        with sink:
            stores = [writer.url for writer in sink.writers]
            pages = [sink.web.url] if sink.web else []
            announce_ready(_ready(settings, sink.router is not None, sink.ingress, sink.egress, stores, pages))
            while not stop.wait(_LOOK_S):
                if sink.router and sink.router.failure:
                    raise EventstormError(f"the embedded router failed: {sink.router.failure}")
        _print_summary(report_of(sink))
    return leave(DONE)


def _run_workers(settings: SinkSettings) -> int:
    from eventstorm_sinks.stores import redacted
    from eventstorm_sinks.supervise import Workers

    with stop_signal() as stop:
        workers = Workers(settings, SWITCH_INTERVAL_S)
        with workers:
            workers.start(stop.is_set)
            if not stop.is_set():
                stores = [redacted(url) for url in settings.stores]
                has_router = workers.router is not None
                announce_ready(_ready(settings, has_router, workers.ingress, workers.egress, stores, workers.pages))
            while not stop.is_set():
                workers.watch(_WATCH_S)
                if workers.router and workers.router.failure:
                    raise EventstormError(f"the embedded router failed: {workers.router.failure}")
        _print_summary(workers.report())
    return leave(DONE)


def main() -> int:
    """Run ``eventstorm-sink``."""
    from eventstorm_sinks.commands import sink

    return run_alone(sink, "eventstorm-sink", sys.argv[1:])


def _ready(
    settings: SinkSettings, has_router: bool, ingress: str | None, egress: str, stores: list[str], pages: list[str]
) -> str:
    workers = f"{settings.workers} workers, " if settings.workers > 1 else ""
    share = f"share {settings.share} of the {settings.share_by}s, " if settings.share != "1/1" else ""
    heard = f"sources at {ingress}, other sinks at {egress}" if has_router else f"listening to {egress}"
    page = f", page at {' and '.join(pages)}" if pages else ""
    return f"eventstorm sink: ready: {workers}{share}{heard}, writing to {' and '.join(stores)}{page}"


def _print_summary(report: Report) -> None:
    lost = f"lost {report.lost_source} at sources, {report.lost_way} on the way"
    lines = [f"stopped: received {report.received} events, {lost}"]
    for store in report.stores:
        lines.append(
            f"{store.url}: stored {store.stored} events, refused {store.refused}, "
            f"lost {store.overflowed} for want of room or time"
        )
    if report.malformed:
        lines.append(f"{report.malformed} malformed messages were left out")
    for line in lines:
        print(f"eventstorm sink: {line}", file=sys.stderr)
