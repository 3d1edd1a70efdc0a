"""MongoDB keeps the promises of stores, however its events are spread over collections."""

from __future__ import annotations

from collections.abc import Callable

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

    def test_what_this_server_cannot_hold_is_refused_alone(self, open: Callable[[], Store]) -> None:
        """A server that hangs up on a document, over and over, is not taken for one that is away."""
        writer = conformance._writer(open())
        documents = conformance._numbered(*range(4))
        documents[2] = DOCUMENTS["symbol"]
        writer.put(conformance._message(0, documents))
        assert writer.close(timeout_s=30) == 0
        [book] = open().books()
        assert (book.stored, book.refused) == (3, 1)
