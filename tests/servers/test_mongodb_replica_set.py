"""The ledger while the primary changes: a real server behind proxies that behave like a replica set's members."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.mongodb_server import MongoServer
from servers.replica_set import ENDS, ReplicaSet
from servers.test_mongodb_faults import MongoRig
from sinks.rig import wait_for


@pytest.fixture
def replica_set(mongodb: MongoServer) -> Iterator[ReplicaSet]:
    """Two members, running."""
    mongodb.start()
    with contextlib.closing(ReplicaSet(mongodb.port)) as members:
        yield members


@pytest.fixture
def rig(tmp_path: Path, mongodb: MongoServer, replica_set: ReplicaSet) -> Iterator[MongoRig]:
    """A rig whose sink knows the members."""
    with contextlib.closing(MongoRig(tmp_path, mongodb)) as rig:
        rig.store = f"{replica_set.url}/faults?replicaSet=tests&serverSelectionTimeoutMS=5000&socketTimeoutMS=5000"
        yield rig


def test_primaries_that_step_down_in_the_middle_of_a_load_lose_nothing(rig: MongoRig, replica_set: ReplicaSet) -> None:
    """Whatever they answer to the write that meets their end, and whether they have carried it out or not."""
    rig.router()
    sink = rig.sink()
    source = rig.steady_source(workers=0, pause_s=0.1)
    ends = [(how, after) for how in ENDS for after in (False, True)]
    for number, (how, after) in enumerate(ends):
        before = rig.stored()
        wait_for(lambda before=before: rig.stored() > before + 200, lambda: f"more events: {sink.lines[-3:]}")
        replica_set.step_down(how, after=after)
        wait_for(lambda number=number: len(replica_set.ended) > number, "a write that meets the primary's end")
    rig.wait_for_more()
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert all(book.stored == book.next_seq for book in books.values())
    assert len(replica_set.ended) == len(ends)
