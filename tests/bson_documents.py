"""Random documents of every BSON type, for property tests."""

from __future__ import annotations

from typing import Any

import bson
from hypothesis import strategies as st

__all__ = ["common_documents", "documents"]

_names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["$oid", "$date", "$numberLong", "a.b", "_id"]
)
# What BSON has, in all sizes and shapes.
# Of these the servers in our tests know all.
_COMMON = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-(2**31), 2**31 - 1).map(bson.Int64)
    | st.floats()
    | st.text(st.characters(exclude_categories=("Cs",)))
    | st.binary(min_size=12, max_size=12).map(bson.ObjectId)
    | st.integers(-(2**63), 2**63 - 1).map(bson.DatetimeMS)
    | st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)).map(lambda each: bson.Timestamp(*each))
    | st.from_regex(r"-?[0-9]{1,30}(E[-+]?[0-9]{1,3})?", fullmatch=True).map(bson.Decimal128)
    | st.sampled_from([bson.MinKey(), bson.MaxKey(), bson.Regex("^a", "i")])
)
_RARE = (
    st.binary()
    | st.tuples(st.binary(min_size=16, max_size=16), st.sampled_from([1, 3, 4, 5, 8, 128])).map(
        lambda each: bson.Binary(*each)
    )
    | st.just(bson.Code("x", {"y": 1}))
)


def _documents(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    nested = st.recursive(
        values,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(_names, nested, max_size=6).map(bson.encode)


documents = _documents(_COMMON | _RARE)
"""Documents of every type, encoded."""
common_documents = _documents(_COMMON)
"""Documents of the types that all servers in our tests know, encoded."""
