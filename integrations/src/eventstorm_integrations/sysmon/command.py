"""``eventstorm sysmon``, also ``eventstorm-sysmon``: this host's system metrics, for a router elsewhere."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from eventstorm import Source
from eventstorm.cli import DONE, run_alone
from eventstorm.daemon import announce_ready, stop_signal
from eventstorm.errors import EventstormError, StartError
from eventstorm.settings import SdkSettings, load
from eventstorm_integrations.sysmon.settings import TOPICS, SysmonSettings

HELP = "emit this host's CPU, memory, disk and network metrics"

DESCRIPTION = """\
Measure this host every second and emit what was measured: CPU, memory, filesystems,
disks, network interfaces, sensors, the busiest processes, and those of chosen services.
Only what somebody listens to is measured. `eventstorm up` does this by itself; this command
is for the other hosts."""

EPILOG = f"""\
examples:
  eventstorm sysmon --endpoint tcp://central.example:5550
  eventstorm sysmon --service nginx.service --service /run/shop.pid --service redis-server
  eventstorm sysmon --print --once

topics: {", ".join(TOPICS[:6])},
  {", ".join(TOPICS[6:])}

All but --print, --once and --config are also lines of the tables [sysmon] and [sdk] of
eventstorm.toml, and variables: EVENTSTORM_SYSMON_INTERVAL_S and so on. Exit codes: 0 stopped
by SIGTERM or SIGINT, or done with --once; 2 wrong usage; 3 could not start."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    said = {each.name: each.metadata["help"] for each in fields(SysmonSettings)}
    parser.add_argument("--endpoint", help="the router's ingress (default: tcp://127.0.0.1:5550)")
    parser.add_argument("--interval", metavar="SECONDS", help=f"{said['interval_s']} (default: 1)")
    parser.add_argument("--processes", metavar="COUNT", help=f"{said['processes']} (default: 10)")
    parser.add_argument(
        "--pid", metavar="PID", action="append", help="a process to report with its children; repeatable"
    )
    parser.add_argument(
        "--service",
        metavar="NAME",
        action="append",
        help="a service to report: a systemd unit such as nginx.service, the path of a pid file, or a program's name; "
        "repeatable",
    )
    parser.add_argument(
        "--topic", metavar="TOPIC", action="append", help=f"{said['topics']}; repeatable (default: all)"
    )
    parser.add_argument("--print", action="store_true", help="write JSON lines to standard output instead")
    parser.add_argument("--once", action="store_true", help="measure once, which takes an interval, and end")
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings, in place of ./eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Measure until SIGTERM or SIGINT."""
    keywords = {
        "interval_s": arguments.interval,
        "processes": arguments.processes,
        "topics": tuple(arguments.topic) if arguments.topic else None,
        "pids": tuple(arguments.pid) if arguments.pid else None,
        "services": tuple(arguments.service) if arguments.service else None,
    }
    settings = load(SysmonSettings, "sysmon", keywords, arguments.config)
    sdk = load(SdkSettings, "sdk", {"endpoint": arguments.endpoint}, arguments.config)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        from eventstorm_integrations.sysmon.agent import run as measure
        from eventstorm_integrations.sysmon.sampler import Sampler
    except ImportError as error:
        raise StartError(f"{error}; install it with: pip install 'eventstorm-integrations[sysmon]'") from None

    samples = 1 if arguments.once else None
    with stop_signal() as stop:
        sampler = Sampler(settings)
        if arguments.print:
            announce_ready(f"eventstorm sysmon: ready: printing every {settings.interval_s:g} s")
            measure(sampler, settings.interval_s, _Printer(), stop, samples=samples)
            return DONE
        source = Source(replace(sdk, service=sdk.service or "sysmon"))
        announce_ready(f"eventstorm sysmon: ready: measuring every {settings.interval_s:g} s, for {sdk.endpoint}")
        try:
            measure(sampler, settings.interval_s, source, stop, samples=samples)
        finally:
            source.close()
    unsent = source.stats()["dropped"].get("unsent", 0)
    if arguments.once and unsent:
        raise EventstormError(
            f"no router answered at {sdk.endpoint}, so {unsent} events were not sent; start one there"
        )
    return DONE


def main() -> int:
    """Run ``eventstorm-sysmon``."""
    from eventstorm_integrations.sysmon import command

    return run_alone(command, "eventstorm-sysmon", sys.argv[1:])


class _Printer:
    """Stands in for a source: writes events as lines of relaxed Extended JSON, like ``eventstorm tap --json``."""

    def emit(self, topic: str, event: Mapping[str, Any], /) -> bool:
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        print(json.dumps({"ts": {"$date": at}, "topic": topic, "data": event}), flush=True)
        return True

    def wanted(self, topic: str) -> bool:
        return True
