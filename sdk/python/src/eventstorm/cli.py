"""The ``eventstorm`` command: each installed distribution adds its sub-commands through ``eventstorm.commands``.

An entry is a module (see `Command`). Its name is the sub-command's. Only the module of the sub-command that was typed
is run, but all are imported for ``--help``, so keep heavy imports inside ``run``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from eventstorm.errors import EventstormError, SettingError, StartError
from eventstorm.settings import nearest

__all__ = ["DONE", "FAILED", "NOT_STARTED", "WRONG_USAGE", "Command", "main", "run_alone"]

DONE, FAILED, WRONG_USAGE, NOT_STARTED = 0, 1, 2, 3


class Command(Protocol):
    """What a module registered under ``eventstorm.commands`` has."""

    @property
    def HELP(self) -> str:
        """One line for the list of commands: a plain constant in the module."""
        ...

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments; set ``parser.description`` and ``parser.epilog`` for the command's own help."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit code. `EventstormError`s become one line on standard error."""
        ...


def main() -> int:
    """Run the ``eventstorm`` command."""
    try:
        return _main()
    except BrokenPipeError:
        return _reader_left()


def _main() -> int:
    commands = {entry.name: entry for entry in entry_points(group="eventstorm.commands")}
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name and not name.startswith("-"):
        if name not in commands:
            print(f"eventstorm: no command {name!r}{nearest(name, list(commands))}", file=sys.stderr)
            return WRONG_USAGE
        try:
            command = commands[name].load()
        except ImportError as error:
            print(f"eventstorm {name}: cannot be loaded: {error}", file=sys.stderr)
            return NOT_STARTED
        return run_alone(command, f"eventstorm {name}", sys.argv[2:])
    if name == "--version":
        import eventstorm

        print(f"eventstorm {eventstorm.__version__}")
        return DONE
    if name in ("", "-h", "--help"):
        print(_help(commands), flush=True)
        return DONE if name else WRONG_USAGE
    print(f"eventstorm: no option {name!r}; see eventstorm --help", file=sys.stderr)
    return WRONG_USAGE


def run_alone(command: Command, program: str, arguments: list[str]) -> int:
    """Run one command under a name of its own, as ``eventstorm-router`` and its like do; return the exit code."""
    parser = argparse.ArgumentParser(prog=program, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_arguments(parser)
    try:
        try:
            parsed = parser.parse_args(arguments)
        except SystemExit:
            sys.stdout.flush()  # the help, whose reader may have gone away
            raise
        code = command.run(parsed)
        sys.stdout.flush()
        return code
    except StartError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return NOT_STARTED
    except SettingError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return WRONG_USAGE
    except EventstormError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _reader_left() -> int:
    """End quietly when the reader of our output went away, as `| head` does; keep Python from flushing into it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _help(commands: dict[str, EntryPoint]) -> str:
    lines = [
        "usage: eventstorm COMMAND [--help] …",
        "",
        "Collect events from programs, hosts and logs; store and draw them.",
        "",
    ]
    width = max(map(len, commands), default=0)
    for name in sorted(commands):
        try:
            described = commands[name].load().HELP
        except ImportError as error:
            described = f"(cannot be loaded: {error})"
        lines.append(f"  {name:{width}}  {described}")
    lines += ["", "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 could not start."]
    return "\n".join(lines)
