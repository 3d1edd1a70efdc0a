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
    from eventstorm_sinks.sink import Sink

HELP = "write events into stores"

DESCRIPTION = """\
Receive events and write them into stores. Each store has a queue of its own, so
that one that is down or slow stops no other; what is lost is counted.

A store is written as KIND:PLACE: duckdb:events.duckdb, mongodb://host/database.collection,
jsonl:events.jsonl, or jsonl:- for standard output."""

EPILOG = """\
examples:
  eventstorm sink duckdb:events.duckdb --keep 30d
  eventstorm sink mongodb://127.0.0.1:27017/eventstorm.events --keep 30d
  eventstorm sink jsonl:- --topic shop. --topic http.hit

Every option is also a line of the table [sink] of eventstorm.toml, and a variable:
EVENTSTORM_SINK_EGRESS and so on. Exit codes: 0 stopped by SIGTERM or SIGINT, 2 wrong
usage, 3 could not start, for example since a port is in use."""

_SAME_NAME = ("egress", "embed_router", "ingress", "topics", "http", "keep", "keep_size", "insecure")
# How often to look whether the router still runs.
_LOOK_S = 1.0
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
    parser.add_argument("--http", metavar="HOST:PORT", default="", help="serve the page and the HTTP API there")
    parser.add_argument("--keep", metavar="TIME", help=said["keep"][0])
    parser.add_argument("--keep-size", metavar="SIZE", help=said["keep_size"][0])
    parser.add_argument("--insecure", action="store_const", const=True, help=said["insecure"][0])
    parser.add_argument("--config", metavar="FILE", type=Path, help="read this file in place of eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Receive and write until SIGTERM or SIGINT."""
    from eventstorm_sinks.sink import Sink

    logging.basicConfig(format="eventstorm sink: %(message)s", level=logging.WARNING)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keywords = {name: getattr(arguments, name) for name in _SAME_NAME}
    keywords["stores"] = tuple(arguments.store + arguments.more_stores) or None
    settings = load(SinkSettings, "sink", keywords, arguments.config)
    if not settings.stores:
        raise SettingError(
            "no store: write one as duckdb:events.duckdb or jsonl:events.jsonl, or jsonl:- to see events"
        )
    with stop_signal() as stop:
        sink = Sink(settings)
        with sink:
            announce_ready(f"eventstorm sink: ready: {_ready(sink)}")
            while not stop.wait(_LOOK_S):
                if sink.router and sink.router.failure:
                    raise EventstormError(f"the embedded router failed: {sink.router.failure}")
        for line in _summary(sink):
            print(line, file=sys.stderr)
    return leave(DONE)


def main() -> int:
    """Run ``eventstorm-sink``."""
    from eventstorm_sinks.commands import sink

    return run_alone(sink, "eventstorm-sink", sys.argv[1:])


def _ready(sink: Sink) -> str:
    heard = f"sources at {sink.ingress}, other sinks at {sink.egress}" if sink.router else f"listening to {sink.egress}"
    stores = " and ".join(writer.url for writer in sink.writers)
    page = f", page at {sink.web.url}" if sink.web else ""
    return f"{heard}, writing to {stores}{page}"


def _summary(sink: Sink) -> list[str]:
    rows = sink.ledger.snapshot()
    received, source, way = (
        sum(getattr(row, name) for row in rows) for name in ("received", "lost_source", "lost_way")
    )
    lines = [f"eventstorm sink: stopped: received {received} events, lost {source} at sources, {way} on the way"]
    for writer in sink.writers:
        stats = writer.stats()
        lines.append(
            f"eventstorm sink: {stats.url}: stored {stats.stored} events, refused {stats.refused}, "
            f"lost {stats.overflowed} for want of room or time"
        )
    if malformed := sum(sink.malformed.values()):
        lines.append(f"eventstorm sink: {malformed} malformed messages were left out")
    return lines
