"""The entry points that installed distributions register, read from their files as `importlib.metadata` does.

The launcher waits for them before each program that it starts, and the import of `importlib.metadata` takes three times
as long as an interpreter's whole start. So folders, where nearly all distributions are, are read here; where there is
anything else, such as an archive or a finder of distributions, it is asked after all.

https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import os
import sys

# No import of `collections.abc`, `re` or `pathlib` either, which together would take as long as all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["entries"]


def entries(*groups: str) -> list[list[tuple[str, str]]]:
    """Return the names and values of each group; of several distributions of one name, the first on ``sys.path``."""
    found: dict[str, list[tuple[str, str]]] = {group: [] for group in groups}
    folders = _folders()
    if folders is None:
        from importlib.metadata import entry_points

        return [[(entry.name, entry.value) for entry in entry_points(group=group)] for group in groups]
    for group, name, value in _registered(folders):
        if group in found:
            found[group].append((name, value))
    return [found[group] for group in groups]


def _folders() -> list[str] | None:
    """Return the folders on ``sys.path``; None if distributions may be elsewhere too."""
    for finder in sys.meta_path:
        is_usual = getattr(finder, "__module__", "").startswith(("_frozen_importlib", "importlib."))
        if hasattr(finder, "find_distributions") and not is_usual:
            return None
    folders = []
    for place in sys.path:
        folder = place or "."
        if os.path.isdir(folder) and not folder.rstrip("/").endswith(".egg"):
            folders.append(folder)
        elif os.path.exists(folder):
            return None
    return folders


def _registered(folders: list[str]) -> Iterator[tuple[str, str, str]]:
    seen: set[str] = set()
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:  # which finds nothing there
            continue
        for name in names:
            if not name.lower().endswith((".dist-info", ".egg-info")):
                continue
            distribution = _normalized(name[: name.rindex(".")].partition("-")[0])
            if distribution in seen:
                continue
            seen.add(distribution)
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
                    text = file.read()
            except OSError:  # most have none
                continue
            yield from _parsed(text)


def _normalized(name: str) -> str:
    """Return a distribution's name in the form that is the same for all ways to write it."""
    return "_".join(filter(None, name.lower().replace("-", "_").replace(".", "_").split("_")))


def _parsed(text: str) -> Iterator[tuple[str, str, str]]:
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield group, name.strip(), value.strip()
