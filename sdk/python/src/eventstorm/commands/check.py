"""``eventstorm check``: say what is wrong with a configuration before a daemon does."""

from __future__ import annotations

import argparse
from pathlib import Path

from eventstorm.cli import DONE, FAILED
from eventstorm.settings import CONFIG_NAME, CONFIG_VARIABLE, config_path

HELP = "validate eventstorm.toml"

DESCRIPTION = f"""\
Validate a configuration: the file, and the EVENTSTORM_* variables that are set.

Each installed part of Eventstorm has a table in the file, and any other table or
setting is an error. A variable of an unknown name may belong to something else, so it
is only mentioned. Without FILE, checks the file that everything else would use:
${CONFIG_VARIABLE}, else {CONFIG_NAME} in this directory."""

EPILOG = "Exit codes: 0 nothing is wrong, 1 something is."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the file to check")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Check and print what was found."""
    from eventstorm.config_file import check_file, check_variables, read_tables

    path: Path | None = arguments.file or config_path()
    problems = check_file(path) if path else []
    tables = sorted(read_tables(path)) if path and not problems else []
    wrong, unknown = check_variables()
    problems += wrong
    if arguments.json:
        import json
        from dataclasses import asdict

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


def _listed(tables: list[str]) -> str:
    return ", ".join(f"[{each}]" for each in tables) or "it is empty"
