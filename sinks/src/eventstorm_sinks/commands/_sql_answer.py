"""Printing the answer to a query: a table for people, tab-separated lines or JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from eventstorm_sinks.stores import SqlResult

__all__ = ["print_json", "print_rows"]


def print_json(result: SqlResult) -> None:
    """Print an object a line; of columns with one name the later ones get numbers."""
    names = _distinct(result.columns)
    for row in result.rows:
        print(json.dumps(dict(zip(names, row, strict=True))))


def print_rows(result: SqlResult) -> None:
    """Print a table on a terminal, tab-separated lines elsewhere.

    Values are hostile: whatever could steer a terminal is written as an escape sequence of Python.
    """
    if not sys.stdout.isatty():
        for row in [result.columns, *result.rows]:
            print("\t".join(map(_text, row)))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    numeric = [
        all(isinstance(row[at], (int, float, type(None))) for row in result.rows) for at in range(len(result.columns))
    ]
    for name, is_number in zip(result.columns, numeric, strict=True):
        # Text, since a plain string would be searched for Rich's own markup.
        table.add_column(Text(_text(name)), justify="right" if is_number else "left", overflow="fold")
    for row in result.rows:
        table.add_row(*(Text("NULL", "dim") if value is None else Text(_text(value)) for value in row))
    Console(highlight=False).print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _distinct(names: list[str]) -> list[str]:
    taken: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.append(candidate)
    return taken
