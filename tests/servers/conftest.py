"""Servers that the tests of stores share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.mongodb_server import MongoServer

pytest.register_assert_rewrite("eventstorm_sinks.stores.conformance")


@pytest.fixture(scope="session")
def shared_mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server for all tests that do it no harm; each takes a database of its own."""
    server = MongoServer(tmp_path_factory.mktemp("mongodb"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def mongodb(tmp_path: Path) -> Iterator[MongoServer]:
    """A server for one test, not started yet."""
    server = MongoServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def database_url(shared_mongodb: MongoServer, request: pytest.FixtureRequest) -> str:
    """The URL of a new database."""
    number = getattr(request.config, "_databases", 0) + 1
    request.config._databases = number
    return f"{shared_mongodb.url}/test_{number}"
