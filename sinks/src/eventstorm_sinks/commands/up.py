"""``eventstorm up``: everything that one machine needs, in one process: router, store, page, system metrics."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from eventstorm.cli import DONE
from eventstorm.daemon import announce_ready, leave, stop_signal
from eventstorm.endpoints import DEFAULT_EGRESS, DEFAULT_INGRESS
from eventstorm.errors import EventstormError, SettingError, StartError
from eventstorm.settings import load, setting
from eventstorm_sinks.commands._neighbours import serves_page, speaks_zeromq
from eventstorm_sinks.commands.sink import SWITCH_INTERVAL_S
from eventstorm_sinks.settings import SinkSettings

if TYPE_CHECKING:
    from eventstorm_sinks.agents import Agents
    from eventstorm_sinks.sink import Sink

HELP = "collect, store and draw events on this machine"

DESCRIPTION = """\
Collect, store and draw events on this machine: a router, a DuckDB store, the page
and this host's system metrics, in one process that only this machine reaches.
Ctrl-C stops it; what it stored is there again the next time."""

EPILOG = """\
examples:
  eventstorm up
  eventstorm up --store duckdb:./events.duckdb --keep 7d
  eventstorm up --http 127.0.0.1:8080 --ingress tcp://127.0.0.1:6000 --egress tcp://127.0.0.1:6001

Every option is also a line of the table [sink] of eventstorm.toml, and a variable:
EVENTSTORM_SINK_HTTP and so on; an empty --keep or --keep-size removes nothing. Exit codes:
0 stopped by SIGTERM or SIGINT, 2 wrong usage, 3 could not start, for example since a port
is in use."""

# What messages of the parts call a setting that is an option here.
_OPTIONS = {"router.ingress": "--ingress", "router.egress": "--egress", "sink.http": "--http"}
# Of stores in files: servers remove by age alone.
_KEEP_SIZE = "10GB"
# How often to look whether the router still runs.
_LOOK_S = 1.0


_checks = {each.name: each.metadata["check"] for each in fields(SinkSettings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings(SinkSettings):
    """A sink's settings, with the defaults of somebody who tries it: a file of their own, and never a full disk."""

    stores: tuple[str, ...] = setting(("duckdb:",), "where events are stored")
    keep: str = setting("30d", "remove events older than this", _checks["keep"])
    keep_size: str = setting(_KEEP_SIZE, "remove the oldest events beyond this size", _checks["keep_size"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    said = {each.name: "{} (default: {})".format(each.metadata["help"], each.default) for each in fields(UpSettings)}
    parser.add_argument("--http", metavar="HOST:PORT", help=said["http"])
    parser.add_argument("--ingress", metavar="ENDPOINT", help=said["ingress"])
    parser.add_argument(
        "--egress", metavar="ENDPOINT", help=f"where other sinks and `tap` connect (default: {DEFAULT_EGRESS})"
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        action="append",
        help="where events are stored; repeatable (default: duckdb:, a file in your data folder)",
    )
    parser.add_argument("--keep", metavar="TIME", help=said["keep"])
    parser.add_argument("--keep-size", metavar="SIZE", help=said["keep_size"])
    parser.add_argument("--no-sysmon", action="store_true", help="without this host's system metrics")
    parser.add_argument(
        "--insecure", action="store_const", const=True, help="allow addresses that other machines reach"
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="read this file in place of eventstorm.toml")
    parser.add_argument("--verbose", action="store_true", help="log more than warnings")


def run(arguments: argparse.Namespace) -> int:
    """Run everything until SIGTERM or SIGINT."""
    settings = _settings(arguments)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        level=logging.INFO if arguments.verbose else logging.WARNING,
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Only now, since they take longer than to tell of a wrong setting.
    from eventstorm_sinks.agents import Agents
    from eventstorm_sinks.sink import Sink

    with stop_signal() as stop, ExitStack() as running:
        sink = Sink(settings)
        try:
            running.enter_context(sink)
        except StartError as error:
            raise StartError(f"{_in_options(str(error))}{_who_is_there(settings)}") from None
        assert sink.ingress is not None
        agents = Agents(sink.ingress, arguments.config, without=("sysmon",) if arguments.no_sysmon else ())
        running.callback(agents.stop)
        agents.start()
        announce_ready(_ready(sink, agents))
        print(_hints(sink), file=sys.stderr, flush=True)
        while not stop.wait(_LOOK_S):
            if sink.router and sink.router.failure:
                raise EventstormError(f"the router failed: {sink.router.failure}")
    print(_goodbye(sink), file=sys.stderr)
    return leave(DONE)


def _settings(arguments: argparse.Namespace) -> SinkSettings:
    names = ("http", "ingress", "egress", "keep", "keep_size", "insecure")
    keywords = {name: getattr(arguments, name) for name in names}
    keywords |= {"stores": tuple(arguments.store) if arguments.store else None, "embed_router": True}
    settings = load(UpSettings, "sink", keywords, arguments.config)
    if settings.workers > 1:
        raise SettingError(
            "sink.workers: `eventstorm up` is one process; run `eventstorm sink --workers` beside a router"
        )
    if settings.keep_size == _KEEP_SIZE and all("://" in url for url in settings.stores):
        settings = replace(settings, keep_size="")  # else they would warn of what nobody has asked for
    if "duckdb:" not in settings.stores:
        return settings
    from eventstorm_sinks.stores.duckdb._database import resolve_path

    # By its whole path from here on, so that people learn where their events are.
    own = f"duckdb:{resolve_path('')}"
    return replace(settings, stores=tuple(own if url == "duckdb:" else url for url in settings.stores))


def _ready(sink: Sink, agents: Agents) -> str:
    page = f"the page is at {sink.web.url}" if sink.web else "no page"
    stores = " and ".join(writer.url for writer in sink.writers)
    beside = f", measuring by {' and '.join(agents.running)}" if agents.running else ""
    failed = f", without {' and '.join(agents.failed)}, see above" if agents.failed else ""
    return f"eventstorm up: ready: {page}, storing into {stores}{beside}{failed}"


def _hints(sink: Sink) -> str:
    """Return what to type next, such that it reaches this process wherever it listens."""
    ingress = "" if sink.ingress == DEFAULT_INGRESS else f" --endpoint {sink.ingress}"
    egress = "" if sink.egress == DEFAULT_EGRESS else f" --egress {sink.egress}"
    return (
        "Now try, in another terminal:\n"
        f"  eventstorm emit{ingress} shop.order total=42.5\n"
        f"  eventstorm tap{egress} shop.\n"
        "Ctrl-C stops it."
    )


def _goodbye(sink: Sink) -> str:
    stored = ", ".join(
        f"stored {stats.stored} events in {stats.url}" for stats in (each.stats() for each in sink.writers)
    )
    return f"eventstorm up: stopped; {stored}"


def _in_options(message: str) -> str:
    """Name the option in place of the setting."""
    for place, option in _OPTIONS.items():
        message = message.replace(f"{place}:", f"{option}:")
    return message


def _who_is_there(settings: SinkSettings) -> str:
    """Tell whether an Eventstorm runs already, which is the usual reason that this one cannot start."""
    if settings.http and serves_page(settings.http):
        return f". An eventstorm runs already: its page is at http://{settings.http}"
    for endpoint in (settings.ingress, settings.egress):
        if speaks_zeromq(endpoint):
            return f". At {endpoint} there is something that speaks ZeroMQ: another eventstorm, it seems"
    return ""
