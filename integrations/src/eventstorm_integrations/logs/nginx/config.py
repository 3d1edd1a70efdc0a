"""Reads nginx.conf, and what it includes, for the formats and the files of its logs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eventstorm.errors import SettingError

__all__ = ["NginxConfig", "read_config"]

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|([{};])|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'"""
    r"""|((?:[^\s{};"'\\]|\\.|\$\{\w*\})(?:[^\s{};\\]|\\.|\$\{\w*\})*)""",
    re.DOTALL,
)
_MOST_FILES = 10_000
_MOST_WITHIN = 100


@dataclass
class NginxConfig:
    """What an nginx.conf says about logs."""

    formats: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name: format, and ``escape=``."""
    access_logs: dict[str, str] = field(default_factory=dict)
    """Path: name of the format. Paths with variables and syslog servers are left out."""
    error_logs: list[str] = field(default_factory=list)


def read_config(path: Path) -> NginxConfig:
    """Read an nginx.conf; includes are looked for from its folder, as nginx does.

    Raises:
        SettingError: a file cannot be read or is not of nginx's form; the message names it.
    """
    config = NginxConfig()
    seen: list[Path] = []
    for words in _directives(path, path.parent, seen, ()):
        if words[0] == "log_format" and len(words) > 2:
            escape, parts = "default", words[2:]
            if parts[0].startswith("escape="):
                escape, parts = parts[0].removeprefix("escape="), parts[1:]
            config.formats[words[1]] = ("".join(parts), escape)
        elif words[0] == "access_log" and len(words) > 1 and words[1] != "off":
            name = words[2] if len(words) > 2 and "=" not in words[2] else "combined"
            if _is_file(words[1]):
                config.access_logs[str(path.parent / words[1])] = name
        elif words[0] == "error_log" and len(words) > 1 and _is_file(words[1]):
            config.error_logs.append(str(path.parent / words[1]))
    return config


def _is_file(name: str) -> bool:
    return not name.startswith(("syslog:", "memory:", "stderr", "/dev/", "|")) and "$" not in name


def _directives(path: Path, folder: Path, seen: list[Path], within: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield each directive's words, with those of included files where they are included."""
    seen.append(path)
    real = os.path.realpath(path)
    if real in within or len(within) >= _MOST_WITHIN:
        raise SettingError(f"config: {path} is included by itself; `nginx -t` tells more")
    if len(seen) > _MOST_FILES:
        raise SettingError(f"config: {path}: more than {_MOST_FILES} files are included; name a smaller nginx.conf")
    if within and path.exists() and not path.is_file():  # who opens a pipe waits for a writer
        raise SettingError(f"config: {path}, which {within[-1]} includes, is no file")
    words: list[str] = []
    for word in _words(path):
        if word not in (";", "{", "}"):
            words.append(word)
            continue
        if len(words) == 2 and words[0] == "include":
            pattern = os.path.join(folder, words[1])
            for name in sorted(glob.glob(pattern)) or ([] if glob.has_magic(pattern) else [pattern]):
                yield from _directives(Path(name), folder, seen, (*within, real))
        elif words:
            yield words
        words = []


def _words(path: Path) -> Iterator[str]:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise SettingError(f"config: cannot read {path}: {error.strerror}") from None
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            line = text.count("\n", 0, at) + 1
            raise SettingError(f"{path}, line {line}: a quote that is not closed; `nginx -t` tells more")
        at = found.end()
        if found.lastindex:
            word = found[found.lastindex]
            yield re.sub(r"\\(.)", _unquote, word, flags=re.DOTALL) if "\\" in word else word


def _unquote(found: re.Match[str]) -> str:
    # As nginx does: \t, \r, \n are characters, quotes and backslashes lose theirs, anything else keeps it.
    return {"t": "\t", "r": "\r", "n": "\n", '"': '"', "'": "'", "\\": "\\"}.get(found[1], found[0])
