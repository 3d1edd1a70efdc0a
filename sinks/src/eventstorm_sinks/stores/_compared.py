"""Documents that every store has to compare alike, each under a letter, and which of them each condition chooses."""

from __future__ import annotations

import math
from typing import Any

import bson

__all__ = ["COMPARED", "CONDITIONS"]

COMPARED: dict[str, dict[str, Any]] = {
    "a": {},
    "b": {"x": None},
    "c": {"x": 5},
    "d": {"x": bson.Int64(5)},
    "e": {"x": 5.0},
    "f": {"x": bson.Decimal128("5.0")},
    "g": {"x": "5"},
    "h": {"x": True},
    "i": {"x": [5, 6]},
    "j": {"x": {"y": 5}},
    "k": {"x": [{"y": 5}]},
    "l": {"x.y": 5},
    "m": {"x": bson.ObjectId("65f1a2b3c4d5e6f708192a3b")},
    "n": {"x": bson.DatetimeMS(1_767_225_600_000)},
    "o": {"x": math.nan},
    "p": {"x": math.inf},
    "q": {"x": 2**53 + 1},
    "r": {"x": -1.5},
    "s": {"x": 'it\'s "x"; --'},
    "t": {"$where": 5},
    "u": {"x": {"$gt": 5}},
    "v": {"X": 5},
    "w": {"x": bson.Code("5")},
    "z": {"x": "\U0001f980"},
    "A": {"x": "\uff5e"},
    "B": {"x": b"5"},
    "C": {"x": {"0": 5}},
    "D": {"x": {"$oid": "65f1a2b3c4d5e6f708192a3b", "y": 5}},
}
CONDITIONS = {
    "x=5": "cdef",
    "x = 5.0": "cdef",
    'x={"$numberDecimal": "5"}': "cdef",
    "x!=5": "".join(each for each in COMPARED if each not in "cdef"),
    "x<5": "r",
    "x<=5": "cdefr",
    "x>5": "pq",
    "x>=-1e400": "cdefpqr",
    "x>9007199254740992": "pq",
    "x=9007199254740993": "q",
    "x=9007199254740992": "",
    "x<170141183460469231731687303715884105728": "cdefqr",
    'x="5"': "g",
    "x=NaN": "",
    'x=it\'s "x"; --': "s",
    "x>=\uff5e": "zA",
    "x<\U0001f980": "gsA",
    "x=true": "h",
    "x=false": "",
    "x=null": "abltv",
    "x!=null": "".join(each for each in COMPARED if each not in "abltv"),
    "x.y=5": "jD",
    "x.0=5": "C",
    "X=5": "v",
    "$where=5": "t",
    "x.$gt=5": "u",
    'x={"$oid": "65f1a2b3c4d5e6f708192a3b"}': "m",
    'x={"$date": "2026-01-01T00:00:00Z"}': "n",
    'x>{"$date": {"$numberLong": "1767225599999"}}': "n",
    'x<{"$date": "2026-01-01T00:00:00Z"}': "",
}
