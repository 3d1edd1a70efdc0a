"""``eventstorm instrument``, also ``eventstorm-instrument``: run a program with auto-instrumentation."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from eventstorm_integrations.instrument.program import find_program, why_not_instrumented
from eventstorm_integrations.instrument.table import ALL, DISABLED, TABLE, Row, disabled_names, encode, find_rows

# Every program waits for what is imported here. So the SDK, with its settings and errors, is imported where it is
# needed: for what is out of the ordinary, which `main` tells.
if TYPE_CHECKING:
    import argparse

HELP = "run a program, and record its requests and logs"

DESCRIPTION = """\
Run a program as if it had been started without this: the same process, arguments,
signals and exit code. Each request that its WSGI or ASGI application serves becomes
an http.hit event, each WebSocket session a websocket.session, and each log record a
log.record. The same holds for every Python program that it starts."""

EPILOG = f"""\
examples:
  eventstorm-instrument gunicorn shop:app
  eventstorm-instrument flask --app shop run --reload
  eventstorm-instrument python -m shop
  {DISABLED}=logging eventstorm-instrument uvicorn shop:app

python -m eventstorm_integrations COMMAND does the same. What is instrumented, and how a
part is left out, is in docs/instrument.md. Events go where EVENTSTORM_ENDPOINT says
(default: tcp://127.0.0.1:5550).

Exit codes: the program's; 2 wrong usage; 3 could not be instrumented; 126 the program
cannot be executed; 127 there is no such program."""

CANNOT_EXECUTE, NOT_FOUND, INTERRUPTED = 126, 127, 130
BOOTSTRAP = str(Path(__file__).resolve().parent / "bootstrap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    import argparse

    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "%(prog)s [--help] [--list] COMMAND [ARGUMENT …]"
    parser.add_argument("--list", action="store_true", help="say what can be instrumented here, and end")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the program and its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Become the program; return only if that cannot be."""
    from eventstorm.cli import WRONG_USAGE

    command: list[str] = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if arguments.list:
        return _list()
    if not command:
        print("eventstorm-instrument: no COMMAND to run; see eventstorm-instrument --help", file=sys.stderr)
        return WRONG_USAGE
    rows = _enabled_rows(_disabled())
    if rows:
        from eventstorm.settings import load
        from eventstorm_integrations.http.settings import HttpSettings

        # Said here in one line, and not by each program in many, of whose requests nothing would be recorded.
        load(HttpSettings, "http", {})
    return _become(command, environment_of(os.environ, rows))


def main() -> int:
    """Run ``eventstorm-instrument``."""
    words = sys.argv[1:]
    if words and not words[0].startswith("-") and _is_plain(os.environ):
        try:
            rows = _enabled_rows(disabled_names(os.environ.get(DISABLED, "")))
            return _become(words, environment_of(os.environ, rows))
        except KeyboardInterrupt:
            return INTERRUPTED
        except Exception:
            pass  # what is wrong is told below
    from eventstorm.cli import run_alone
    from eventstorm_integrations.instrument import command

    return run_alone(command, "eventstorm-instrument", sys.argv[1:])


def _is_plain(environment: Mapping[str, str]) -> bool:
    """Tell whether there is no setting that could be wrong, in no file and no variable, nor anything else."""
    if environment.get("EVENTSTORM_CONFIG") or os.path.exists("eventstorm.toml") or os.pathsep in BOOTSTRAP:
        return False
    return not any(name.startswith("EVENTSTORM_HTTP_") for name in environment)


def environment_of(environment: Mapping[str, str], rows: list[Row]) -> dict[str, str]:
    """Return an environment in which every Python uses the integrations of `rows`.

    Raises:
        StartError: Eventstorm is in a folder that PYTHONPATH cannot hold.
    """
    if os.pathsep in BOOTSTRAP:
        from eventstorm.errors import StartError

        raise StartError(f"PYTHONPATH cannot hold {BOOTSTRAP!r}, which has a {os.pathsep!r}; install it elsewhere")
    changed = dict(environment)
    # An empty list is none, but an empty element would be the current folder.
    others = [each for each in changed.get("PYTHONPATH", "").split(os.pathsep) if each != BOOTSTRAP]
    if others == [""]:
        others = []
    changed.pop(TABLE, None)
    changed.pop("PYTHONPATH", None)
    if rows:
        changed[TABLE] = encode(rows)
        others.insert(0, BOOTSTRAP)
    if others:
        changed["PYTHONPATH"] = os.pathsep.join(others)
    return changed


def _disabled() -> set[str]:
    from eventstorm.settings import load
    from eventstorm_integrations.instrument.settings import InstrumentSettings

    return set(load(InstrumentSettings, "instrument", {}).disable)


def _find_rows() -> list[Row]:
    try:
        return find_rows()
    except Exception as error:
        from eventstorm.errors import StartError

        raise StartError(f"the entry points of an installed package cannot be read: {error}; reinstall it") from None


def _enabled_rows(disabled: set[str]) -> list[Row]:
    rows = _find_rows()
    names = [name for name, _, _ in rows]
    for unknown in sorted(disabled - {*names, ALL}):
        from eventstorm.settings import nearest

        _say(f"{DISABLED}: there is no integration {unknown!r} here{nearest(unknown, names)}")
    return [] if ALL in disabled else [row for row in rows if row[0] not in disabled]


def _become(command: list[str], environment: dict[str, str]) -> int:
    name = command[0]
    program = find_program(name)
    if program is None:
        if not os.path.exists(name):
            _say(f"there is no program {name!r}")
            return NOT_FOUND
        hint = f"; run it with: eventstorm-instrument python {name}" if name.endswith(".py") else ""
        _say(f"{name!r} cannot be executed{hint}")
        return CANNOT_EXECUTE
    if TABLE in environment and (reason := why_not_instrumented(program, command[1:])):
        _say(f"nothing is recorded: {reason}")
    sys.stdout.flush()
    # Python ignores them for itself; a program inherits what is ignored, and most rely on the default.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execve(program, command, environment)
    except OSError as error:
        _say(f"{program!r} cannot be executed: {error.strerror}")
        return CANNOT_EXECUTE


def _list() -> int:
    from eventstorm.cli import DONE

    disabled, rows = _disabled(), _find_rows()
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, module, _ in rows:
        if ALL in disabled or name in disabled:
            state = "disabled"
        else:
            try:
                __import__(module)
                state = "used"
            except ImportError as error:
                state = f"not used: {error}"
            except Exception as error:
                state = f"not used: {type(error).__name__}: {error}"
        print(f"{name:{width}}  {state}")
    return DONE


def _say(what: str) -> None:
    print(f"eventstorm-instrument: {what}", file=sys.stderr, flush=True)
