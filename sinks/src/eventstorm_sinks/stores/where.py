"""Conditions on what is in events, for reading some of them: ``http.response.status_code>=500``.

What a condition means is said here once, in Python. A store may leave out beforehand what can be seen not to match, and
has the rest looked at by `chosen`: so all stores give the same events, whatever their own rules for comparing are.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import bson
from bson import json_util
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError

from eventstorm.errors import SettingError
from eventstorm_sinks.batch import StoredEvent
from eventstorm_sinks.live_values import decode, dig
from eventstorm_sinks.stores._fold import MAX_DEPTH

__all__ = ["Condition", "chosen", "parse_condition"]

_Comparison = Callable[[Any, Any], bool]
_COMPARISONS: dict[str, _Comparison] = {
    "=": operator.eq,
    "!=": operator.eq,  # and not
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED = ("number", "text", "date")
# The first operator counts; what follows it may have further ones.
_SAID = re.compile(r"([^=<>!]*)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_INT64 = range(-(2**63), 2**63)
_MOST_DIGITS = 1_000
_OPTIONS = json_util.JSONOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of what is at a path with a value.

    Only what is of the same kind is compared: numbers of all types with each other, exactly; texts, by code points;
    dates; and, by ``=`` and ``!=`` alone, booleans, ObjectIds, and None. None stands for a field that is missing, and
    for one that is null. ``!=`` holds whenever ``=`` does not, so of what is of another kind too. NaN equals nothing.
    A path leads through documents, and not into arrays.

    Raises:
        SettingError: the operator or the value is none of these, or the path is empty or too deep.
    """

    path: str
    operator: str
    value: int | float | str | bool | bson.Decimal128 | bson.DatetimeMS | bson.ObjectId | None

    def __post_init__(self) -> None:
        kind, _ = kind_of(self.value)
        if self.operator not in _COMPARISONS:
            raise SettingError(f"no operator {self.operator!r}; there are {' '.join(_COMPARISONS)}")
        if not kind:
            raise SettingError(f"{self.path}: {self.value!r} cannot be compared; take a number, text, date or ObjectId")
        if self.operator not in ("=", "!=") and kind not in _ORDERED:
            raise SettingError(
                f"{self.path}{self.operator}: only numbers, texts and dates have an order; take = or != for a {kind}"
            )
        for text in (self.path, self.value if isinstance(self.value, str) else ""):
            if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
                raise SettingError(f"{text[:60]!r} has half of a pair of surrogates, which no text of an event has")
        if not self.path:
            raise SettingError("a condition needs the path of a field: http.response.status_code>=500")
        if (depth := self.path.count(".") + 1) > MAX_DEPTH:
            raise SettingError(f"{depth} names with dots in between; at most {MAX_DEPTH} are allowed")

    def holds(self, document: dict[str, Any]) -> bool:
        """Tell whether it is true of a user's document."""
        theirs, ours = kind_of(dig(document, self.path)), kind_of(self.value)
        found = theirs[0] == ours[0] and _COMPARISONS[self.operator](theirs[1], ours[1])
        return found != (self.operator == "!=")


def kind_of(value: object) -> tuple[str, Any]:
    """Return what a value can be compared with, and as what; '' for what is equal to nothing."""
    if value is None:
        return "null", None
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, bson.Decimal128):
        value = value.to_decimal()
        return ("", None) if value.is_nan() else ("number", value)
    if isinstance(value, (int, float)):
        return ("", None) if math.isnan(value) else ("number", value)
    if isinstance(value, bson.DatetimeMS):
        return "date", int(value)
    if isinstance(value, bson.ObjectId):
        return "ObjectId", value
    # Code of JavaScript is a kind of `str`.
    return ("text", value) if type(value) is str else ("", None)


def parse_condition(text: str, place: str) -> Condition:
    """Read a condition as people write it: a path, one of ``= != < <= > >=``, a value.

    The value is JSON, or Extended JSON for what that lacks, ``{"$oid": …}`` say. What is neither is a text as it is, so
    that texts need quotes only if they look like something else: ``user.id="42"``.

    Raises:
        SettingError: it is none; the message begins with `place`.
    """
    said = _SAID.fullmatch(text)
    try:
        if said is None:
            raise SettingError("no operator in it; write it as http.response.status_code>=500")
        path, sign, value = (each.strip() for each in said.groups())
        return Condition(path, sign, _value(value))
    except SettingError as error:
        raise SettingError(f"{place}: {text[:200]!r}: {error}") from None


def _value(text: str) -> Any:
    try:
        # Names that Python's parser takes, and JSON has not: they are texts.
        value = json.loads(text, parse_constant=_refuse)
        if isinstance(value, dict):
            value = json_util.loads(text, json_options=_OPTIONS)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, BSONError):
        return text
    if isinstance(value, int) and int(value) not in _INT64:
        return float(str(value)) if len(text) <= _MOST_DIGITS else text
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def chosen(events: Iterator[StoredEvent], where: Sequence[Condition]) -> Iterator[StoredEvent]:
    """Yield the events of which all conditions hold. What is no document matches none."""
    return _chosen(events, where) if where else events


def _chosen(events: Iterator[StoredEvent], where: Sequence[Condition]) -> Iterator[StoredEvent]:
    for event in events:
        document = decode(event.data)
        if document is not None and all(each.holds(document) for each in where):
            yield event
