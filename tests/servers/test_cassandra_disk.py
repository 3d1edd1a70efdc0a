"""The ledger while a real Cassandra's disk is full: at the end emitted = stored + lost, and no event twice."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from servers.cassandra_server import CassandraServer
from servers.test_cassandra_faults import CassandraRig


def fill(file: Path) -> None:
    """Write a file until there is no room left."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as disk:
        while True:
            disk.write(bytes(4096))


def test_a_disk_that_is_full_loses_nothing(tmp_path: Path) -> None:
    """A real one, that of the commit log, which the node maps into memory: so it ends, and must be started again."""
    server = CassandraServer(tmp_path)
    disk = tmp_path / "node-0" / "commitlog"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("NOT TESTED: no file system may be mounted here")
    rig = CassandraRig(tmp_path, server)
    try:
        server.start()
        rig.router()
        sink = rig.sink()
        source = rig.calm_source()
        rig.wait_for_more(sink)
        fill(disk / "filling")
        sink.wait_for("cannot write now")
        (disk / "filling").unlink()
        server.kill()
        server.mend()
        rig.wait_for_more(sink)
        books = rig.settled(sink, source)
        assert not any(book.lost_way or book.overflowed or book.refused for book in books.values())
    finally:
        rig.close()
        server.kill()
        subprocess.run(["umount", "-l", disk], check=True)
