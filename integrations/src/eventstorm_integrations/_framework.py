"""Refuses an integration whose framework is missing or too old, and says how to get it.

Versions are compared here, not by `packaging`: its import takes longer than that of some frameworks, which every
instrumented program would wait for.
"""

from __future__ import annotations

import re
import sys
from types import TracebackType

__all__ = ["needs"]


class needs:
    """A context in which a framework is imported; an ImportError in it tells the command that installs it.

    Args:
        name: the framework's module and distribution, and the extra that brings it.
        least: the oldest version that will do, as the extra asks for.

    Raises:
        ImportError: it is missing, older, or lacks what is imported.
    """

    def __init__(self, name: str, least: str) -> None:
        self._name, self._least = name, least

    def __enter__(self) -> None:
        name = self._name
        try:
            __import__(name)
        except ImportError as error:
            raise self._refusal(str(error), error) from error
        version = _version(name)
        if version and _numbers(version) < _numbers(self._least):
            raise self._refusal(f"{name} {version} is older than {self._least}", None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ImportError):
            raise self._refusal(str(error), error) from error

    def _refusal(self, what: str, error: ImportError | None) -> ImportError:
        upgrade = "" if isinstance(error, ModuleNotFoundError) and error.name == self._name else "--upgrade "
        return ImportError(
            f"{what}; install it with: pip install {upgrade}'eventstorm-integrations[{self._name}]'", name=self._name
        )


def _version(name: str) -> str:
    """Return the version of a module that has been imported, or an empty text if it has none."""
    # Not by getattr, since a module may warn of that.
    told = vars(sys.modules[name]).get("__version__")
    if isinstance(told, str):
        return told
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:  # vendored, or run out of its source
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, found[1].split("."))) if found else ()
