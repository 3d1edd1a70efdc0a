"""``eventstorm page``: one page over all sinks that share a store."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields
from pathlib import Path

from eventstorm.cli import DONE
from eventstorm.daemon import announce_ready, leave, stop_signal
from eventstorm.errors import SettingError
from eventstorm.settings import load
from eventstorm_sinks.commands.sink import SWITCH_INTERVAL_S
from eventstorm_sinks.settings import SinkSettings

HELP = "serve one page over all sinks of a store"

DESCRIPTION = """\
Serve one page, and the HTTP API, over all sinks that share a store: the workers of
`eventstorm sink --workers N`, and sinks with --share on several hosts. It stores nothing.
History, searches and the ledger come from the store, what is live from the router.

The store is one that sinks can share and that answers questions:
mongodb://host/database.collection or cassandra://host/keyspace.table. A DuckDB file
belongs to one process: that one serves its page."""

EPILOG = """\
examples:
  eventstorm page mongodb://127.0.0.1:27017/eventstorm.events
  eventstorm page cassandra://127.0.0.1/eventstorm.events --http 127.0.0.1:8080
  eventstorm page mongodb://127.0.0.1:27017/eventstorm.events --egress tcp://10.0.0.1:5551 --topic http.

Every option is also a line of the table [sink] of eventstorm.toml, and a variable:
EVENTSTORM_SINK_HTTP and so on. Exit codes: 0 stopped by SIGTERM or SIGINT, 2 wrong usage,
3 could not start, for example since a port is in use."""

_SAME_NAME = ("egress", "topics", "http", "insecure")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    said = {each.name: (each.metadata["help"], each.default) for each in fields(SinkSettings)}
    parser.add_argument("store", nargs="*", metavar="STORE", help="the store that the sinks write")
    parser.add_argument(
        "--egress", metavar="ENDPOINT", help="the egress of the sinks' router (default: {1})".format(*said["egress"])
    )
    parser.add_argument(
        "--http", metavar="HOST:PORT", help="address of the page and the HTTP API (default: {1})".format(*said["http"])
    )
    parser.add_argument(
        "--topic",
        dest="topics",
        metavar="TOPIC",
        action="append",
        help="what to show live: topics, or subtrees as http. (default: all); repeatable. As for the sinks",
    )
    parser.add_argument("--insecure", action="store_const", const=True, help=said["insecure"][0])
    parser.add_argument("--config", metavar="FILE", type=Path, help="read this file in place of eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(format="eventstorm page: %(message)s", level=logging.WARNING)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keywords = {name: getattr(arguments, name) for name in _SAME_NAME}
    keywords["stores"] = tuple(arguments.store) or None
    settings = load(SinkSettings, "sink", keywords, arguments.config)
    if not settings.stores:
        raise SettingError("no store: name the one that the sinks share: mongodb://127.0.0.1:27017/eventstorm.events")
    # Only now, since it takes longer than to tell of a wrong setting.
    from eventstorm_sinks.overview import Overview

    with stop_signal() as stop:
        overview = Overview(settings)
        with overview:
            assert overview.web
            names = " and ".join(each.name for each in overview.stores)
            announce_ready(
                f"eventstorm page: ready: the page is at {overview.web.url}, reading {names}, "
                f"listening to {settings.egress}"
            )
            stop.wait()
    return leave(DONE)
