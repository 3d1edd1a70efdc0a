"""Conditions on fields as the server takes them, which leaves out most of what does not match before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bson

from eventstorm_sinks.stores.mongodb._series import PLAIN_PATH
from eventstorm_sinks.stores.where import Condition, kind_of

__all__ = ["beforehand"]

# Those that do not take the bound itself are left to us: a server may have rounded numbers before it compares them.
_OPERATORS = {"=": "$eq", "<": "$lte", "<=": "$lte", ">": "$gte", ">=": "$gte"}


def beforehand(where: Sequence[Condition]) -> list[dict[str, Any]]:
    """Return what matches whenever the conditions of `where` hold.

    More may match: the server looks into arrays, say.
    """
    return [
        {f"data.{each.path}": {_OPERATORS[each.operator]: _plain(each.value)}} for each in where if _can_be_pushed(each)
    ]


def _can_be_pushed(condition: Condition) -> bool:
    kind, value = kind_of(condition.value)
    if condition.operator not in _OPERATORS or not PLAIN_PATH.fullmatch(condition.path):
        return False
    if kind == "text":
        # Servers order texts in their own ways. And U+FFFD is what a text that is no UTF-8 is read as.
        return condition.operator == "=" and "\ufffd" not in value
    # Decimal numbers are not known to every server of the protocol; as bounds they are rare.
    return kind in ("number", "date", "boolean", "ObjectId") and not isinstance(condition.value, bson.Decimal128)


def _plain(value: object) -> object:
    # Whatever the size, as numbers are compared by their values.
    return bson.Int64(value) if type(value) is int else value
