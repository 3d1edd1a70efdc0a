"""Conditions on fields as SQL, which leaves out most of what does not match before anything is fetched.

Only of plain documents, of which ``data`` has everything (``bson`` is NULL): the others are looked at here. And with
numbers as DOUBLE, which keeps their order but takes different ones for equal: so the comparisons let through a little
more than they should.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventstorm_sinks.stores.duckdb._series import path_expression
from eventstorm_sinks.stores.where import Condition, kind_of

__all__ = ["beforehand"]

_OPERATORS = {"=": "=", "<": "<=", "<=": "<=", ">": ">=", ">=": ">="}
# JSON has no others. Of null and of what is not equal there is little to leave out.
_TYPES = {"number": "DOUBLE", "text": "VARCHAR", "boolean": "BOOLEAN"}


def beforehand(where: Sequence[Condition]) -> tuple[list[str], dict[str, Any]]:
    """Return conditions in SQL that hold whenever those of `where` do, and the values in them."""
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for number, each in enumerate(where):
        kind, value = kind_of(each.value)
        if each.operator not in _OPERATORS or kind not in _TYPES:
            continue
        name = f"where_{number}"
        values[name] = float(value) if kind == "number" else value
        found = f"try_cast({path_expression(each.path, name, values)} AS {_TYPES[kind]})"
        is_met = f"{found} {_OPERATORS[each.operator]} ${name}::{_TYPES[kind]}"
        conditions.append(f"(bson IS NOT NULL OR coalesce({is_met}, false))")
    return conditions, values
