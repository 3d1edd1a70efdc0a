"""The ledger through outages of a real FerretDB: at the end emitted = stored + lost, and no event twice."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable, open_store
from servers.certificates import make_certificates
from servers.mongodb_server import FerretServer
from servers.test_mongodb_faults import MongoRig
from sinks.rig import wait_for

# Of the source, between 100 events. This server sorts slowly: a test's events, if they are no more, are read back in
# some seconds.
PAUSE_S = 0.2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FerretServer]:
    """A server, not started yet."""
    with FerretServer(tmp_path) as server:
        yield server


@pytest.fixture
def rig(tmp_path: Path, server: FerretServer) -> Iterator[MongoRig]:
    """Nothing started yet."""
    with contextlib.closing(MongoRig(tmp_path, server)) as rig:
        yield rig


def test_a_server_that_is_killed_restarted_and_paused_loses_nothing(rig: MongoRig, server: FerretServer) -> None:
    """In the middle of writes; what it had acknowledged it still has."""
    server.start()
    rig.router()
    sink = rig.sink()
    source = rig.steady_source(workers=0, pause_s=PAUSE_S)
    for end, begin in (
        (server.kill, server.start),
        (server.stop, server.start),
        (server.pause, server.go_on),
    ):
        before = rig.stored()
        wait_for(lambda before=before: rig.stored() > before + 500, lambda: f"more events: {sink.lines[-3:]}")
        end()
        at = len(source.lines)
        wait_for(lambda at=at: len(source.lines) > at + 10, "events while there is no server")
        begin()
        wait_for(rig.stored, "an answer")
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert all(book.stored == book.next_seq for book in books.values())


def test_a_sink_that_is_killed_goes_on_from_its_books(rig: MongoRig, server: FerretServer) -> None:
    """What it had inserted without having committed it, is removed, and lost on the way like what came meanwhile."""
    server.start()
    rig.router()
    sink = rig.sink()
    source = rig.steady_source(workers=0, pause_s=PAUSE_S)
    wait_for(lambda: rig.stored() > 500, "events")
    rig.end(sink, signal.SIGKILL)
    at = len(source.lines)
    wait_for(lambda: len(source.lines) > at + 10, "events while there is no sink")
    before = rig.stored()
    sink = rig.sink()
    wait_for(lambda: rig.stored() > before + 500, "more events")
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert sum(book.lost_way for book in books.values()) > 0


def test_a_disk_that_is_full_loses_nothing(tmp_path: Path) -> None:
    """A real one: what finds no room waits until there is some again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("NOT TESTED: no file system may be mounted here")
    server = FerretServer(tmp_path, data=disk)
    rig = MongoRig(tmp_path, server)
    try:
        server.start()
        rig.router()
        sink = rig.sink()
        source = rig.source(10**9, 0.05, size=1000)
        sink.wait_for("disk is full")
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        rig.stop_emitting()
        books = rig.settled(sink, source)
        assert all(book.stored == book.next_seq for book in books.values())
    finally:
        rig.close()
        server.kill()
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[FerretServer]:
    """A server that speaks TLS and asks for a login."""
    with FerretServer(tmp_path, certificates=make_certificates(tmp_path / "tls"), password="hush") as server:
        server.start()
        yield server


def url_of(server: FerretServer, login: str, options: str = "") -> str:
    """Return the URL of a collection over TLS."""
    authority = server.folder / "tls" / "ca.pem"
    return f"mongodb://{login}@127.0.0.1:{server.tls_port}/faults?tls=true&tlsCAFile={authority}&{FerretServer.options}{options}"


def test_credentials_that_are_revoked_and_given_again_lose_nothing(tmp_path: Path, guarded: FerretServer) -> None:
    """Over TLS, with a login that a server checks."""
    rig = MongoRig(tmp_path, guarded)
    rig.store = url_of(guarded, "sink:secret")
    rig.settled_store = rig.store.replace(f"&{FerretServer.options}", "")
    users = rig.outsider.faults
    try:
        rig.router()
        sink = rig.sink()
        source = rig.steady_source(workers=0, pause_s=PAUSE_S)
        sink.wait_for("Authentication failed")
        users.command("createUser", "sink", pwd="secret", roles=[])
        wait_for(lambda: rig.stored() > 500, "events")
        users.command("dropUser", "sink")
        guarded.kill()  # its connections that have logged in go on until then
        guarded.start()
        before, at = wait_for(rig.stored, "an answer"), len(source.lines)
        wait_for(lambda: len(source.lines) > at + 10, "events while nobody may store them")
        assert rig.stored() == before
        users.command("createUser", "sink", pwd="secret", roles=[])
        rig.stop_emitting()
        books = rig.settled(sink, source)
        assert all(book.stored == book.next_seq for book in books.values())
        assert "secret" not in "".join(sink.lines)
    finally:
        rig.close()


@pytest.mark.parametrize(
    ("login", "options", "says"),
    [
        ("admin:wrong-secret", "&authSource=admin", "Authentication failed"),
        ("nobody:wrong-secret", "", "Authentication failed"),
    ],
)
def test_a_wrong_login_is_told_with_what_to_do(guarded: FerretServer, login: str, options: str, says: str) -> None:
    """In one line, without the password."""
    store = open_store(url_of(guarded, login, options), SinkSettings())
    with pytest.raises(StoreUnavailable, match=says) as told:
        store.books()
    store.close()
    assert "wrong-secret" not in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert "authSource" in str(told.value)


def test_a_certificate_that_nobody_trusts_is_told_with_what_to_do(guarded: FerretServer) -> None:
    """In one line, without the password."""
    url = f"mongodb://admin:hush@127.0.0.1:{guarded.tls_port}/faults?authSource=admin&tls=true&{FerretServer.options}"
    store = open_store(url, SinkSettings())
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED") as told:
        store.books()
    store.close()
    assert "hush" not in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert "tlsCAFile" in str(told.value)
