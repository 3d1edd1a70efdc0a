"""Read ``eventstorm.toml``, and say what is wrong with it and with the variables, each with its place."""

from __future__ import annotations

import codecs
import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, get_type_hints

from eventstorm.errors import SettingError
from eventstorm.settings import CONFIG_VARIABLE, KIND_NAMES, build, nearest, variable_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Problem", "check_file", "check_variables", "read_table", "read_tables"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a configuration."""

    place: str
    """The file, or the variable."""
    line: int | None
    """In the file, from 1; None where no line can be told."""
    text: str

    def __str__(self) -> str:
        return f"{self.place}, line {self.line}: {self.text}" if self.line else f"{self.place}: {self.text}"


class UnreadableError(SettingError):
    """The file is not there, not UTF-8, or not TOML."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_tables(path: Path) -> dict[str, Any]:
    """Return the tables of a file.

    Raises:
        UnreadableError: there are none to return.
    """
    return _parse(path, _read(path))


def read_table(cls: type[Any], section: str, path: Path) -> dict[str, Any]:
    """Return one part's settings as a file has them, checked, for `eventstorm.settings.build`.

    Raises:
        SettingError: the file cannot be read, or something in this table is wrong.
    """
    text = _read(path)
    table = _parse(path, text).get(section, {})
    problems = _check_table(cls, section, table, text, path)
    if problems:
        raise SettingError(str(problems[0]))
    return {name: _listed(cls, name, value) for name, value in table.items()}


def check_file(path: Path) -> list[Problem]:
    """Return what is wrong with a whole file, in the order of its lines; an empty list if nothing is."""
    try:
        text = _read(path)
        tables = _parse(path, text)
    except UnreadableError as error:
        return [error.problem]
    parts = _parts()
    problems = []
    for section, table in tables.items():
        if section in parts:
            problems += _check_table(parts[section].load(), section, table, text, path)
        else:
            unknown = f"unknown table [{section}]{nearest(section, list(parts))}"
            problems.append(Problem(str(path), _line_of(text, section), unknown))
    return sorted(problems, key=lambda each: each.line or 0)


def check_variables(environ: Mapping[str, str] = os.environ) -> tuple[list[Problem], list[Problem]]:
    """Return what is wrong with the ``EVENTSTORM_*`` variables: wrong values, and names that are no setting's.

    A name may belong to another program, so that alone is no error.
    """
    known, wrong = [CONFIG_VARIABLE], []
    for section, part in _parts().items():
        cls = part.load()
        for name in (each.name for each in fields(cls)):
            variable = variable_name(section, name)
            known.append(variable)
            if variable in environ:
                try:
                    build(cls, {name: environ[variable]}, {name: variable})
                except SettingError as error:
                    wrong.append(Problem(variable, None, str(error).removeprefix(f"{variable}: ")))
    unknown = []
    for name in sorted(set(environ) - set(known)):
        if name.startswith("EVENTSTORM_"):
            close = difflib.get_close_matches(name, known, 1)
            unknown.append(Problem(name, None, "no setting's name" + (f"; did you mean {close[0]}?" if close else "")))
    return wrong, unknown


def _parts() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="eventstorm.settings")}


def _read(path: Path) -> str:
    try:
        # Without the mark that some editors put in front; line ends as the parser wants them.
        return path.read_bytes().removeprefix(codecs.BOM_UTF8).decode().replace("\r\n", "\n")
    except OSError as error:
        raise UnreadableError(Problem(str(path), None, f"cannot read it: {error.strerror}")) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UnreadableError(Problem(str(path), line, "not UTF-8; save it in that encoding")) from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        detail, _, place = str(error).partition(" (at ")  # "line 3, column 1" or "end of document"
        number = place.removeprefix("line ").partition(",")[0]
        line = int(number) if number.isdigit() else len(text.split("\n"))
        raise UnreadableError(Problem(str(path), line, f"not TOML: {detail}")) from None
    except RecursionError:
        raise UnreadableError(Problem(str(path), None, "nested too deeply")) from None
    return tables


def _check_table(cls: type[Any], section: str, table: Any, text: str, path: Path) -> list[Problem]:
    if not isinstance(table, dict):
        wrong = f"{section!r} is not a table; write [{section}]"
        return [Problem(str(path), _line_of(text, section), wrong)]
    problems = []
    for name, value in table.items():  # each by itself, so that all problems are told at once
        try:
            build(cls, {name: _listed(cls, name, value)}, {name: f"{section}.{name}"})
        except SettingError as error:
            problems.append(Problem(str(path), _line_of(text, section, name), str(error)))
    return problems


def _listed(cls: type[Any], name: str, value: Any) -> Any:
    """Take the value as TOML wrote it: one text for a list of one, and no text for a number."""
    hints = get_type_hints(cls)
    if name not in hints:
        raise SettingError(f"unknown setting {name!r}{nearest(name, list(hints))}")
    if isinstance(value, str) and hints[name] is not str:
        if hints[name] == tuple[str, ...]:
            return (value,) if value else ()
        raise SettingError(f"{name}: {value!r} is a text; write {KIND_NAMES[hints[name]]} without quotes")
    return value


def _line_of(text: str, section: str, name: str | None = None) -> int | None:
    """Return the line where a table or a setting begins: after which line the parser knows of it."""
    lines = text.split("\n")
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            tables = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue  # amid a text or list of several lines
        if section in tables and (name is None or (isinstance(tables[section], dict) and name in tables[section])):
            return begin + 1
        begin = end
    return None
