"""``eventstorm sql``: ask the embedded store, through the server if it runs, else the file itself."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eventstorm.cli import DONE
from eventstorm.endpoints import DEFAULT_HTTP
from eventstorm.errors import SettingError
from eventstorm.settings import load
from eventstorm_sinks.settings import SinkSettings

if TYPE_CHECKING:
    from eventstorm_sinks.stores import SqlResult

HELP = "ask the embedded store in SQL"

DESCRIPTION = """\
Ask the embedded store in SQL: the running server if there is one, else the file.
Queries cannot change anything, and are bounded in time and rows.

The table `events` has id, ts, topic, source (source.host, source.service, source.pid),
data (the fields: data.http.route) and bson (the original of what JSON cannot hold);
`books` has what was stored and lost."""

EPILOG = """\
examples:
  eventstorm sql "SELECT topic, count(*) FROM events GROUP BY topic"
  eventstorm sql --json "SELECT ts, data.total FROM events WHERE topic = 'shop.order'"
  eventstorm sql - < query.sql

On a terminal the result is a table, elsewhere tab-separated lines under one of names;
with --json, an object a line. Times are in UTC. Exit codes: 0 done, 1 failed, 2 wrong
usage, 3 the file cannot be opened, 130 ended by Ctrl-C, which ends the query too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("query", metavar="QUERY", help="one SELECT; - reads it from standard input")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--url", help=f"the server to ask (default: sink.http, else http://{DEFAULT_HTTP}, if it runs)")
    place.add_argument("--store", metavar="PATH", help="the file to open, as PATH or duckdb:PATH, and no server")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--rows", type=int, metavar="N", help="the most rows to return (default: sink.sql_rows)")
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="the longest it may take (default: sink.sql_timeout_s)"
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="read this file in place of eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Ask, and print the answer."""
    # Not for `eventstorm --help`, which imports this module too.
    from eventstorm_sinks.commands._sql_answer import print_json, print_rows
    from eventstorm_sinks.commands._sql_ask import NoServer, ask_file, ask_server

    keywords = {"sql_rows": arguments.rows, "sql_timeout_s": arguments.timeout}
    settings = load(SinkSettings, "sink", keywords, arguments.config)
    query = sys.stdin.read() if arguments.query == "-" else arguments.query
    if not query.strip():
        raise SettingError("no query; for example: SELECT topic, count(*) FROM events GROUP BY topic")
    result: SqlResult
    if arguments.store is not None:
        result = ask_file(_place(arguments.store), query, settings)
    else:
        try:
            result = ask_server(arguments.url or f"http://{settings.http or DEFAULT_HTTP}", query, settings)
        except NoServer:
            if arguments.url:
                raise
            result = ask_file(_configured(settings), query, settings)
    (print_json if arguments.json else print_rows)(result)
    if result.truncated:
        print(f"eventstorm sql: these are the first {len(result.rows)} rows; --rows asks for more", file=sys.stderr)
    return DONE


def _configured(settings: SinkSettings) -> str:
    """Return the place of the first store that can be asked; the empty one is the default."""
    places = [store.removeprefix("duckdb:") for store in settings.stores if store.startswith("duckdb:")]
    if settings.stores and not places:
        from eventstorm_sinks.stores import redacted

        raise SettingError(
            f"sink.stores: none of {' '.join(map(redacted, settings.stores))} answers SQL; DuckDB does: name a file by "
            "--store, or a running server by --url"
        )
    return places[0] if places else ""


def _place(store: str) -> str:
    """Return the path in what `--store` says.

    Raises:
        SettingError: it is a store that does not answer SQL.
    """
    if "://" in store:
        from eventstorm_sinks.stores import redacted

        raise SettingError(f"--store: {redacted(store)!r} does not answer SQL; DuckDB does: --store duckdb:PATH")
    return store.removeprefix("duckdb:")
