"""``eventstorm copy``: copy events from one store into another."""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from eventstorm.cli import DONE, FAILED
from eventstorm.errors import EventstormError, SettingError
from eventstorm.settings import load
from eventstorm.topics import subscription
from eventstorm_sinks.settings import SinkSettings, parse_duration

if TYPE_CHECKING:
    from eventstorm_sinks.copying import Copied

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

HELP = "copy events from one store into another"

DESCRIPTION = """\
Copy events, and the books that tell what was stored and lost, from one store into
another: DuckDB, MongoDB, Cassandra, JSON lines, Parquet files. What the target has
already is left as it is, so that a copy that was broken off, or is repeated, stores
nothing twice and goes on where it was.

A store is written as for `eventstorm sink`, and parquet:FOLDER is one too."""

EPILOG = """\
examples:
  eventstorm copy duckdb:events.duckdb mongodb://127.0.0.1:27017/eventstorm.events
  eventstorm copy duckdb:events.duckdb parquet:archive --topic http. --until 2026-07-01
  eventstorm copy mongodb://127.0.0.1:27017/eventstorm.events jsonl:- --since 1h
  eventstorm copy duckdb:events.duckdb jsonl:- --topic http.hit --where 'duration>=0.5'

Times are as 2026-07-01 or 2026-07-01T12:00:00Z, in UTC unless they say otherwise, or so
long ago: 30d, 12h. Options of stores are read from the table [sink] of eventstorm.toml.
Exit codes: 0 done, 1 failed or some events were refused, 2 wrong usage, 3 a store could
not be opened, 130 ended by Ctrl-C; what was copied until then is there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("source", metavar="FROM", help="the store that has the events; it is only read")
    parser.add_argument("target", metavar="TO", help="the store that is to have them; made if it is not there")
    parser.add_argument(
        "--topic", metavar="TOPIC", action="append", default=[], help="a topic, or a subtree as http.*; repeatable"
    )
    parser.add_argument("--since", metavar="TIME", help="only events from then on; the books stay behind")
    parser.add_argument("--until", metavar="TIME", help="only events before then; the books stay behind")
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="only events of which this holds: 'http.response.status_code>=500'; one of = != < <= > >=; repeatable, "
        "and then all have to hold; the books stay behind",
    )
    parser.add_argument(
        "--wait", metavar="TIME", default="30s", help="how long to try again while a store is away (default: 30s)"
    )
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    parser.add_argument("--config", metavar="FILE", type=Path, help="read this file in place of eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Copy, and say what became of it."""
    from eventstorm_sinks.commands._copy_progress import ended_by_signal, expected, progress
    from eventstorm_sinks.copying import Copied, Selection, copy_events
    from eventstorm_sinks.stores import StoreUnavailable, open_archive, open_to_read, redacted
    from eventstorm_sinks.stores.where import parse_condition

    logging.basicConfig(format="eventstorm copy: %(message)s", level=logging.WARNING)
    settings = load(SinkSettings, "sink", {}, arguments.config)
    now_s = time.time()
    since_ms, until_ms = (_time_ms(getattr(arguments, name), f"--{name}", now_s) for name in ("since", "until"))
    where = tuple(parse_condition(each, "--where") for each in arguments.where)
    selection = Selection(_topics(arguments.topic), since_ms, until_ms, where)
    patience_s = 0.0 if arguments.wait == "0" else parse_duration(arguments.wait, "--wait") or 0.0
    if arguments.source == arguments.target:
        raise SettingError(f"{redacted(arguments.source)!r} is both; name another place to copy to")
    done, signal_code, began_s = Copied(), 0, time.monotonic()
    try:
        with ended_by_signal(), ExitStack() as stack:
            source = open_to_read(arguments.source, settings)
            stack.callback(source.close)
            target = open_archive(arguments.target, settings)
            stack.callback(target.close)
            with progress(expected(source, selection)) as notice:
                copy_events(source, target, selection, done, patience_s=patience_s, notice=notice)
    except KeyboardInterrupt as stopped:
        signal_code = int(stopped.args[0]) if stopped.args else 128 + signal.SIGINT
    except StoreUnavailable as error:
        raise EventstormError(f"{error}; {_said(done)}; the same command goes on from there") from error
    seconds = time.monotonic() - began_s
    if arguments.json:
        print(json.dumps({**asdict(done), "seconds": round(seconds, 3), "complete": not signal_code}))
    else:
        rate = f" in {seconds:.1f} s, {done.copied / seconds:,.0f} a second" if done.copied else ""
        stopped_by = "broken off: the same command goes on from there: " if signal_code else ""
        print(f"eventstorm copy: {stopped_by}{_said(done)}{rate}", file=sys.stderr)
    return signal_code or (FAILED if done.refused else DONE)


def _said(done: Copied) -> str:
    parts = [f"copied {done.copied:,} events"]
    parts += [f"{done.there:,} were there before"] * bool(done.there)
    parts += [f"the target refused {done.refused:,}"] * bool(done.refused)
    parts += [f"accounts written: {done.books:,}"] * bool(done.books)
    parts += [f"accounts left as the target has them: {done.books_left:,}"] * bool(done.books_left)
    return ", ".join(parts)


def _topics(topics: list[str]) -> tuple[str, ...]:
    try:
        everything = [subscription(each) for each in topics]
    except ValueError as error:
        raise SettingError(f"--topic: {error}") from None
    return () if b"" in everything else tuple(topics)


def _time_ms(text: str | None, place: str, now_s: float) -> int | None:
    """Return a time in milliseconds since 1970."""
    if text is None:
        return None
    if re.fullmatch(r"[\d.]+\s*[a-z]", text):
        return int((now_s - (parse_duration(text, place) or 0)) * 1000)
    try:
        # Python 3.10 does not know the Z.
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    except ValueError:
        raise SettingError(
            f"{place}: {text!r} is no time; write it as 2026-07-01, 2026-07-01T12:00:00Z, or 30d for so long ago"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return (moment - _EPOCH) // timedelta(milliseconds=1)
