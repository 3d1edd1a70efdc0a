"""``eventstorm logs``, also ``eventstorm-logs``: log files of programs that know nothing of Eventstorm."""

from __future__ import annotations

import argparse
import glob
import logging
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.metadata import entry_points
from pathlib import Path

from eventstorm import Source
from eventstorm.cli import DONE, run_alone
from eventstorm.daemon import announce_ready, stop_signal
from eventstorm.errors import EventstormError, SettingError, StartError
from eventstorm.settings import SdkSettings, load
from eventstorm_integrations.logs.journal import Journal
from eventstorm_integrations.logs.outlet import Outlet, Printer
from eventstorm_integrations.logs.positions import default_folder
from eventstorm_integrations.logs.run import Follower, Input, MakeParser
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.standard_input import StandardInput
from eventstorm_integrations.logs.stream import Stream
from eventstorm_integrations.logs.syslog_socket import SyslogSocket

HELP = "make events of the log files of nginx, Postfix, sshd and others"

DESCRIPTION = """\
Follow log files and emit what they tell of: http.hit from nginx's access logs and
log.record from its error logs, smtp.transaction and smtp.session from Postfix,
ssh.login and ssh.session from sshd. Files may be rotated and truncated, and need not
exist yet. A restart goes on where the last run stopped."""

EPILOG = """\
examples:
  eventstorm logs nginx /var/log/nginx/access.log /var/log/nginx/error.log
  eventstorm logs nginx --config /etc/nginx/nginx.conf
  eventstorm logs postfix --once --print /var/log/mail.log*
  eventstorm logs sshd /var/log/auth.log
  eventstorm logs nginx --syslog udp://127.0.0.1:5140
  eventstorm logs sshd --journal system
  journalctl -o json --since yesterday | eventstorm logs sshd --once --print -

Lines that cannot be read are counted, and sampled into log.unparsed. --timezone,
--state, --format and --config are also lines of the table [logs] of eventstorm.toml,
and variables: EVENTSTORM_LOGS_TIMEZONE and so on. Exit codes: 0 stopped by SIGTERM or
SIGINT, or done with --once; 1 with --once, something was not read or not sent, also
since it was stopped; 2 wrong usage; 3 could not start."""

_STDIN = "/dev/stdin"
# With --once, a router must be there by then.
_PATIENCE_S = 3.0

_GENERIC = ("topic", "time_field", "time_format")
_OPTIONS = {
    "nginx": ("format", "config"),
    "csv": ("columns", *_GENERIC),
    "json": _GENERIC,
    "logfmt": _GENERIC,
    "regex": ("pattern", *_GENERIC),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    programs = parser.add_subparsers(dest="parser", metavar="PROGRAM", required=True, help="whose lines they are:")
    for name in sorted(entry_points(group="eventstorm.parsers").names):
        added = programs.add_parser(name, help=f"`eventstorm logs {name} --help` tells the options")
        added.description = f"Follow, or with --once read, log files of {name}, and emit what they tell of."
        _add_options(added, name)


def _add_options(parser: argparse.ArgumentParser, name: str) -> None:
    said = {each.name: each.metadata["help"] for each in fields(LogsSettings)}
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="files, or patterns of their names in quotes, or - for standard input"
    )
    parser.add_argument("--endpoint", help="the router's ingress (default: tcp://127.0.0.1:5550)")
    parser.add_argument("--from-start", action="store_true", help="read from the begin what no earlier run has read")
    parser.add_argument("--once", action="store_true", help="read from begin to end, .gz and .zst too, and end")
    parser.add_argument("--print", action="store_true", help="write JSON lines to standard output instead")
    parser.add_argument("--timezone", metavar="ZONE", help=said["timezone"])
    parser.add_argument("--state", metavar="FOLDER", help=said["state"])
    for option in _OPTIONS.get(name, ()):
        text = said[option].partition(": ")[2] or said[option]
        parser.add_argument(f"--{option.replace('_', '-')}", metavar=option.rpartition("_")[2].upper(), help=text)
    parser.add_argument("--syslog", metavar="ADDRESS", action="append", help=f"{said['syslog']}; repeatable")
    parser.add_argument("--journal", metavar="system|FOLDER", help=said["journal"])
    parser.add_argument("--insecure", action="store_true", default=None, help=said["insecure"])
    parser.add_argument("--settings", metavar="FILE", type=Path, help="settings, in place of ./eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Follow or read the files."""
    options = {"timezone", "state", "insecure", "journal", *(option for each in _OPTIONS.values() for option in each)}
    keywords = {name: getattr(arguments, name, None) for name in options}
    keywords["syslog"] = tuple(arguments.syslog) if arguments.syslog else None
    settings = load(LogsSettings, "logs", keywords, arguments.settings)
    sdk = load(SdkSettings, "sdk", {"endpoint": arguments.endpoint}, arguments.settings)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    if arguments.once and (arguments.journal or arguments.syslog):
        raise SettingError(
            "--once reads what has an end, and a journal or a socket has none; for what a journal holds by now: "
            f"journalctl -o json | eventstorm logs {arguments.parser} --once -"
        )
    make = _parser(arguments.parser)
    piped = "-" in arguments.files and not arguments.once
    named = [_STDIN if each == "-" else each for each in arguments.files if each != "-" or not piped]
    files = _files(arguments.parser, make, named, settings, whole=arguments.once, others=piped)
    source = None if arguments.print else Source(replace(sdk, service=sdk.service or arguments.parser))
    with stop_signal() as stop:
        patience_s = _PATIENCE_S if arguments.once else math.inf
        outlet = Outlet(source or Printer(), sdk.buffer_bytes, stop, patience_s=patience_s)
        try:
            if arguments.once:
                from eventstorm_integrations.logs.once import read_once

                streams = read_once(make, files, outlet, stop)
                outlet.drain()
                _tell(streams)
                if stop.is_set():
                    raise EventstormError("broken off, so not all was read or sent")
                return DONE
            folder = Path(settings.state) if settings.state else default_folder()
            inputs: dict[Input, LogsSettings] = {
                SyslogSocket(address, settings.max_line_bytes, insecure=settings.insecure): settings
                for address in settings.syslog
            }
            if settings.journal:
                journal = Journal(settings.journal, settings.max_line_bytes, from_start=arguments.from_start)
                inputs[journal] = settings
            if piped:
                inputs[StandardInput(settings.max_line_bytes)] = settings
            follower = Follower(
                arguments.parser, make, files, outlet, folder, from_start=arguments.from_start, inputs=inputs
            )
            target = "standard output" if arguments.print else sdk.endpoint
            what = [f"{len(follower.paths)} files"] * bool(files) + [each.name for each in inputs]
            announce_ready(f"eventstorm logs: ready: following {' and '.join(what)}, for {target}")
            try:
                follower.run(stop)
            finally:
                follower.close()
        finally:
            if source is not None:
                source.close()
    return DONE


def main() -> int:
    """Run ``eventstorm-logs``."""
    from eventstorm_integrations.logs import command

    return run_alone(command, "eventstorm-logs", sys.argv[1:])


def _parser(name: str) -> MakeParser:
    entries = {entry.name: entry for entry in entry_points(group="eventstorm.parsers")}
    try:
        make: MakeParser = entries[name].load()
    except ImportError as error:
        raise StartError(f"the parser {name!r} cannot be loaded: {error}") from None
    return make


def _files(
    name: str, make: MakeParser, named: list[str], settings: LogsSettings, *, whole: bool, others: bool
) -> Mapping[str, LogsSettings]:
    """Return the files that are meant, each with the settings of its parser."""
    make(settings)  # says what is wrong with the settings before anything is read
    find = getattr(make, "files", None)
    known: Mapping[str, LogsSettings] = find(settings) if find is not None else {}
    if not named:
        if others or (not known and (settings.syslog or settings.journal) and not whole):
            return {}
        if not known:
            raise SettingError(f"no files; name some: eventstorm logs {name} FILE…")
        return known
    given = {os.path.abspath(path): each for path, each in known.items()}
    paths = [path for each in named for path in (_expanded(each) if whole else [each])]
    return {path: given.get(os.path.abspath(path), settings) for path in paths}


def _expanded(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True)) or [pattern]


def _tell(streams: list[Stream]) -> None:
    for each in streams:
        bad = each.bad()
        reasons = ", ".join(f"{count} {reason}" for reason, count in bad.items())
        said = f"; {sum(bad.values())} lines could not be read: {reasons}" if bad else ""
        print(f"eventstorm logs: {each.path}: {each.lines} lines, {each.events} events{said}", file=sys.stderr)
