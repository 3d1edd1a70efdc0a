"""Write the tables of docs/configuration.md from the settings that the installed distributions declare.

``document_settings.py`` rewrites the file; ``--check`` only says whether it is as it should be.
"""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
_MARKED = re.compile(r"(<!-- settings -->\n).*(<!-- /settings -->)", re.DOTALL)


def main() -> int:
    """Write or check; return the exit code."""
    now = PAGE.read_text("utf-8")
    wanted = _MARKED.sub(lambda found: f"{found[1]}\n{tables()}\n{found[2]}", now)
    if "--check" in sys.argv:
        if now != wanted:
            print(f"{PAGE} is out of date; run scripts/document_settings.py", file=sys.stderr)
        return int(now != wanted)
    PAGE.write_text(wanted, "utf-8")
    return 0


def tables() -> str:
    """Return a heading and a table for each part's settings, the SDK's first."""
    parts = sorted(entry_points(group="eventstorm.settings"), key=lambda entry: (entry.name != "sdk", entry.name))
    return "\n".join([*(_table(entry.name, entry.load()) for entry in parts), _defaults_of_up()])


def _table(section: str, cls: type[Any]) -> str:
    prefix = "EVENTSTORM_" if section == "sdk" else f"EVENTSTORM_{section.upper()}_"
    lines = [f"## `[{section}]`", "", "| setting | variable | default | what it is |", "|---|---|---|---|"]
    for each in fields(cls):
        text = each.metadata["help"].replace("|", "\\|")
        lines.append(f"| `{each.name}` | `{prefix}{each.name.upper()}` | `{_toml(each.default)}` | {text} |")
    return "\n".join([*lines, ""])


def _defaults_of_up() -> str:
    from eventstorm_sinks.commands.up import UpSettings
    from eventstorm_sinks.settings import SinkSettings

    usual = {each.name: each.default for each in fields(SinkSettings)}
    others = [each for each in fields(UpSettings) if each.default != usual[each.name]]
    written = ", ".join(f"`{each.name} = {_toml(each.default)}`" for each in others)
    return f"`eventstorm up` reads `[sink]` too, with other defaults: {written}.\n"


def _toml(value: object) -> str:
    """Write a default as a line of the file would."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else str(value)


if __name__ == "__main__":
    sys.exit(main())
