"""What a command line starts, as far as that can be told: the program's file, and why it would not be instrumented."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence

__all__ = ["find_program", "why_not_instrumented"]

# A plain name of an interpreter: python, python3, python3.13, python3.13t, pypy3.
_PYTHON = re.compile(r"(python|pypy)[\d.]*t?(\.exe)?")
# Options that keep an interpreter from seeing PYTHONPATH, or from running sitecustomize.
_ALONE = "IES"
# Options whose value is the next word, or the rest of the same.
_WITH_VALUE = "WX"
# Options after which the rest is the program's.
_LAST = "cm"
# Importing a package takes an interpreter some 50 ms; one that has not done so by then is no Python.
_LONGEST_CHECK_S = 10.0


def find_program(name: str, path: str | None = None) -> str | None:
    """Return the file that a shell would run for `name`, or None."""
    return shutil.which(name, path=path)


def why_not_instrumented(program: str, arguments: Sequence[str]) -> str | None:
    """Return why the Python that runs `program` would not record anything; None if it would, or if it is no Python.

    What a script of the shell starts is not looked into.
    """
    interpreter, options = program, list(arguments)
    if not _PYTHON.fullmatch(os.path.basename(program)):
        words = _first_line(program)
        if words and os.path.basename(words[0]) == "env":
            words = [word for word in words[1:] if word != "-S"]
        if not words or not _PYTHON.fullmatch(os.path.basename(words[0])):
            return None
        interpreter, options = shutil.which(words[0]) or words[0], [*words[1:], program]
    for letter in _letters(options):
        if letter in _ALONE:
            return f"{os.path.basename(interpreter)} is given -{letter}, and so starts without Eventstorm"
    if os.path.dirname(os.path.abspath(interpreter)) == os.path.dirname(sys.executable):
        return None
    import subprocess  # here, since it takes longer than all the rest of this

    check = [interpreter, "-c", "import eventstorm_integrations.instrument"]
    try:
        code = subprocess.run(
            check,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_LONGEST_CHECK_S,
            check=False,
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return None  # running it will tell
    if code == 0:
        return None
    return f"{interpreter} has no Eventstorm; install it with: {interpreter} -m pip install eventstorm-integrations"


def _first_line(program: str) -> list[str]:
    """Return the words of a script's ``#!`` line."""
    try:
        with open(program, "rb") as file:
            line = file.readline(1024)
    except OSError:
        return []
    return line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []


def _letters(options: Sequence[str]) -> list[str]:
    """Return the one-letter options of an interpreter."""
    found: list[str] = []
    left = iter(options)
    for word in left:
        if not word.startswith("-") or word == "-":
            break
        if word.startswith("--"):
            continue
        for position, letter in enumerate(word[1:], 2):
            found.append(letter)
            if letter in _LAST:
                return found
            if letter in _WITH_VALUE:
                if position == len(word):
                    next(left, None)
                break
    return found
