"""``eventstorm router``, also ``eventstorm-router``: a router alone."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import fields

from eventstorm.cli import DONE, run_alone
from eventstorm.daemon import announce_ready, stop_signal
from eventstorm.errors import EventstormError
from eventstorm.settings import load
from eventstorm_router.settings import RouterSettings

HELP = "route events from sources to sinks"

DESCRIPTION = """\
Route events from sources to sinks.

Programs that emit connect to the ingress, sinks and `eventstorm tap` to the egress.
What sinks subscribe to goes back to the sources, which send nothing else. With
--upstream this router is itself a source of another router: put one on each host,
and let it feed a central one."""

EPILOG = """\
example:
  eventstorm router --upstream tcp://central.example:5550

Every option is also a line of the table [router] of eventstorm.toml, and a variable:
EVENTSTORM_ROUTER_INGRESS and so on. Exit codes: 0 stopped by SIGTERM or SIGINT,
2 wrong usage, 3 could not start, for example since a port is in use."""

# How often to look whether the proxy still runs.
_LOOK_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    said = {each.name: (each.metadata["help"], each.default) for each in fields(RouterSettings)}
    for name in ("ingress", "egress"):
        parser.add_argument(f"--{name}", metavar="ENDPOINT", help="{} (default: {})".format(*said[name]))
    parser.add_argument("--upstream", metavar="ENDPOINT", action="append", help=f"{said['upstream'][0]}; repeatable")
    parser.add_argument("--insecure", action="store_const", const=True, help=said["insecure"][0])
    parser.add_argument("--stats-s", metavar="SECONDS", help="{} (default: {})".format(*said["stats_s"]))
    parser.add_argument("--hwm", metavar="BATCHES", help="{} (default: {})".format(*said["hwm"]))


def run(arguments: argparse.Namespace) -> int:
    """Route until SIGTERM or SIGINT."""
    from eventstorm_router.router import Router

    settings = load(RouterSettings, "router", vars(arguments))
    _allow_many_peers()
    with stop_signal() as stop, Router(settings) as router:
        up = f", passing on to {' and '.join(settings.upstream)}" if settings.upstream else ""
        announce_ready(f"eventstorm router: ready: sources at {router.ingress}, sinks at {router.egress}{up}")
        while not stop.wait(_LOOK_S):
            if router.failure:
                raise EventstormError(f"the router failed: {router.failure}")
    return DONE


def main() -> int:
    """Run ``eventstorm-router``."""
    from eventstorm_router import command

    return run_alone(command, "eventstorm-router", sys.argv[1:])


def _allow_many_peers() -> None:
    """Lift the limit of open files, of which each peer needs one, as far as this user may."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # there is no such limit on Windows
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
