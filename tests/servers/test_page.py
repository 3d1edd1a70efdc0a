"""One page over several sinks that share a collection: real processes, a real browser, outages of store and router."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, expect

from ports import free_port
from servers.cassandra_server import CassandraServer
from servers.mongodb_server import FerretServer, MongoServer, Server
from servers.test_cassandra_faults import TABLE, CassandraRig
from servers.test_mongodb_faults import MongoRig
from sinks.rig import PROGRAM, Process, Rig, wait_for
from sinks.test_page import looking_at


class Looking(Rig):
    """A rig whose sink is two workers, with a page beside."""

    def __init__(self, path: Path, server: Server | CassandraServer) -> None:
        super().__init__(path, server)  # type: ignore[call-arg]
        self.url = f"http://127.0.0.1:{free_port()}"

    def share(self) -> Process:
        """Start a sink of two workers."""
        options = ("--egress", self.egress, "--topic", "test.", "--workers", "2")
        return self.start(PROGRAM, "sink", self.store, *options, ready="ready: ")

    def page(self) -> Process:
        """Start the page."""
        options = ("--egress", self.egress, "--topic", "test.", "--http", self.url.removeprefix("http://"))
        return self.start(PROGRAM, "page", self.store, *options, ready="ready: ")

    def ask(self, path: str) -> Any:
        """Ask the page's API, whatever it answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def problems(self) -> str:
        """Return what the page says is amiss."""
        return " ".join(self.ask("/healthz")["problems"])

    def streams(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the streams of the sources as the page accounts for them."""
        found = self.ask("/api/ledger")["streams"]
        return {(each["source"]["id"], each["topic"]): each for each in found if each["topic"].startswith("test.")}

    def stored_in(self, stream: dict[str, Any]) -> int:
        """Return how many events of a stream the page says are stored."""
        return sum(int(store["stored"]) for store in stream["stores"])

    def counted(self, topic: str) -> int:
        """Return how many events of a topic the page's history has."""
        lines = self.ask(f"/api/series?topic={topic}&step=3600")["series"]
        return sum(int(count) for line in lines for _, count in line["points"])


class PageRig(Looking, MongoRig):
    """One on MongoDB."""

    def __init__(self, path: Path, server: Server) -> None:
        super().__init__(path, server)
        self.any_server = server


class CassandraPageRig(Looking, CassandraRig):
    """One on Cassandra."""


@pytest.fixture(params=[MongoServer, FerretServer])
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PageRig]:
    """A server and a router, running."""
    with request.param(tmp_path) as server, contextlib.closing(PageRig(tmp_path, server)) as rig:
        server.start()
        rig.router()
        yield rig


@pytest.mark.browser
def test_one_page_has_all_events_of_both_workers_once(rig: PageRig, browser: Browser) -> None:
    """Live, in the ledger, and from history; and whoever looks at it in a browser sees those of both."""
    sink = rig.share()
    rig.page()
    source = rig.calm_source(rounds=3_000)
    with looking_at(browser, rig.url) as page:
        figures = rig.finish(source)
        other = rig.finish(rig.calm_source(rounds=1_000))
        figures |= other
        expect(page.locator("#events")).to_contain_text("test.a")
        expect(page.locator("#panel-events canvas")).to_be_visible()
        expect(page.locator("#loss-pill")).to_have_text("no losses")

    emitted = {stream: counts["emitted"] for stream, counts in figures.items() if counts["emitted"]}
    wait_for(lambda: {key: rig.stored_in(each) for key, each in rig.streams().items()} == emitted, "all in the books")
    assert {key: each["received"] for key, each in rig.streams().items()} == emitted
    assert not any(each["lost"] for each in rig.streams().values())
    for topic in ("test.a", "test.b"):
        assert rig.counted(topic) == sum(count for (_, each), count in emitted.items() if each == topic)
    newest = rig.ask("/api/events?limit=1000")["events"]
    assert len({each["id"] for each in newest}) == len(newest) == 1000
    assert not [line for line in rig.end(sink, signal.SIGTERM) if "Traceback" in line]


def test_the_page_has_all_events_of_both_workers_in_cassandra(
    tmp_path: Path, shared_cassandra: CassandraServer
) -> None:
    """It may be there before the tables are."""
    shared_cassandra.empty_table(TABLE)
    rig = CassandraPageRig(tmp_path, shared_cassandra)
    try:
        rig.router()
        page = rig.page()
        sink = rig.share()
        figures = rig.finish(*(rig.source(1_000, 0.05) for _ in range(2)))
        emitted = {stream: counts["emitted"] for stream, counts in figures.items()}
        wait_for(
            lambda: {key: rig.stored_in(each) for key, each in rig.streams().items()} == emitted, "all in the books", 60
        )
        assert {key: each["received"] for key, each in rig.streams().items()} == emitted
        assert not any(each["lost"] for each in rig.streams().values())
        assert rig.counted("test.a") == 2_002
        assert not rig.problems()
        for process in (page, sink):
            assert not [line for line in rig.end(process, signal.SIGTERM) if "Traceback" in line]
    finally:
        rig.close()


def test_what_a_worker_lost_is_on_the_page_when_the_sink_has_gone(rig: PageRig) -> None:
    """As many as the books say, though the page itself has received them."""
    sink = rig.share()
    page = rig.page()
    source = rig.steady_source(workers=3, pause_s=0.5)
    wait_for(lambda: len(rig.streams()) >= 8 and all(map(rig.stored_in, rig.streams().values())), "all streams")
    for worker in psutil.Process(sink.pid).children():
        os.kill(worker.pid, signal.SIGKILL)
    # Once they have begun again, which takes a while.
    wait_for(lambda: any(each["lost"] for each in rig.streams().values()), lambda: f"losses: {sink.lines}")
    rig.stop_emitting()
    figures = rig.finish(source)
    rig.end(sink, signal.SIGTERM)

    rig.store = rig.settled_store
    books = {key: book for key, book in rig.books().items() if key in figures}
    lost = {key: book.lost_way for key, book in books.items() if book.lost_way}
    assert lost
    wait_for(
        lambda: (
            {key: (rig.stored_in(each), each["lost"].get("way", 0)) for key, each in rig.streams().items()}
            == {key: (book.stored, book.lost_way) for key, book in books.items()}
        ),
        "what the books say",
    )
    assert sum(each["events"] for each in rig.ask("/api/ledger")["losses"]) == sum(lost.values())
    assert all(each["received"] <= figures[key]["emitted"] for key, each in rig.streams().items())
    assert not [line for line in rig.end(page, signal.SIGTERM) if "Traceback" in line]


@pytest.mark.browser
@pytest.mark.parametrize("rig", [MongoServer], indirect=True)
def test_the_page_outlives_store_and_router_and_says_what_is_away(rig: PageRig, browser: Browser) -> None:
    """It starts without the store, and is what it was when all is back; what it knew it shows meanwhile."""
    rig.any_server.kill()
    page = rig.page()
    assert "cannot be read" in rig.problems()
    assert "error" in rig.ask("/api/topics")
    with looking_at(browser, rig.url) as seen:
        expect(seen.locator("#notice")).to_contain_text("cannot be read")
        expect(seen.locator("#loss-pill")).to_have_text("no losses known")
        rig.any_server.start()
        sink = rig.share()
        expect(seen.locator("#loss-pill")).to_have_text("no losses")
        expect(seen.locator("#notice")).to_be_hidden()
    wait_for(lambda: not rig.problems(), "the store")
    figures = rig.finish(rig.calm_source(rounds=500))
    emitted = sum(each["emitted"] for each in figures.values())
    wait_for(lambda: sum(map(rig.stored_in, rig.streams().values())) == emitted, "all in the books")

    rig.any_server.kill()
    wait_for(lambda: "cannot be read" in rig.problems(), "that the store is away")
    assert sum(map(rig.stored_in, rig.streams().values())) == emitted
    rig.any_server.start()
    wait_for(lambda: not rig.problems(), "the store once more")

    router = next(each for each in psutil.process_iter(["cmdline"]) if rig.ingress in (each.info["cmdline"] or ()))
    router.terminate()
    wait_for(lambda: "no router answers" in rig.problems(), "that the router is away")
    assert rig.counted("test.a") == 501
    rig.router()
    wait_for(lambda: not rig.problems(), "the router once more")
    figures = rig.finish(rig.calm_source(rounds=500))
    wait_for(lambda: rig.counted("test.a") == 1002, "what was emitted since")
    for process in (page, sink):
        assert not [line for line in rig.end(process, signal.SIGTERM) if "Traceback" in line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("rig", [MongoServer], indirect=True)
def test_a_store_that_hangs_does_not_keep_the_page_from_stopping(rig: PageRig, number: signal.Signals) -> None:
    page = rig.page()
    rig.any_server.pause()
    wait_for(rig.problems, "that the store does not answer", 40.0)
    assert not [line for line in rig.end(page, number) if "Traceback" in line]
    assert page.code == 0
