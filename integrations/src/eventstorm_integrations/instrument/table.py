"""What there is to instrument: a row for each integration, found by entry points, and handed on by the environment.

An integration is a module that is registered in the group ``eventstorm.instrumentors`` under the name that switches it
off. It has a function ``instrument``, or also ``instrument_by_default``, which is then called in its place: what that
does must give way to what the program itself asks for. Importing the module must raise ImportError where its framework
is missing or too old. It is used when the framework's module of the integration's name has been imported, or else those
that the group ``eventstorm.triggers`` names: there an entry's name is such a module, and its value the integration's.
"""

from __future__ import annotations

__all__ = ["DISABLED", "TABLE", "decode", "disabled_names", "encode", "find_rows"]

TABLE = "_EVENTSTORM_INSTRUMENTORS"
"""The variable that holds the rows. It begins with a line so that it is nobody's setting."""
DISABLED = "EVENTSTORM_INSTRUMENT_DISABLE"
ALL = "*"

# An integration's name, its module, and the modules whose import it waits for. Plain, since a class would take longer
# to import than all the rest of this.
Row = tuple[str, str, tuple[str, ...]]


def find_rows() -> list[Row]:
    """Return what the installed distributions register, in order of names."""
    from importlib.metadata import entry_points

    triggers: dict[str, list[str]] = {}
    for entry in entry_points(group="eventstorm.triggers"):
        triggers.setdefault(entry.value, []).append(entry.name)
    return sorted(
        (entry.name, entry.value, tuple(sorted(triggers.get(entry.value, [entry.name]))))
        for entry in entry_points(group="eventstorm.instrumentors")
        if not set(" ;,").intersection(entry.name, entry.value)
    )


def encode(rows: list[Row]) -> str:
    """Write rows as the value of a variable."""
    return ";".join(f"{name} {module} {','.join(triggers)}" for name, module, triggers in rows)


def decode(text: str) -> list[Row]:
    """Read what `encode` wrote.

    Raises:
        ValueError: it is not.
    """
    rows = []
    for row in text.split(";") if text else ():
        name, module, triggers = row.split(" ")
        rows.append((name, module, tuple(triggers.split(","))))
    return rows


def disabled_names(text: str) -> set[str]:
    """Return the names in a list that has commas or spaces between them."""
    return set(text.replace(",", " ").split())
