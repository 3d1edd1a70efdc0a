"""emit() may be called from anywhere at once: what the peer received and what was counted is what was emitted."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from eventstorm import Source
from eventstorm._system import native
from sdk.peer import Peer, wait_until
from sdk.test_publish import free_endpoint


def _account(source: Source, peer: Peer, emitted: int) -> None:
    """Check that all was received or counted."""
    source.close(10.0)
    wait_until(peer.said_goodbye, "the farewell")
    dropped = source.stats()["dropped"]
    assert set(dropped) <= {"buffer_full"}
    assert peer.count() + dropped.get("buffer_full", 0) == emitted
    numbered = peer.numbered()
    assert sum(numbers for numbers, _ in numbered.values()) == emitted
    assert sum(drops for _, drops in numbered.values()) == dropped.get("buffer_full", 0)


@pytest.mark.parametrize("buffer_bytes", [2**20, 2**24])
def test_64_threads_at_once(peer: Peer, source_to: Callable[..., Source], buffer_bytes: int) -> None:
    source = source_to(peer.endpoint, buffer_bytes=buffer_bytes)
    accepted: list[int] = []
    begin = threading.Barrier(64)

    def work(number: int) -> None:
        begin.wait()
        accepted.append(sum(source.emit(f"t.{n % 5}", thread=number, n=n) for n in range(300)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _account(source, peer, 64 * 300)
    assert sum(accepted) == peer.count()
    if buffer_bytes == 2**24:
        for rest in range(5):
            events = peer.events(f"t.{rest}")
            for number in range(64):
                assert [event["n"] for event in events if event["thread"] == number] == list(range(rest, 300, 5))


def test_a_signal_handler_that_interrupts_emit(source: Source, peer: Peer) -> None:
    handled: list[bool] = []

    def handle(*_: object) -> None:
        handled.append(source.emit("in.handler"))

    before = signal.signal(signal.SIGALRM, handle)
    emitted = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        deadline = time.monotonic() + 15
        while len(handled) < 200 and time.monotonic() < deadline:
            source.emit("in.loop", n=emitted)
            source.emit(f"t{emitted % 500}")
            emitted += 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) >= 200
    _account(source, peer, emitted + len(handled))


def test_a_finalizer_that_the_collector_runs_amid_emit(source: Source, peer: Peer) -> None:
    accepted: list[bool] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            accepted.append(source.emit("in.finalizer"))

    class Items(dict[str, Any]):
        def __iter__(self) -> Any:
            gc.collect()
            return super().__iter__()

    for number in range(100):
        Cycle()
        accepted.append(source.emit(f"t.{number}", Items(a=1), more=[{"b": []}] * 10))
    gc.collect()
    assert accepted == [True] * 200
    _account(source, peer, 200)


def test_a_logging_handler_that_emits_every_record_even_those_of_the_sdk(source: Source, peer: Peer) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            source.emit("log.record", body=record.getMessage())
            source.emit("log.record", body=object())

    handler = Handler()
    logging.getLogger().addHandler(handler)
    try:
        for _ in range(10):
            logging.getLogger("app").warning("hello")
        source.close(5.0)
    finally:
        logging.getLogger().removeHandler(handler)
    wait_until(peer.said_goodbye, "the farewell")
    bodies = [event["body"] for event in peer.events()]
    assert bodies.count("hello") == 10
    assert len(bodies) <= 12


def test_an_event_loop_is_not_held_up_while_no_router_answers(source_to: Callable[..., Source]) -> None:
    source = source_to(free_endpoint(), buffer_bytes=2**20)
    longest = 0.0

    async def main() -> None:
        nonlocal longest
        for _ in range(2000):
            started = time.monotonic()
            source.emit("a.b", x=b"x" * 1000)
            longest = max(longest, time.monotonic() - started)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert longest < 0.2  # a network time-out would be seconds; a busy machine takes the processor away for less
    assert source.stats()["dropped"]["buffer_full"] > 500


def test_a_reconfiguration_amid_emits_mixes_no_topics(peer: Peer) -> None:
    from eventstorm.settings import SdkSettings

    source = Source(SdkSettings(endpoint=peer.endpoint, buffer_bytes=2**20))
    stop = threading.Event()

    def work(name: str) -> None:
        while not stop.is_set():
            source.emit(name, name=name)

    threads = [threading.Thread(target=work, args=(f"t.{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        received = peer.count()
        wait_until(lambda received=received: peer.count() > received, "events")
        source.configure(SdkSettings(endpoint=peer.endpoint, buffer_bytes=2**20))
    stop.set()
    for thread in threads:
        thread.join()
    source.close()
    for number in range(4):
        assert all(event["name"] == f"t.{number}" for event in peer.events(f"t.{number}"))


def test_gevent_that_another_thread_still_imports_has_replaced_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gevent.monkey", types.ModuleType("gevent.monkey"))
    assert native("time", "sleep") is time.sleep
