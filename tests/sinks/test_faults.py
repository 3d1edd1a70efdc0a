"""The ledger under real faults of real processes: at the end, of every source and topic, emitted = stored + lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from eventstorm_sinks.batch import Batch, Book, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink
from eventstorm_sinks.stores.jsonl import JsonlStore
from sinks.rig import Rig, check, wait_for


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Nothing started yet."""
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_nothing_is_lost_in_a_normal_run(rig: Rig) -> None:
    """All that was emitted is stored."""
    router, sink = rig.router(), rig.sink()
    figures = rig.finish(rig.source())
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    rig.end(router, signal.SIGTERM)
    books = rig.books()
    check(books, figures)
    assert {topic: book.stored for (_, topic), book in books.items()} == {"test.a": 20_001, "test.b": 2_000}
    assert not any(book.lost_way for book in books.values())


def test_a_router_that_is_killed_loses_only_what_is_counted(rig: Rig) -> None:
    """Sources and sink find the next one by themselves."""
    router, sink = rig.router(), rig.sink()
    source = rig.source(rounds=40_000)
    source.wait_for('"at": 5000')
    rig.end(router, signal.SIGKILL)
    source.wait_for('"at": 10000')
    rig.router()
    told = dict(rig.said)
    wait_for(lambda: any(rig.said[key] > seq for key, seq in told.items()), "events through the second router")
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    check(rig.books(), figures)


def test_a_sink_that_was_stopped_for_ten_seconds_accounts_for_them(rig: Rig) -> None:
    """What no queue could hold meanwhile is lost on the way."""
    rig.router("--hwm", "10")
    sink = rig.sink()
    source = rig.source(rounds=22_000, pause_s=0.05, size=2000)
    source.wait_for('"at": 1000')
    sink.send(signal.SIGSTOP)
    stopped_s = time.monotonic()
    wait_for(lambda: time.monotonic() > stopped_s + 10, "ten seconds to pass")
    sink.send(signal.SIGCONT)
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    books = rig.books()
    check(books, figures)
    assert sum(book.lost_way for book in books.values()) > 0


def test_a_sink_that_is_killed_goes_on_from_its_books(rig: Rig) -> None:
    """What it had received but not committed, and what came meanwhile, is lost on the way."""
    rig.router()
    sink = rig.sink()
    source = rig.source(rounds=40_000)
    # Of a stream that it had never committed anything of, a new sink cannot know where the old one began to listen.
    wait_for(lambda: "test.b" in rig.journal.read_text("utf-8"), "a first commit")
    rig.end(sink, signal.SIGKILL)
    at = len(source.lines)
    wait_for(lambda: len(source.lines) > at + 20, "events while there is no sink")
    sink = rig.sink()
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    books = rig.books()
    check(books, figures)
    assert sum(book.lost_way for book in books.values()) > 0


def test_of_a_source_that_is_killed_all_is_known_up_to_its_last_heartbeat(rig: Rig) -> None:
    """What it had not sent yet, nobody knows of."""
    rig.router()
    sink = rig.sink()
    source = rig.source(rounds=10**9)
    source.wait_for('"at": 10000')
    rig.end(source, signal.SIGKILL)
    said: dict[StreamKey, int] = {}

    def is_quiet() -> bool:
        before = dict(said)
        said.update(rig.said)
        return said == before

    wait_for(is_quiet, "the last of its messages")
    rig.end(sink, signal.SIGTERM)
    books = rig.books()
    told = {(key.source_id.hex(), rig.topics[key]): seq for key, seq in rig.said.items()}
    assert {stream: book.next_seq for stream, book in books.items()} == told
    assert not any(book.first_seq or book.closed for book in books.values())


def test_forked_workers_are_sources_of_their_own(rig: Rig) -> None:
    """Each of the four, and the parent, has its own numbers."""
    rig.router()
    sink = rig.sink()
    figures = rig.finish(rig.source(rounds=5000, workers=4))
    assert len({source for source, _ in figures}) == 5
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    check(rig.books(), figures)


def test_what_a_full_buffer_drops_is_lost_in_the_source(rig: Rig) -> None:
    """And counted there, by the source as by the sink."""
    rig.router()
    sink = rig.sink()
    figures = rig.finish(rig.source(rounds=20_000, pause_s=0, size=2000, EVENTSTORM_BUFFER_BYTES=str(2**20)))
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    books = rig.books()
    check(books, figures)
    assert sum(counts["buffer_full"] for counts in figures.values()) > 0


class _Refusing(JsonlStore):
    """Refuses the events numbered 100 to 119, 1100 to 1119, and so on, whatever they come with."""

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        for batch in batches:
            for event in batch.events:
                if event.seq % 1000 in range(100, 120):
                    raise ValueError("a number that this store does not like")
        super().write(batches, books, forget)


def test_what_a_store_refuses_is_counted_and_the_rest_is_stored(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that cannot hold some events loses these, and no others."""
    location = str(tmp_path / "events.jsonl")
    monkeypatch.setattr("eventstorm_sinks.sink.open_store", lambda url, settings: _Refusing(location, settings))
    settings = SinkSettings(
        ingress=rig.ingress, egress=rig.egress, embed_router=True, topics=("test.",), stores=(rig.store,), http=""
    )
    with Sink(settings):
        figures = rig.finish(rig.source())
        rig.wait_until_told(figures)
    books = rig.books()
    check(books, figures)
    for (_, topic), book in books.items():
        emitted = 20_001 if topic == "test.a" else 2_000
        refused = sum(number % 1000 in range(100, 120) for number in range(emitted))
        assert (book.stored, book.refused) == (emitted - refused, refused)
