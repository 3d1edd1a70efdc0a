"""Settings: every one is a keyword, an ``EVENTSTORM_*`` variable and a line of ``eventstorm.toml``, in that order.

A part of Eventstorm declares its settings as a frozen dataclass and registers it under the entry-point group
``eventstorm.settings``, where the entry's name is its table in the file: ``[router]``. Fields are ``str``, ``bool``,
``int``, ``float`` or ``tuple[str, ...]``; `setting` adds the help and the check. `load` puts the three sources
together; `eventstorm.config_file` validates a whole file.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from eventstorm.endpoints import DEFAULT_EGRESS, DEFAULT_INGRESS, check_endpoint
from eventstorm.errors import SettingError

__all__ = [
    "SdkSettings",
    "at_least",
    "build",
    "config_path",
    "endpoint",
    "load",
    "nearest",
    "setting",
    "variable_name",
    "within",
]

T = TypeVar("T")
CONFIG_VARIABLE = "EVENTSTORM_CONFIG"
CONFIG_NAME = "eventstorm.toml"
MAX_NAME_BYTES = 255

# Checks take the value and its place, and return the value or raise SettingError.
Check = Callable[[Any, str], Any]


def setting(default: Any, help: str, check: Check | None = None) -> Any:
    """Declare a field of a settings dataclass: its default, one line of help, and a check of its value."""
    return field(default=default, metadata={"help": help, "check": check})


def at_least(least: float) -> Check:
    """Return a check that a number is `least` or more."""

    def check(value: Any, place: str) -> Any:
        if value < least:
            raise SettingError(f"{place}: {value!r} is too small; it must be {least} or more")
        return value

    return check


def within(least: float, most: float) -> Check:
    """Return a check that a number is from `least` to `most`."""

    def check(value: Any, place: str) -> Any:
        if not least <= value <= most:
            raise SettingError(f"{place}: {value!r} is not from {least} to {most}")
        return value

    return check


def endpoint(value: Any, place: str) -> Any:
    """Check a ZeroMQ endpoint; an empty one stands for "none" where that is the default."""
    return check_endpoint(value, place) if value else value


_endpoint = endpoint  # within SdkSettings, that name is the field's


def _name(value: Any, place: str) -> Any:
    """Check a name that goes into the header of every message, which has a limit."""
    if len(value.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise SettingError(f"{place}: {value[:40]!r}… is longer than {MAX_NAME_BYTES} bytes")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkSettings:
    """The settings of the SDK in a process that emits."""

    endpoint: str = setting(DEFAULT_INGRESS, "the router's ingress; empty to publish nothing", endpoint)
    egress: str = setting(DEFAULT_EGRESS, "the router's egress, where `tap` listens", _endpoint)
    service: str = setting("", "the name under which events appear; empty for the program's name", _name)
    host: str = setting("", "this machine's name in events; empty for its host name", _name)
    enabled: bool = setting(True, "false: emit() does nothing and returns False")
    buffer_bytes: int = setting(
        16 * 2**20, "bytes that may wait in this process, the queue of ZeroMQ included", at_least(2**20)
    )
    batch_bytes: int = setting(64 * 2**10, "the size of batches; larger ones go where much waits", at_least(1024))
    linger_s: float = setting(0.02, "the longest that an event waits for others of its batch, in seconds", at_least(0))
    max_event_bytes: int = setting(2**20, "the largest event", at_least(64))
    max_topics: int = setting(10_000, "the most topics that a process may use", at_least(1))
    heartbeat_s: float = setting(1.0, "seconds between heartbeats of an active topic", at_least(0.05))
    flush_timeout_s: float = setting(
        1.0, "seconds that the end of the program waits for events to be sent", at_least(0)
    )


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
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    path = path or config_path()
    if path:
        from eventstorm import config_file  # only here, since most processes have no file

        values = config_file.read_table(cls, section, path)
        places = {name: f"{path} ({section}.{name})" for name in values}
    for name in known:
        variable = variable_name(section, name)
        if variable in os.environ:
            values[name], places[name] = os.environ[variable], variable
        if keywords.get(name) is not None:
            values[name], places[name] = keywords[name], f"{section}.{name}"
    return build(cls, values, places)


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


def variable_name(section: str, name: str) -> str:
    """Return the environment variable of a setting."""
    return f"EVENTSTORM_{name}".upper() if section == "sdk" else f"EVENTSTORM_{section}_{name}".upper()


def nearest(name: str, known: list[str]) -> str:
    """Return ``; did you mean 'x'?`` for an unknown `name`, or the list of what there is."""
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"


def build(cls: type[T], values: Mapping[str, Any], places: Mapping[str, str]) -> T:
    """Return the settings with `values` converted and checked; errors begin with the setting's place."""
    hints = get_type_hints(cls)
    ready: dict[str, Any] = {}
    for each in fields(cls):  # type: ignore[arg-type]
        if each.name in values:
            place = places[each.name]
            value = _convert(values[each.name], hints[each.name], place)
            check = each.metadata.get("check")
            ready[each.name] = check(value, place) if check else value
    return cls(**ready)


_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _convert(value: Any, kind: Any, place: str) -> Any:
    """Turn `value`, which may be the text of a variable or of the command line, into the field's type."""
    try:
        if kind is bool:
            return value if isinstance(value, bool) else _BOOLEANS[value.lower()]
        if kind in (int, float) and not isinstance(value, bool):
            whole_kinds = (str, int) if kind is int else (str, int, float)
            if isinstance(value, whole_kinds) and math.isfinite(number := kind(value)):
                return number
        if kind is str and isinstance(value, str):
            return value
        if kind == tuple[int, ...]:
            numbers = value.split() if isinstance(value, str) else value
            if isinstance(numbers, (list, tuple)):
                return tuple(_convert(each, int, place) for each in numbers)
        if kind == tuple[str, ...]:
            texts = value.split() if isinstance(value, str) else value
            if isinstance(texts, (list, tuple)) and all(isinstance(each, str) for each in texts):
                return tuple(texts)
    except (ValueError, OverflowError, KeyError, AttributeError):
        pass
    raise SettingError(f"{place}: {value!r} is not {KIND_NAMES[kind]}")


KIND_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple[int, ...]: "a list of whole numbers",
    tuple[str, ...]: "a list of texts",
}
