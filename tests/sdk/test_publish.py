"""From the buffer to the wire: batches, numbers, heartbeats, outages of the router, and the bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import zmq

from eventstorm import Source
from ports import free_port
from sdk.peer import Peer, wait_until


def free_endpoint() -> str:
    """Return an endpoint where nobody listens."""
    return f"tcp://127.0.0.1:{free_port()}"


def test_a_stream_announces_itself_numbers_its_events_and_says_goodbye(source: Source, peer: Peer) -> None:
    for number in range(3):
        source.emit("a.b", n=number)
    source.close()
    wait_until(peer.said_goodbye, "the farewell")
    first, *batches, last = [message.header for message in peer.messages]
    assert (first.seq, first.n, first.drop) == (0, 0, 0)
    assert sum(batch.n for batch in batches) == 3
    assert (last.seq, last.n, last.bye) == (3, 0, True)
    assert peer.numbered() == {(source.id, 0): (3, 0)}


def test_a_batch_goes_when_it_is_large_enough(peer: Peer, source_to: Callable[..., Source]) -> None:
    source = source_to(peer.endpoint, linger_s=3600.0)
    for _ in range(100):
        source.emit("a.b", x=b"x" * 1000)
    wait_until(lambda: peer.count() >= 60, "a batch of 64 KiB")
    assert all(len(message.payload) <= 64 * 1024 for message in peer.messages)


def test_a_batch_goes_when_it_is_old_enough(source: Source, peer: Peer) -> None:
    source.emit("a.b")
    peer.wait_for(1)
    started = time.monotonic()
    source.emit("a.b")
    peer.wait_for(2)
    assert time.monotonic() - started < 1.0  # 20 ms, and what a busy machine adds


def test_where_events_follow_one_another_the_first_of_each_batch_wakes_nobody(
    peer: Peer, source_to: Callable[..., Source]
) -> None:
    source = source_to(peer.endpoint, linger_s=0.3)
    source.emit("a.b")
    peer.wait_for(1)
    wakes, wake = 0, source._emitter._wake

    def counted() -> None:
        nonlocal wakes
        wakes += 1
        wake()

    source._emitter._wake = counted
    for _ in range(100):
        source.emit("a.b")
        time.sleep(0.02)
    peer.wait_for(101)
    batches = [message for message in peer.messages if message.header.n]
    assert len(batches) >= 5
    assert wakes <= len(batches) // 2


def test_heartbeats_tell_the_next_number_while_nothing_is_emitted(peer: Peer, source_to: Callable[..., Source]) -> None:
    source = source_to(peer.endpoint, heartbeat_s=0.05)
    source.emit("a.b")
    wait_until(lambda: len([m for m in peer.messages if m.header.seq == 1 and m.header.n == 0]) >= 2, "heartbeats")


def test_flush_means_that_all_is_handed_over(source: Source, peer: Peer) -> None:
    for _ in range(1000):
        source.emit("a.b")
    assert source.flush(5.0)
    assert source.stats()["sent"] == 1000
    peer.wait_for(1000)


def test_flush_gives_up_when_no_router_answers(source_to: Callable[..., Source]) -> None:
    source = source_to(free_endpoint())
    source.emit("a.b")
    started = time.monotonic()
    assert source.flush(0.1) is False
    assert time.monotonic() - started < 2.0
    assert source.stats()["buffered"] == 1


def test_a_router_that_is_slow_to_subscribe_gets_the_first_events(source_to: Callable[..., Source]) -> None:
    """A program may end before a busy router has passed on its first subscription."""
    with zmq.Context() as context, context.socket(zmq.XSUB) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        router.send(b"\1a.b\0")
        source = source_to(f"tcp://127.0.0.1:{port}")
        source.emit("a.b")
        closing = threading.Thread(target=source.close)
        closing.start()
        # libzmq's thread shakes hands meanwhile, but the subscription waits until the socket's owner looks at it.
        time.sleep(0.3)
        assert router.poll(5_000)
        closing.join()
    assert source.stats()["sent"] == 1


def test_events_of_before_the_first_router_arrive(source_to: Callable[..., Source]) -> None:
    endpoint = free_endpoint()
    source = source_to(endpoint)
    for number in range(10):
        assert source.emit("a.b", n=number)
    with Peer(b"a.", port=int(endpoint.rpartition(":")[2])) as peer:
        assert [event["n"] for event in peer.wait_for(10)] == list(range(10))


def test_events_of_an_outage_arrive_in_order_even_if_the_subscriber_is_back_later_than_the_router(
    source_to: Callable[..., Source],
) -> None:
    with Peer(b"a.") as first:
        source = source_to(first.endpoint)
        source.emit("a.b", n=0)
        first.wait_for(1)
    wait_until(lambda: not source.stats()["connected"], "the loss of the router")
    for number in range(1, 1000):
        assert source.emit("a.b", n=number)
    assert source.flush(0) is False
    with Peer(port=first.port) as second:
        wait_until(lambda: source.stats()["connected"], "the new router")
        second.subscribe(b"a.")
        assert [event["n"] for event in second.wait_for(999)] == list(range(1, 1000))


def test_interest_that_a_restarted_router_does_not_repeat_is_forgotten(source_to: Callable[..., Source]) -> None:
    with Peer(b"a\0", b"b\0") as first:
        source = source_to(first.endpoint)
        source.emit("a")
        first.wait_for(1)
        assert source.wanted("b")
    wait_until(lambda: not source.stats()["connected"], "the loss of the router")
    with Peer(b"b\0", port=first.port):
        wait_until(lambda: not source.wanted("a"), "the end of the grace")
        assert source.wanted("b")


def test_a_later_subscriber_makes_topics_heard_and_its_leaving_unheard(source_to: Callable[..., Source]) -> None:
    with Peer() as peer:
        source = source_to(peer.endpoint)
        source.wanted("debug.sql")
        wait_until(lambda: not source.wanted("debug.sql"), "no interest")
        peer.subscribe(b"debug.")
        wait_until(lambda: source.wanted("debug.sql"), "interest")
        assert not source.wanted("other")
        source.emit("debug.sql")
        peer.wait_for(1)
        peer.unsubscribe(b"debug.")
        wait_until(lambda: not source.wanted("debug.sql"), "the end of the interest")


def test_a_full_buffer_drops_counts_and_tells(source_to: Callable[..., Source]) -> None:
    endpoint = free_endpoint()
    source = source_to(endpoint, buffer_bytes=2**20)
    accepted = sum(source.emit("a.b", n=number, x=b"x" * 1000) for number in range(3000))
    stats = source.stats()
    assert 700 < accepted < 1048
    assert stats["dropped"] == {"buffer_full": 3000 - accepted}
    assert stats["emitted"] == 3000
    assert stats["buffered"] == accepted
    with Peer(b"", port=int(endpoint.rpartition(":")[2])) as peer:
        peer.wait_for(accepted)
        assert list(peer.numbered().values()) == [(3000, 3000 - accepted)]
        wait_until(lambda: source.emit("a.b"), "room")


def test_a_small_buffer_is_not_shut_by_what_has_long_left(peer: Peer, source_to: Callable[..., Source]) -> None:
    source = source_to(peer.endpoint, buffer_bytes=2**20, heartbeat_s=60.0)
    for number in range(30):
        assert source.emit("a.b", x=b"x" * 200_000), number
        assert source.flush(5.0)
    peer.wait_for(30)


def test_the_stats_add_up_for_what_could_not_be_sent(source_to: Callable[..., Source]) -> None:
    source = source_to(free_endpoint())
    for _ in range(5):
        source.emit("a.b")
    source.close(0.05)
    stats = source.stats()
    assert (stats["emitted"], stats["sent"], stats["buffered"]) == (5, 0, 0)
    assert stats["dropped"] == {"unsent": 5}


def test_a_new_configuration_sends_what_was_buffered_under_the_old_one(peer: Peer) -> None:
    from eventstorm.settings import SdkSettings

    with Peer(b"") as other:
        source = Source(SdkSettings(endpoint=peer.endpoint))
        source.emit("a.b", n=1)
        source.configure(SdkSettings(endpoint=other.endpoint))
        source.emit("a.b", n=2)
        source.close()
        assert peer.wait_for(1) == [{"n": 1}]
        assert other.wait_for(1) == [{"n": 2}]
        assert peer.sources().isdisjoint(other.sources())
