"""Two data centers of a real Cassandra: a sink is at home in one, and the other can be given all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable, open_store, open_to_read
from servers.cassandra_server import CassandraServer
from servers.test_cassandra_faults import TABLE, CassandraRig


class CentersRig(CassandraRig):
    """A rig whose sink is at home in the first data center, and makes the keyspace."""

    def __init__(self, path: Path, server: CassandraServer) -> None:
        super().__init__(path, server)
        # With time enough for a busy machine: its own node, when it is slow, must not look like one that is away.
        self.store = f"{server.url}/{TABLE}?timeout_s=10&replication=east:1,west:1"


@pytest.fixture(scope="module")
def both_centers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraServer]:
    """A node in the east and one in the west, which write their logs as Cassandra does if nothing else is said."""
    server = CassandraServer(tmp_path_factory.mktemp("centers"), 2, centers=("east", "west"), commitlog_sync="periodic")
    try:
        server.start()
        with server.session() as session:
            session.execute("DROP KEYSPACE tests")
        yield server
    finally:
        server.kill()


@pytest.fixture
def centers(both_centers: CassandraServer) -> Iterator[CassandraServer]:
    """Two nodes, which are there again afterwards."""
    yield both_centers
    both_centers.mend()


def test_a_sink_waits_for_its_own_data_center_alone(tmp_path: Path, centers: CassandraServer) -> None:
    """Another one may be killed, and has all events once it is repaired; without its own one the events wait."""
    rig = CentersRig(tmp_path, centers)
    east, west = centers.nodes
    try:
        rig.router()
        sink = rig.sink()
        source = rig.calm_source()
        rig.wait_for_more(sink)
        west.kill()
        rig.wait_for_more(sink, 3000)
        assert not any("cannot write now" in line for line in sink.lines)
        centers.mend()
        rig.wait_for_more(sink)
        east.pause()
        sink.wait_for("cannot write now")
        centers.mend()
        rig.wait_for_more(sink)
        books = rig.settled(sink, source)
        assert not any(book.lost_way or book.overflowed or book.refused for book in books.values())

        # What is sent again by itself is all but what the killed node had acknowledged in its last tenth of a second.
        west.repair("tests")
        place = f"cassandra://{east.address},{west.address}:{centers.port}/tests.faults?local_dc=west"
        store = open_store(place, SinkSettings())
        assert sum(1 for _ in store.read()) == sum(book.stored for book in books.values())
        store.close()
    finally:
        rig.close()


def test_a_store_is_at_home_where_the_first_node_of_its_url_is(centers: CassandraServer) -> None:
    """Also while that node is away: another data center need not know yet what the books say."""
    east, west = centers.nodes
    there, here = (
        f"cassandra://{a.address},{b.address}:{centers.port}/tests.home" for a, b in ((east, west), (west, east))
    )
    store = open_store(there + "?replication=east:1,west:1", SinkSettings())
    assert store.books() == []
    store.close()
    east.kill()
    reader = open_to_read(here, SinkSettings())
    assert reader.books() == []
    reader.close()
    reader = open_to_read(there, SinkSettings())
    with pytest.raises(StoreUnavailable, match="no node of the data center"):
        reader.books()
    reader.close()
