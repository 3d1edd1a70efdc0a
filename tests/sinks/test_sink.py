"""The sink as a whole, over real sockets: what arrives is stored, what is lost is told, what is hostile is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import bson
import pytest
import zmq

from eventstorm.errors import SettingError
from eventstorm.wire import Header, Message, decode_message, encode_message
from eventstorm_sinks.batch import StreamKey
from eventstorm_sinks.ledger import Observation
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink
from eventstorm_sinks.write import StoreAccount
from sinks.raw_source import ANY_PORT, Source, documents, row, stored, wait_for


@pytest.fixture
def sink(settings: SinkSettings) -> Iterator[Sink]:
    """A running sink."""
    with Sink(settings) as sink:
        yield sink


@pytest.fixture
def source(sink: Sink) -> Iterator[Source]:
    """A source that the sink listens to."""
    assert sink.ingress
    source = Source(sink.ingress)
    source.wait_for_interest()
    yield source
    source.close()


def test_what_arrives_is_stored_and_what_is_missing_is_counted(sink: Sink, source: Source) -> None:
    """By source and topic, with the place of each loss; a duplicate is stored once."""
    source.send(0, 0)
    source.send(0, 10)
    source.send(0, 10)
    source.send(15, 5, drop=2)
    wait_for(lambda: stored(sink) == 15)
    found = row(sink)
    assert (found.received, found.duplicates, found.lost_source, found.lost_way) == (15, 10, 2, 3)
    assert (found.source.host, found.source.service, found.source.pid) == ("host", "shop", 1)
    [store] = found.stores
    assert (store.stored, store.lost_source, store.lost_way, store.pending) == (15, 2, 3, 0)


def test_losses_are_events_too(sink: Sink, source: Source, settings: SinkSettings) -> None:
    """One a place and second, which name the stream, the place and the reason."""
    source.send(0, 1)
    source.send(4, 1, drop=1)
    wait_for(lambda: stored(sink, "eventstorm.loss") == 2)
    sink.stop()
    found = documents(settings.stores[0], "eventstorm.loss")
    losses = sorted((each["where"], each["reason"], each["count"]) for each in found)
    assert losses == [("source", "dropped", 1), ("way", "gap", 2)]
    assert {each["topic"] for each in found} == {"shop.order"}
    assert {each["source"]["id"] for each in found} == {source.id.hex()}


def test_losses_are_published_too(sink: Sink, source: Source) -> None:
    """Whoever subscribes at the sink's router hears of them, and the sink itself counts them once."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    subscriber.connect(sink.egress)
    subscriber.subscribe(b"eventstorm.loss\0")
    lost = 0

    def heard() -> bool:
        # Until the subscription has reached the sink, there is nobody to publish for.
        nonlocal lost
        lost += 1
        source.send(2 * lost, 1)
        return bool(subscriber.poll(100))

    try:
        wait_for(heard)
        message = decode_message(subscriber.recv_multipart())
    finally:
        subscriber.close(linger=0)
        context.term()
    [event] = message.events()
    assert bson.decode(event.data)["reason"] == "gap"
    assert row(sink, "eventstorm.loss").duplicates == 0


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([b"a\0"], "frames"),
        ([b"a\0", b"", b"", b""], "frames"),
        ([b"A\0", b"", b""], "topic"),
        ([b"a\0", b"\xff" * 100, b""], "header"),
        ([b"a\0", bson.encode({"v": 2}), b""], "version"),
        ([b"a\0", *encode_message("a", Header(b"s" * 12, 0, 0, 2, 0, 0, "", "", 0), b"")[1:]], "payload"),
    ],
)
def test_a_malformed_message_is_counted_and_changes_nothing_else(
    sink: Sink, source: Source, frames: Sequence[bytes], reason: str
) -> None:
    """Whatever it is that is wrong."""
    source.socket.send_multipart(frames)
    source.send(0, 5)
    wait_for(lambda: stored(sink) == 5)
    assert sink.malformed == {reason: 1}


def test_a_message_that_contradicts_itself_is_counted_and_changes_nothing_else(sink: Sink, source: Source) -> None:
    """A jump of 2^62 events, or another topic under the same number."""
    source.send(0, 5)
    source.send(2**62, 5)
    source.send(5, 5, topic="shop.visit")
    source.send(5, 5)
    wait_for(lambda: stored(sink) == 10)
    assert sink.malformed == {"contradiction": 2}
    assert row(sink).lost_way == 0


def test_listeners_get_each_message_and_cannot_break_the_sink(sink: Sink, source: Source) -> None:
    """What they raise is logged."""
    heard: list[tuple[Message, Observation]] = []

    def broken(message: Message, observation: Observation) -> None:
        raise RuntimeError

    sink.add_listener(broken)
    sink.add_listener(lambda message, observation: heard.append((message, observation)))
    source.send(0, 5)
    source.send(3, 5)
    wait_for(lambda: stored(sink) == 8)
    mine = [(message.header.n, observation.new) for message, observation in heard if message.topic == "shop.order"]
    assert mine == [(5, 5), (5, 3)]


def test_only_the_topics_asked_for_are_stored(settings: SinkSettings, tmp_path: Path) -> None:
    """And interest in no others goes to the sources; the sink's own events are no exception."""
    settings = SinkSettings(
        ingress=ANY_PORT, egress=ANY_PORT, embed_router=True, stores=settings.stores, http="", topics=("shop.*",)
    )
    with Sink(settings) as sink:
        assert sink.ingress
        source = Source(sink.ingress)
        source.wait_for_interest(b"shop.")
        source.send(0, 1)
        source.send(3, 1)
        source.send(0, 1, topic="shopping", tid=1)
        wait_for(lambda: stored(sink) == 2)
        source.close()
    assert {each.topic for each in sink.snapshot().rows} == {"shop.order"}
    assert source.interest == {b"shop."}


def test_a_sink_that_leaves_receives_what_was_under_way(
    settings: SinkSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes back its interest first, and then takes what its router had already passed on."""
    may_go_on = threading.Event()

    def decode_late(frames: Sequence[bytes]) -> Message:
        may_go_on.wait(30)
        return decode_message(frames)

    monkeypatch.setattr("eventstorm_sinks.receive.decode_message", decode_late)
    with Sink(settings) as sink, zmq.Context() as context, context.socket(zmq.SUB) as witness:
        assert sink.ingress
        assert sink.egress
        witness.rcvtimeo = 30_000  # milliseconds
        witness.connect(sink.egress)
        witness.subscribe(b"shop.")
        source = Source(sink.ingress)
        source.wait_for_interest()
        source.wait_for_interest(b"shop.")
        for seq in range(0, 10_000, 10):
            source.send(seq, 10)
        while decode_message(witness.recv_multipart()).header.seq < 9_990:
            pass
        threading.Timer(0.3, may_go_on.set).start()
    assert stored(sink) == 10_000
    source.close()


def test_a_restarted_sink_goes_on_where_it_was(settings: SinkSettings) -> None:
    """What came meanwhile is told as lost on the way."""
    source_id = b""
    for start, stop in ((0, 10), (25, 30)):
        with Sink(settings) as sink:
            assert sink.ingress
            source = Source(sink.ingress)
            source.id = source_id = source_id or source.id
            source.wait_for_interest()
            source.send(start, stop - start)
            wait_for(lambda: (found := row(sink)) and found.received and not found.stores[0].pending)
            source.close()
    found = row(sink)
    assert (found.received, found.lost_way) == (5, 15)
    assert (found.stores[0].stored, found.stores[0].lost_way) == (15, 15)


def test_addresses_that_others_reach_are_refused(settings: SinkSettings) -> None:
    """Unless the user insists."""
    with pytest.raises(SettingError, match=r"sink\.egress.*--insecure"):
        Sink(SinkSettings(embed_router=True, egress="tcp://0.0.0.0:0", stores=settings.stores, http=""))


def test_the_ledger_can_be_asked_while_a_stream_that_it_summed_up_still_waits(
    sink: Sink, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such numbers of sources are more than it keeps apart, and nothing tells their topic before they are stored."""
    source.send(0, 1)
    wait_for(lambda: stored(sink) == 1)
    accounts = {**sink.writers[0].accounts(), StreamKey(b"summed up   ", 0): StoreAccount(None, 5, 0)}
    monkeypatch.setattr(sink.writers[0], "accounts", lambda: accounts)
    assert [found.topic for found in sink.snapshot().rows if found.topic == "shop.order"] == ["shop.order"]
