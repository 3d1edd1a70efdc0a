"""Settings: every one is a keyword, an ``EVENTSTORM_*`` variable and a line of ``eventstorm.toml``, in that order.

A part of Eventstorm declares its settings as a frozen dataclass and registers it under the entry-point group
``eventstorm.settings``, where the entry's name is its table in the file: ``[router]``. Fields are ``str``, ``bool``,
``int``, ``float`` or ``tuple[str, ...]``; `setting` adds the help and the check. `load` puts the three sources together;
`check_file` validates a whole file.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from eventstorm.endpoints import DEFAULT_EGRESS, DEFAULT_INGRESS, check_endpoint
from eventstorm.errors import SettingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SdkSettings", "at_least", "check_file", "config_path", "endpoint", "load", "setting"]

T = TypeVar("T")
CONFIG_VARIABLE = "EVENTSTORM_CONFIG"
CONFIG_NAME = "eventstorm.toml"

# Checks take the value and its place, and return the value or raise SettingError.
Check = Callable[[Any, str], Any]


def setting(default: Any, help: str, check: Check | None = None) -> Any:
    """Declare a field of a settings dataclass: its default, one line of help, and a check of its value."""
    return field(default=default, metadata={"help": help, "check": check})


def at_least(least: float) -> Check:
    """Return a check that a number is `least` or more."""

    def check(value: Any, place: str) -> Any:
        if not value >= least:  # also catches NaN
            raise SettingError(f"{place}: {value!r} is too small; it must be {least} or more")
        return value

    return check


def endpoint(value: Any, place: str) -> Any:
    """Check a ZeroMQ endpoint; an empty one stands for "none" where that is the default."""
    return check_endpoint(value, place) if value else value


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkSettings:
    """The settings of the SDK in a process that emits."""

    endpoint: str = setting(DEFAULT_INGRESS, "the router's ingress, or none to publish nothing", endpoint)
    egress: str = setting(DEFAULT_EGRESS, "the router's egress, where `tap` listens", endpoint)
    service: str = setting("", "the name under which events appear; empty for the program's name")
    host: str = setting("", "this machine's name in events; empty for its host name")
    enabled: bool = setting(True, "false: emit() does nothing and returns False")
    buffer_bytes: int = setting(
        16 * 2**20, "bytes that may wait in this process, the queue of ZeroMQ included", at_least(2**20)
    )
    batch_bytes: int = setting(64 * 2**10, "a batch is sent at this size", at_least(1024))
    linger_s: float = setting(0.02, "or when its first event is this old, in seconds", at_least(0))
    max_event_bytes: int = setting(2**20, "the largest event", at_least(64))
    max_topics: int = setting(10_000, "the most topics that a process may use", at_least(1))
    heartbeat_s: float = setting(1.0, "seconds between heartbeats of an active topic", at_least(0.05))
    flush_timeout_s: float = setting(
        1.0, "seconds that the end of the program waits for events to be sent", at_least(0)
    )


def config_path() -> Path | None:
    """Return the file that settings come from: ``$EVENTSTORM_CONFIG``, else ``./eventstorm.toml``, else None.

    Raises:
        SettingError: the variable names a file that is not there.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise SettingError(f"{CONFIG_VARIABLE}: there is no file {named!r}")
        return Path(named)
    path = Path(CONFIG_NAME)
    return path if path.is_file() else None


def load(cls: type[T], section: str, keywords: Mapping[str, Any], path: Path | None = None) -> T:
    """Return the settings of one part: keyword beats variable beats file beats default.

    Args:
        cls: the part's settings dataclass.
        section: the part's table in the file; ``router`` also makes its variables start with ``EVENTSTORM_ROUTER_``.
            The SDK's own, ``sdk``, start with ``EVENTSTORM_`` alone.
        keywords: what the caller or the command line said; a value of None counts as not said.
        path: the file; None for `config_path`.

    Raises:
        SettingError: an unknown setting, or a value that it cannot have; the message names the place.
    """
    known = [each.name for each in fields(cls)]  # type: ignore[arg-type]  # a dataclass, by contract
    for name in keywords:
        if name not in known:
            raise SettingError(f"unknown setting {name!r} of {section}{nearest(name, known)}")
    path = path or config_path()
    document, text = _read(path) if path else ({}, "")
    table = document.get(section, {})
    if not isinstance(table, dict):
        raise SettingError(f"{path}: [{section}] is not a table")
    values, places = _file_values(cls, section, table, text, str(path))
    prefix = "EVENTSTORM_" if section == "sdk" else f"EVENTSTORM_{section.upper()}_"
    for name in known:
        variable = prefix + name.upper()
        if variable in os.environ:
            values[name], places[name] = os.environ[variable], variable
        if keywords.get(name) is not None:
            values[name], places[name] = keywords[name], f"{section}.{name}"
    return _build(cls, values, places)


def check_file(path: Path) -> list[str]:
    """Return what is wrong with a configuration file, each with its line; an empty list if nothing is."""
    try:
        document, text = _read(path)
    except SettingError as error:
        return [str(error)]
    sections = {entry.name: entry for entry in entry_points(group="eventstorm.settings")}
    problems = []
    for section, table in document.items():
        place = f"{path}, line {_line_of(text, section, None)}"
        if section not in sections:
            problems.append(f"{place}: unknown table [{section}]{nearest(section, list(sections))}")
        elif not isinstance(table, dict):
            problems.append(f"{place}: {section!r} is not a table; write [{section}]")
        else:
            cls = sections[section].load()
            for name, value in table.items():  # each by itself, so that all problems are told at once
                try:
                    _build(cls, *_file_values(cls, section, {name: value}, text, str(path)))
                except SettingError as error:
                    problems.append(str(error))
    return problems


def nearest(name: str, known: list[str]) -> str:
    """Return ``; did you mean 'x'?`` for an unknown `name`, or the list of what there is."""
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text("utf-8")
        return tomllib.loads(text), text
    except OSError as error:
        raise SettingError(f"{path}: cannot read it: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{path}: not TOML: {error}") from None


def _file_values(
    cls: type[Any], section: str, table: Mapping[str, Any], text: str, file: str
) -> tuple[dict[str, Any], dict[str, str]]:
    known = [each.name for each in fields(cls)]
    places = {name: f"{file}, line {_line_of(text, section, name)} ({section}.{name})" for name in table}
    for name in table:
        if name not in known:
            raise SettingError(f"{places[name]}: unknown setting {name!r}{nearest(name, known)}")
    return dict(table), places


def _line_of(text: str, section: str, name: str | None) -> int:
    """Find the line of a setting. TOML's parser does not tell; good enough for how people write such files."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.\"'-]+)\s*\]", line):
            current = header[1].strip("\"'")
            if name is None and current == section:
                return number
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            written = f"{current}.{key[1]}" if current else key[1]
            wanted = f"{section}.{name}" if name else section
            if written == wanted:
                return number
    return 1


def _build(cls: type[T], values: dict[str, Any], places: dict[str, str]) -> T:
    hints = get_type_hints(cls)
    ready: dict[str, Any] = {}
    for each in fields(cls):  # type: ignore[arg-type]
        if each.name in values:
            place = places[each.name]
            value = _convert(values[each.name], hints[each.name], place)
            check = each.metadata.get("check")
            ready[each.name] = check(value, place) if check else value
        elif each.default is MISSING:
            raise SettingError(f"{each.name} is needed")
    return cls(**ready)


_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _convert(value: Any, kind: Any, place: str) -> Any:
    """Turn `value`, which may be a variable's text, into the field's type."""
    wrong = SettingError(f"{place}: {value!r} is not {_KIND_NAMES[kind]}")
    if kind is bool:
        if isinstance(value, str) and value.lower() in _BOOLEANS:
            return _BOOLEANS[value.lower()]
        if isinstance(value, bool):
            return value
        raise wrong
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, (str, int) if kind is int else (str, int, float)):
            raise wrong
        try:
            return kind(value)
        except (ValueError, OverflowError):
            raise wrong from None
    if kind is str:
        if not isinstance(value, str):
            raise wrong
        return value
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise wrong


_KIND_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple[str, ...]: "a list of texts",
}
