"""Two data centers of a real Cassandra: a sink is at home in one, and the other gets all of it."""

from __future__ import annotations

from pathlib import Path

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from servers.cassandra_server import CassandraServer
from servers.test_cassandra_faults import BACK_S, CassandraRig
from sinks.test_faults import wait_for


class CentersRig(CassandraRig):
    """A rig whose sink is at home in the first data center, and makes the keyspace."""

    def __init__(self, path: Path, server: CassandraServer) -> None:
        super().__init__(path, server)
        self.store += "&local_dc=east&replication=east:1,west:1"


def test_a_sink_waits_for_its_own_data_center_alone(tmp_path: Path) -> None:
    """Another one may be away, and is given afterwards what it missed; without its own one the events wait."""
    server = CassandraServer(tmp_path, 2, centers=("east", "west"))
    rig = CentersRig(tmp_path, server)
    east, west = server.nodes
    try:
        server.start()
        with server.session() as session:
            session.execute("DROP KEYSPACE tests")
        rig.router()
        sink = rig.sink()
        source = rig.calm_source()
        rig.wait_for_more(sink)
        west.kill()
        rig.wait_for_more(sink, 3000)
        assert not any("cannot write now" in line for line in sink.lines)
        server.mend()
        rig.wait_for_more(sink)
        east.pause()
        sink.wait_for("cannot write now")
        server.mend()
        rig.wait_for_more(sink)
        books = rig.settled(sink, source)
        assert not any(book.lost_way or book.overflowed or book.refused for book in books.values())

        store = open_store(f"cassandra://{west.address}:{server.port}/tests.faults?local_dc=west", SinkSettings())
        stored = sum(book.stored for book in books.values())
        wait_for(lambda: sum(1 for _ in store.read()) == stored, "all events in the other data center", BACK_S)
        store.close()
    finally:
        rig.close()
        server.kill()
