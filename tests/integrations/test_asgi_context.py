"""The ASGI middleware among tasks, threads and contexts: what a request carries, and what is let go after it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio.to_thread

import eventstorm
import eventstorm.testing
from eventstorm.context import common_fields
from eventstorm_integrations.asgi import EventstormMiddleware
from eventstorm_integrations.http import HttpSettings
from integrations.asgi_apps import START, body, hello, served_by
from integrations.asgi_server import Served, scope_of, serve, serve_async
from integrations.recorded import Recorded


def test_what_a_scope_held_is_let_go_when_the_request_is_over(recorded: Recorded) -> None:
    class Thing:
        pass

    scope = scope_of(thing=Thing())
    gone = weakref.ref(scope["thing"])
    served_by(recorded, hello, scope)
    del scope["thing"]

    assert gone() is None, "though the scope itself is still there"


def test_requests_at_once_do_not_mix(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for step in range(5):
            await asyncio.sleep(0)
            fields = common_fields.get()
            assert fields is not None
            await send(body((scope["path"] + fields["trace_id"]).encode(), step < 4))

    async def main() -> list[Served]:
        middleware = EventstormMiddleware(app, HttpSettings(), source=recorded)
        return await asyncio.gather(*(serve_async(middleware, scope_of(path=f"/{index}")) for index in range(20)))

    served = asyncio.run(main())

    hits = {hit["url"]["path"] + hit["trace_id"] for hit in recorded.of("http.hit")}
    assert len(hits) == 20
    assert {message["body"].decode() for each in served for message in each.messages[1:]} == hits
    assert len({hit["http"]["response"]["body"]["size"] for hit in recorded.of("http.hit")}) == 2


def test_tasks_and_threads_of_the_request_carry_its_trace(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        eventstorm.emit("shop.view")
        await asyncio.create_task(_emit("shop.task"))
        await asyncio.to_thread(eventstorm.emit, "shop.thread")
        await anyio.to_thread.run_sync(eventstorm.emit, "shop.anyio")
        await hello(scope, receive, send)
        eventstorm.emit("shop.background")

    async def main() -> None:
        await serve_async(EventstormMiddleware(app, HttpSettings()))
        eventstorm.emit("server.after")

    with eventstorm.testing.capture_events() as events:
        asyncio.run(main())
        trace = events.of("http.hit")[0]["trace_id"]

    for topic in ("shop.view", "shop.task", "shop.thread", "shop.anyio", "shop.background"):
        assert events.of(topic)[0]["trace_id"] == trace
    assert events.of("server.after") == [{}]


async def _emit(topic: str) -> None:
    eventstorm.emit(topic)


def test_a_coroutine_that_is_driven_in_several_contexts_ends_well(recorded: Recorded) -> None:
    # As some test frameworks and servers do it: each step in another context, where a token would be of no use.
    async def send(message: Any) -> None:
        await _Pause()

    async def receive() -> Any:
        return {}

    app = EventstormMiddleware(hello, HttpSettings(), source=recorded)
    coroutine = app(scope_of(), receive, send)
    steps = 0
    with contextlib.suppress(StopIteration):
        while True:
            contextvars.Context().run(coroutine.send, None)
            steps += 1

    assert steps == 2
    assert recorded.hit()["http"]["response"]["body"]["size"] == 5


class _Pause:
    def __await__(self) -> Iterator[None]:
        yield


def test_neither_application_nor_request_is_kept_alive(recorded: Recorded) -> None:
    class App:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            self_contained.append(weakref.ref(scope["thing"]))
            await hello(scope, receive, send)

    class Thing:
        pass

    self_contained: list[weakref.ref[Any]] = []
    app = App()
    gone = weakref.ref(app)

    async def main() -> None:
        nonlocal app
        scope = scope_of(thing=Thing())
        middleware = EventstormMiddleware(app, HttpSettings(), source=recorded)
        del app
        await serve_async(middleware, scope)
        del middleware
        assert gone() is None
        scope.clear()
        assert self_contained[0]() is None

    gc.disable()  # no cycle is made that only the collector would free
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_a_generator_of_the_application_may_hold_the_context(recorded: Recorded) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            fields = common_fields.get()
            yield str(fields and fields["trace_id"]).encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        async for chunk in chunks():
            await send(body(chunk, True))
        await send(body(b""))

    served = served_by(recorded, app)

    assert {each["body"].decode() for each in served.messages[1:4]} == {recorded.hit()["trace_id"]}


def test_threads_may_share_the_instance(recorded: Recorded) -> None:
    app = EventstormMiddleware(hello, HttpSettings(), source=recorded)
    threads = [threading.Thread(target=serve, args=(app, scope_of(path=f"/{index}"))) for index in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)

    assert {hit["url"]["path"] for hit in recorded.of("http.hit")} == {"/0", "/1", "/2", "/3"}


def test_a_program_that_compares_contexts_sees_no_variable_come(recorded: Recorded) -> None:
    """As uvicorn's own tests do."""
    before, during = set(contextvars.copy_context()), []

    async def comparing(scope: Any, receive: Any, send: Any) -> None:
        during.append(set(contextvars.copy_context()))
        await hello(scope, receive, send)

    served_by(recorded, comparing)

    assert during == [before]
