"""MongoDB keeps the promises of stores, however its events are spread over collections."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import bson
import pytest

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Store, conformance
from eventstorm_sinks.stores.conformance import DOCUMENTS, StoreConformance

# mongo-java-server hangs up on these, which it cannot decode. That the store itself keeps them to the byte is shown in
# tests/sinks/test_mongodb.py, which needs no server.
UNKNOWN = {
    "binary",
    "binary that should be a UUID",
    "code",
    "symbol",
    "a name twice",
    "array with odd names",
}
KNOWN = {name: document for name, document in DOCUMENTS.items() if name not in UNKNOWN}

# FerretDB has neither arrays in arrays, nor infinities, nor these types and names; and of minus zero it makes zero.
UNKNOWN_TO_FERRETDB = {
    "arrays",
    "doubles",
    "not finite",
    "decimal128",
    "code",
    "min and max key",
    "database reference",
    "symbol",
    "undefined",
    "names",
    "names that look like Extended JSON",
    "a document that looks like Extended JSON",
    "a name twice",
    "array with odd names",
}
KNOWN_TO_FERRETDB = {name: document for name, document in DOCUMENTS.items() if name not in UNKNOWN_TO_FERRETDB}


class TestMongodb(StoreConformance):
    """All of the kit."""

    @pytest.fixture
    def url(self, database_url: str) -> str:
        """A new database."""
        return database_url

    @pytest.fixture(params=["one", "topic", "day"])
    def settings(self, request: pytest.FixtureRequest) -> SinkSettings:
        """Each way to spread events."""
        writers = {"one": 1, "topic": 2, "day": 4}[request.param]
        return SinkSettings(mongodb_collections=request.param, mongodb_writers=writers)

    @pytest.mark.parametrize("name", KNOWN)
    def test_what_goes_in_comes_back_equal(self, store: Store, name: str) -> None:
        """Every BSON type that this server knows."""
        super().test_what_goes_in_comes_back_equal(store, name)

    @pytest.fixture(autouse=True)
    def _known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conformance, "DOCUMENTS", KNOWN)

    def can_hold(self, document: dict[str, Any]) -> bool:
        """Tell whether this server knows what is there."""
        return not isinstance(document.get("x"), (bson.Code, bytes))

    def test_what_this_server_cannot_hold_is_refused_alone(self, open: Callable[[], Store]) -> None:
        """A server that hangs up on a document, over and over, is not taken for one that is away."""
        writer = conformance._writer(open())
        documents = conformance._numbered(*range(4))
        documents[2] = DOCUMENTS["symbol"]
        writer.put(conformance._message(0, documents))
        assert writer.close(timeout_s=30) == 0
        [book] = open().books()
        assert (book.stored, book.refused) == (3, 1)


class TestFerretdb(StoreConformance):
    """All of the kit on FerretDB, which keeps its data in SQLite."""

    @pytest.fixture
    def url(self, ferretdb_url: str) -> str:
        """A new database."""
        return ferretdb_url

    @pytest.fixture(autouse=True)
    def _known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conformance, "DOCUMENTS", KNOWN_TO_FERRETDB)

    @pytest.mark.parametrize("name", KNOWN_TO_FERRETDB)
    def test_what_goes_in_comes_back_equal(self, store: Store, name: str) -> None:
        """Every BSON type that this server knows."""
        super().test_what_goes_in_comes_back_equal(store, name)

    def can_hold(self, document: dict[str, Any]) -> bool:
        """Tell whether this server knows what is there."""
        value = document.get("x")
        if isinstance(value, (bson.Code, bson.Decimal128)) or (isinstance(value, float) and not math.isfinite(value)):
            return False
        names = (*document, *value) if isinstance(value, dict) else document
        return not any(name.startswith("$") or "." in name for name in names)

    def test_what_this_server_cannot_hold_is_refused_alone(self, open: Callable[[], Store]) -> None:
        """Whether it says so, or hangs up."""
        writer = conformance._writer(open())
        unknown = [DOCUMENTS["arrays"], DOCUMENTS["symbol"]]
        writer.put(conformance._message(0, [*conformance._numbered(0), *unknown, *conformance._numbered(1)]))
        assert writer.close(timeout_s=30) == 0
        [book] = open().books()
        assert (book.stored, book.refused) == (2, len(unknown))
