"""Servers that the tests of stores share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from eventstorm_sinks.stores.mongodb import MongoStore
from servers.cassandra_server import CassandraServer
from servers.mongodb_server import FerretServer, MongoServer

pytest.register_assert_rewrite("eventstorm_sinks.stores.conformance")


# On a busy machine a cluster of three takes a minute and more to start, or to start again.
TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder more time than others have."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def shared_mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server for all tests that do it no harm; each takes a database of its own."""
    with MongoServer(tmp_path_factory.mktemp("mongodb")) as server:
        server.start()
        yield server


@pytest.fixture
def mongodb(tmp_path: Path) -> Iterator[MongoServer]:
    """A server for one test, not started yet."""
    with MongoServer(tmp_path) as server:
        yield server


@pytest.fixture
def database_url(shared_mongodb: MongoServer, request: pytest.FixtureRequest) -> str:
    """The URL of a new database."""
    return f"{shared_mongodb.url}/{_new_name(request)}"


@pytest.fixture
def open_it(database_url: str) -> Iterator[Callable[..., MongoStore]]:
    """Return a function that opens the same store again, with some settings."""
    stores: list[MongoStore] = []

    def open_it(**settings: Any) -> MongoStore:
        stores.append(open_store(database_url, SinkSettings(**settings)))  # type: ignore[arg-type]
        return stores[-1]

    yield open_it
    for store in stores:
        store.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Any]:
    """The database as somebody else sees it."""
    with MongoClient(database_url) as client:
        yield client.get_default_database()


def _new_name(request: pytest.FixtureRequest) -> str:
    number = getattr(request.config, "_databases", 0) + 1
    request.config._databases = number
    return f"test_{number}"


@pytest.fixture(scope="session")
def shared_ferretdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FerretServer]:
    """Another kind of server, for all tests that do it no harm."""
    with FerretServer(tmp_path_factory.mktemp("ferretdb")) as server:
        server.start()
        yield server


@pytest.fixture
def ferretdb_url(shared_ferretdb: FerretServer, request: pytest.FixtureRequest) -> str:
    """The URL of a new database on it."""
    return f"{shared_ferretdb.url}/{_new_name(request)}"


@pytest.fixture(scope="session")
def shared_cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraServer]:
    """One node for all tests; each takes a table of its own."""
    yield from _started(CassandraServer(tmp_path_factory.mktemp("cassandra")))


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraServer]:
    """Three nodes for all tests; one that ends nodes brings them back."""
    yield from _started(CassandraServer(tmp_path_factory.mktemp("cluster"), nodes=3))


def _started(server: CassandraServer) -> Iterator[CassandraServer]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def cluster(shared_cluster: CassandraServer) -> Iterator[CassandraServer]:
    """Three nodes of which a test may kill and pause some; they are all there again afterwards."""
    yield shared_cluster
    shared_cluster.mend()


@pytest.fixture
def guarded_cassandra(tmp_path: Path) -> Iterator[CassandraServer]:
    """One node for one test, which asks for passwords; not started yet."""
    server = CassandraServer(tmp_path, guarded=True)
    yield server
    server.kill()


@pytest.fixture
def table_url(shared_cassandra: CassandraServer) -> str:
    """The URL of an empty table on one node."""
    return shared_cassandra.empty_table()


@pytest.fixture
def cluster_url(shared_cluster: CassandraServer) -> str:
    """The URL of an empty table of three replicas."""
    return shared_cluster.empty_table()
