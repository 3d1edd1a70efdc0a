"""The stores of a sink: one that hangs harms no other, and what cannot be opened is told."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventstorm.errors import SettingError, StartError
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink
from eventstorm_sinks.stores import open_store, redacted
from sinks.raw_source import ANY_PORT, Source, documents, row, wait_for


def hold_up(hanging: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let each write into the store of a URL hang until what is returned is set."""
    goes_on = threading.Event()

    def open_hanging(url: str, settings: SinkSettings) -> Any:
        store = open_store(url, settings)
        if url == hanging:
            write = store.write
            monkeypatch.setattr(store, "write", lambda *given: (goes_on.wait(60), write(*given))[1])
        return store

    monkeypatch.setattr("eventstorm_sinks.sink.open_store", open_hanging)
    return goes_on


def test_one_store_that_hangs_does_not_hold_up_another(
    settings: SinkSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own queue."""
    good, bad = settings.stores[0], f"jsonl:{tmp_path / 'bad.jsonl'}"
    goes_on = hold_up(bad, monkeypatch)
    both = SinkSettings(ingress=ANY_PORT, egress=ANY_PORT, embed_router=True, stores=(bad, good), http="")
    with Sink(both) as sink:
        assert sink.ingress
        source = Source(sink.ingress)
        source.wait_for_interest()
        source.send(0, 1)
        wait_for(lambda: row(sink) and row(sink).stores[1].stored == 1)
        assert row(sink).stores[0].stored == 0
        goes_on.set()
        source.close()


@pytest.mark.parametrize("drop", ["newest", "oldest"])
def test_what_a_hanging_store_loses_another_has(
    settings: SinkSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drop: str
) -> None:
    """The queue of the one overflows, by the policy that was asked for, and is counted; the other has everything."""
    good, bad = settings.stores[0], f"jsonl:{tmp_path / 'bad.jsonl'}"
    goes_on = hold_up(bad, monkeypatch)
    with Sink(replace(settings, stores=(bad, good), queue_bytes=2**19, queue_drop=drop)) as sink:
        assert sink.ingress
        source = Source(sink.ingress)
        source.wait_for_interest()
        source.send(0, 1)
        wait_for(lambda: sink.writers[0].stats().writing_s > 0)
        for first in range(1, 20_001, 5000):
            for seq in range(first, first + 5000, 100):
                source.send(seq, 100)
            # What the other store has not taken yet always fits its queue. Losses are events too, of another topic.
            wait_for(lambda first=first: row(sink).stores[1].stored == first + 5000)
        goes_on.set()
        wait_for(lambda: not row(sink).stores[0].pending)
        found = row(sink)
        overflowed = found.stores[0].overflowed
        assert 0 < overflowed < 20_000
        assert [each.stored for each in found.stores] == [20_001 - overflowed, 20_001]
        assert [each.overflowed for each in found.stores] == [overflowed, 0]
        assert [each.lost_way for each in found.stores] == [0, 0]
        source.close()
    assert (20_000 in {each["number"] for each in documents(bad, "shop.order")}) == (drop == "oldest")


def test_passwords_do_not_show() -> None:
    """In logs, events, pages."""
    assert redacted("mongodb://me:secret@host/db") == "mongodb://me:***@host/db"
    assert redacted("mongodb://me:se/cr@et@host/db") == "mongodb://me:***@host/db"
    assert redacted("mongodb://h/d?tlsCertificateKeyFilePassword=a&tls=true") == (
        "mongodb://h/d?tlsCertificateKeyFilePassword=***&tls=true"
    )
    assert redacted("duckdb:events.duckdb") == "duckdb:events.duckdb"


def test_a_sink_that_cannot_start_leaves_nothing_behind(settings: SinkSettings) -> None:
    """Its stores are free again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        sink = Sink(SinkSettings(embed_router=True, ingress=busy, egress=ANY_PORT, stores=settings.stores, http=""))
        with pytest.raises(StartError, match="in use"):
            sink.start()
    open_store(settings.stores[0], settings).close()


def test_a_store_that_hangs_does_not_hold_up_the_stop(
    settings: SinkSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left behind, and named."""
    let_go = threading.Event()
    monkeypatch.setattr("eventstorm_sinks.sink.CLOSE_S", 0.2)
    with Sink(settings) as sink:
        close = sink.writers[0].store.close

        def hang() -> None:
            let_go.wait(30)
            close()

        monkeypatch.setattr(sink.writers[0].store, "close", hang)
        stop = threading.Thread(target=sink.stop)
        stop.start()
        stop.join(10)
        stopped = not stop.is_alive()
    let_go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("eventstorm-close"):
            thread.join(10)
    assert stopped
    assert "left behind" in caplog.text


def test_a_store_without_a_place_is_told_how_to_be_written() -> None:
    """The kind is right: no other is proposed."""
    with pytest.raises(SettingError, match="'jsonl' has no place; write it as jsonl:PLACE"):
        open_store("jsonl", SinkSettings())
