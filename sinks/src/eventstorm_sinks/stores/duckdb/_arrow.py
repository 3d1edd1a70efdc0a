"""Columns of Apache Arrow, made of bytes that are there: DuckDB reads them in place, with no object for each value."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import nanoarrow  # type: ignore[import-untyped]

__all__ = ["arrow_binaries", "arrow_blobs", "arrow_integers", "arrow_table", "arrow_texts"]


def arrow_integers(values: array[int]) -> Any:
    """Return a column of the array's own type."""
    return nanoarrow.c_array(values)


def arrow_binaries(joined: bytes, size_bytes: int) -> Any:
    """Return a column of values that all have the same size, given one after the other."""
    buffers = [None, joined]
    return nanoarrow.c_array_from_buffers(nanoarrow.fixed_size_binary(size_bytes), len(joined) // size_bytes, buffers)


def arrow_texts(texts: Sequence[bytes]) -> Any:
    """Return a column of texts, which must be UTF-8 and together less than 2 GiB."""
    offsets = array("i", chain((0,), accumulate(map(len, texts))))
    return nanoarrow.c_array_from_buffers(nanoarrow.string(), len(texts), [None, offsets, b"".join(texts)])


def arrow_blobs(values: Sequence[bytes | None]) -> Any:
    """Return a column of bytes, or of NULLs alone."""
    if any(value is not None for value in values):
        return nanoarrow.c_array(values, nanoarrow.binary())
    return nanoarrow.c_array_from_buffers(nanoarrow.null(), len(values), [])


def arrow_table(columns: Mapping[str, Any]) -> Any:
    """Return a table of columns of one length, for `duckdb.DuckDBPyConnection.register`."""
    first, *_ = columns.values()
    schema = nanoarrow.struct({name: nanoarrow.Schema(column.schema) for name, column in columns.items()})
    # An Array, not a stream: DuckDB 1.5 asks twice, and a stream is read once.
    return nanoarrow.Array(nanoarrow.c_array_from_buffers(schema, len(first), [None], children=list(columns.values())))
