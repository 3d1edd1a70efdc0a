"""``eventstorm check``: say what is wrong with a configuration before a daemon does, or with a store."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from eventstorm.cli import DONE, FAILED
from eventstorm.errors import SettingError
from eventstorm.settings import CONFIG_NAME, CONFIG_VARIABLE, config_path

if TYPE_CHECKING:
    from eventstorm.config_file import Problem

HELP = "validate eventstorm.toml, or look at a store"

# Who looks at a store: the entry `store` of the group `eventstorm.checks` takes its URL, and returns what there is
# and what is wrong with it.
StoreCheck = Callable[[str], "tuple[list[str], list[Problem]]"]

DESCRIPTION = f"""\
Validate a configuration: the file, and the EVENTSTORM_* variables that are set.

Each installed part of Eventstorm has a table in the file, and any other table or
setting is an error. A variable of an unknown name may belong to something else, so it
is only mentioned. Without FILE, checks the file that everything else would use:
${CONFIG_VARIABLE}, else {CONFIG_NAME} in this directory.

Or look at a store, written as for `eventstorm sink`, without changing it: whether it
answers, what its books say, and which of its indexes are missing."""

EPILOG = "Exit codes: 0 nothing is wrong, 1 something is."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("what", nargs="?", metavar="FILE|STORE", help="the file, or the store, to check")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Check and print what was found."""
    what: str | None = arguments.what
    # A drive of Windows has one letter.
    if what and re.match(r"[a-z][a-z0-9+]+:", what) and not Path(what).exists():
        return _check_store(what, arguments.json)
    return _check_configuration(Path(what) if what else config_path(), arguments.json)


def _check_configuration(path: Path | None, as_json: bool) -> int:
    from eventstorm.config_file import check_file, check_variables, read_tables

    problems = check_file(path) if path else []
    tables = sorted(read_tables(path)) if path and not problems else []
    wrong, unknown = check_variables()
    problems += wrong
    if as_json:
        found = {
            "file": str(path) if path else None,
            "ok": not problems,
            "tables": tables,
            "problems": [asdict(each) for each in problems],
            "warnings": [asdict(each) for each in unknown],
        }
        print(json.dumps(found))
        return FAILED if problems else DONE
    for problem in problems:
        print(problem)
    for warning in unknown:
        print(f"warning: {warning}")
    if not problems:
        nothing = f"there is no {CONFIG_NAME} here, and none is needed: all settings have defaults"
        print(f"{path}: ok ({_listed(tables)})" if path else nothing)
    return FAILED if problems else DONE


def _check_store(url: str, as_json: bool) -> int:
    try:
        entry = entry_points(group="eventstorm.checks")["store"]
    except KeyError:
        raise SettingError(
            "check: stores are looked at by eventstorm-sinks; install it with: pip install eventstorm-sinks"
        ) from None
    look: StoreCheck = entry.load()
    facts, problems = look(url)
    if as_json:
        found = {"ok": not problems, "facts": facts, "problems": [asdict(each) for each in problems]}
        print(json.dumps(found))
    else:
        for line in (*facts, *problems):
            print(line)
    return FAILED if problems else DONE


def _listed(tables: list[str]) -> str:
    return ", ".join(f"[{each}]" for each in tables) or "it is empty"
