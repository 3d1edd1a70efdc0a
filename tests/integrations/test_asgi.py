"""The ASGI middleware: requests are hits, WebSocket sessions are events, and nothing else changes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import pickle
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from typing import Any

import anyio.to_thread
import pytest

import eventstorm
import eventstorm.testing
from eventstorm.context import common_fields
from eventstorm_integrations.asgi import EventstormMiddleware
from eventstorm_integrations.http import HttpSettings
from integrations.asgi_server import Served, scope_of, serve, serve_async, socket_of
from integrations.recorded import Recorded

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def sending(*messages: dict[str, Any]) -> Callable[..., Any]:
    """Return an application that sends these."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for each in messages:
            await send(each)

    return app


def body(content: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


hello = sending(START, body(b"hello"))


def served_by(recorded: Recorded, app: Callable[..., Any], scope: Any = None, **arguments: Any) -> Served:
    return serve(EventstormMiddleware(app, HttpSettings(), source=recorded), scope, **arguments)


def test_a_scope_can_be_copied_and_pickled(recorded: Recorded) -> None:
    copies: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        copies.extend([copy.deepcopy(scope), copy.copy(scope), pickle.loads(pickle.dumps(scope))])
        await served_by_inner(copies[0], receive, send)

    served_by_inner = EventstormMiddleware(hello, HttpSettings(), source=recorded)
    served_by(recorded, app, scope_of(extensions={}))

    assert recorded.hit()["http"]["response"]["body"]["size"] == 5
    assert [each["path"] for each in copies] == ["/", "/", "/"]


def test_servers_are_returned_what_applications_return(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> Any:
        await hello(scope, receive, send)
        return "wrong, which is the server's to say"

    assert served_by(recorded, app).returned == "wrong, which is the server's to say"


def test_a_request_is_one_hit_with_the_names_of_opentelemetry(recorded: Recorded) -> None:
    scope = scope_of(
        method="POST",
        path="/shop/item/7",
        query_string=b"page=2",
        scheme="https",
        http_version="2",
        headers=[(b"host", b"shop.example"), (b"user-agent", b"curl/8.0"), (b"content-length", b"11")],
    )

    served = served_by(recorded, hello, scope)
    hit = recorded.hit()

    assert served.body == b"hello"
    assert hit.pop("duration") >= hit.pop("time_to_first_byte") > 0
    assert len(hit.pop("trace_id")) == 32
    assert len(hit.pop("span_id")) == 16
    assert hit == {
        "http": {
            "request": {"method": "POST", "body": {"size": 11}},
            "response": {"status_code": 200, "body": {"size": 5}},
        },
        "url": {"path": "/shop/item/7", "query": "page=2", "scheme": "https"},
        "server": {"address": "shop.example", "port": 443},
        "network": {"protocol": {"version": "2"}},
        "client": {"address": "192.0.2.7"},
        "user_agent": {"original": "curl/8.0"},
    }


def test_events_go_to_the_sdk_by_default() -> None:
    with eventstorm.testing.capture_events() as events:
        serve(EventstormMiddleware(hello))

    assert [hit["http"]["response"]["status_code"] for hit in events.of("http.hit")] == [200]


def test_a_stream_is_counted_to_its_end(recorded: Recorded) -> None:
    app = sending(START, body(b"", True), body(b"ab", True), body(b"cde", True), body(b""))

    assert served_by(recorded, app).body == b"abcde"
    assert recorded.hit()["http"]["response"]["body"]["size"] == 5


def test_a_request_without_length_is_counted_as_it_is_read(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    parts = [{"type": "http.request", "body": b"x" * 10, "more_body": more} for more in (True, True, False)]
    served_by(recorded, app, incoming=parts)

    assert recorded.hit()["http"]["request"]["body"]["size"] == 30


def test_work_in_the_background_is_not_part_of_the_duration(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        await asyncio.sleep(0.05)  # what takes time in the background

    began = time.time()
    served_by(recorded, app)
    hit = recorded.hit()

    assert hit["background"]["duration"] >= 0.045
    assert hit["duration"] + hit["background"]["duration"] <= time.time() - began
    assert recorded.events[0][2] <= time.time() - 0.045, "the event is of the response's end"


def test_an_exception_in_the_background_is_one_of_the_background(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        raise LookupError("mail")

    assert isinstance(served_by(recorded, app).error, LookupError)
    assert recorded.hit()["background"]["error"] == {"type": "LookupError"}
    assert "error" not in recorded.hit()


def test_an_exception_that_a_framework_has_answered_with_a_500_is_the_responses(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send(body(b"sorry"))
        raise LookupError("no view")

    assert isinstance(served_by(recorded, app).error, LookupError)
    assert recorded.hit()["error"] == {"type": "LookupError"}
    assert "background" not in recorded.hit()


def test_an_exception_before_the_response_is_a_500(recorded: Recorded) -> None:
    error = LookupError("no view")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    assert served_by(recorded, app).error is error
    assert recorded.hit()["error"] == {"type": "LookupError"}
    assert recorded.hit()["http"]["response"]["status_code"] == 500


def test_an_exception_amid_the_body_leaves_the_status_that_was_sent(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"abc", True))
        raise LookupError("no more")

    assert isinstance(served_by(recorded, app).error, LookupError)
    assert recorded.hit()["error"] == {"type": "LookupError"}
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 3}}


def test_cancellation_passes_through_and_is_told(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await asyncio.Event().wait()

    async def main() -> None:
        middleware = EventstormMiddleware(app, HttpSettings(), source=recorded)
        started = asyncio.Event()

        async def send(message: Any) -> None:
            started.set()

        task = asyncio.create_task(middleware(scope_of(), asyncio.Event().wait, send))  # type: ignore[arg-type]
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert recorded.hit()["error"]["type"].endswith("CancelledError")
    assert recorded.hit()["http"]["response"]["status_code"] == 200


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_passes_through(kind: type[BaseException], recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise kind

    assert type(served_by(recorded, app).error) is kind
    assert recorded.hit()["error"] == {"type": kind.__name__}
    assert "status_code" not in recorded.hit()["http"]["response"], "nobody knows what the server sends then"


def test_a_client_that_disconnects_before_the_end_is_told(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"abc", True))
        while (await receive())["type"] != "http.disconnect":
            pass

    served_by(recorded, app)

    assert recorded.hit()["error"] == {"type": "http.disconnect"}
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 3}}


def test_a_disconnect_after_the_end_is_none(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        while (await receive())["type"] != "http.disconnect":
            pass

    served_by(recorded, app)

    assert "error" not in recorded.hit()


def test_a_server_that_cannot_send_is_told(recorded: Recorded) -> None:
    error = OSError("the client is gone")

    served = served_by(recorded, hello, send_error=error, sends=1)

    assert served.error is error
    assert recorded.hit()["error"] == {"type": "OSError"}
    assert recorded.hit()["http"]["response"]["body"]["size"] == 0


def test_no_response_at_all_is_what_servers_make_of_it(recorded: Recorded) -> None:
    served_by(recorded, sending())

    assert recorded.hit()["error"] == {"type": "no_response"}
    assert recorded.hit()["http"]["response"]["status_code"] == 500


def test_an_incomplete_response_is_told(recorded: Recorded) -> None:
    served_by(recorded, sending(START, body(b"a", True)))

    assert recorded.hit()["error"] == {"type": "incomplete_response"}


def test_trailers_end_the_response(recorded: Recorded) -> None:
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    app = sending({**START, "trailers": True}, body(b"abc"), {**trailers, "more_trailers": True}, trailers)

    served = served_by(recorded, app)

    assert served.error is None
    assert [each["type"] for each in served.messages][2:] == ["http.response.trailers"] * 2
    assert "error" not in recorded.hit()
    assert recorded.hit()["http"]["response"]["body"]["size"] == 3


def test_a_path_that_the_server_sends_has_the_announced_length(recorded: Recorded) -> None:
    start = {**START, "headers": [(b"Content-Length", b"7")]}
    path = {"type": "http.response.pathsend", "path": "/srv/file"}

    served = served_by(recorded, sending(start, path))

    assert served.messages == [start, path]
    assert served.messages[1] is path
    assert recorded.hit()["http"]["response"]["body"]["size"] == 7
    assert "error" not in recorded.hit()


TRAILERS = {"type": "http.response.trailers", "headers": []}


@pytest.mark.parametrize(
    "messages",
    [
        [body(b"abc")],
        [{"type": "http.response.pathsend", "path": "/srv/file"}],
        [{"type": "http.response.zerocopysend", "file": 3, "count": 3}],
        [body(b"abc"), {**TRAILERS, "more_trailers": True}],
    ],
)
def test_a_response_is_not_over_before_its_last_trailers(messages: list[Any], recorded: Recorded) -> None:
    served_by(recorded, sending({**START, "trailers": True}, *messages))

    assert recorded.hit()["error"] == {"type": "incomplete_response"}


def test_a_file_that_the_server_copies_by_itself_is_counted(recorded: Recorded) -> None:
    copy = {"type": "http.response.zerocopysend", "file": 3, "count": 5}

    served_by(recorded, sending(START, {**copy, "more_body": True}, copy))

    assert recorded.hit()["http"]["response"]["body"]["size"] == 10
    assert "error" not in recorded.hit()


def test_what_the_server_refuses_is_not_told(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for wrong in (body(b"too early", True), START, {**START, "status": 500}):
            with contextlib.suppress(RuntimeError):
                await send(wrong)
        await send(body(b"abc"))
        with contextlib.suppress(RuntimeError):
            await send(body(b"too late"))

    served_by(recorded, app)

    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 3}}


def test_what_comes_after_the_end_does_not_count_though_a_server_lets_it_pass(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, body(b"abc"), body(b"more")):
            await send(message)

    async def send(message: Any) -> None: ...

    asyncio.run(EventstormMiddleware(app, HttpSettings(), source=recorded)(scope_of(), asyncio.Event().wait, send))  # type: ignore[arg-type]

    assert recorded.hit()["http"]["response"]["body"]["size"] == 3


def test_a_scope_changed_by_the_application_is_recorded_as_it_came(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path"], scope["client"] = "/there", ("203.0.113.9", 5)
        await hello(scope, receive, send)

    served_by(recorded, app, scope_of(path="/mounted/there"))

    assert recorded.hit()["url"]["path"] == "/mounted/there"
    assert recorded.hit()["client"]["address"] == "192.0.2.7"


def test_what_a_scope_held_is_let_go_when_the_request_is_over(recorded: Recorded) -> None:
    class Thing:
        pass

    scope = scope_of(thing=Thing())
    gone = weakref.ref(scope["thing"])
    served_by(recorded, hello, scope)
    del scope["thing"]

    assert gone() is None, "though the scope itself is still there"


def test_early_hints_and_unknown_messages_pass(recorded: Recorded) -> None:
    hint = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]}

    served = served_by(recorded, sending(hint, START, body(b"x")))

    assert served.messages[0]["type"] == "http.response.early_hint"
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 1}}


def test_the_body_of_a_head_request_is_not_sent(recorded: Recorded) -> None:
    served_by(recorded, hello, scope_of(method="HEAD"))

    assert recorded.hit()["http"]["response"]["body"]["size"] == 0


@pytest.mark.parametrize("kind", ["lifespan", "telegram", None])
def test_other_scopes_are_left_alone(kind: str | None, recorded: Recorded) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([dict(scope), receive, send])

    async def main() -> None:
        scope: dict[str, Any] = {"asgi": {}} if kind is None else {"type": kind}
        await EventstormMiddleware(app, HttpSettings(), source=recorded)(scope, receive, send)
        assert seen == [scope, receive, send]

    async def receive() -> dict[str, Any]:
        return {}

    async def send(message: Any) -> None: ...

    asyncio.run(main())

    assert not recorded.events


def test_server_and_client_may_be_unknown(recorded: Recorded) -> None:
    served_by(recorded, hello, scope_of(client=None, server=None, headers=[]))
    served_by(recorded, hello, {**scope_of(headers=[]), "client": None, "server": None})
    served_by(recorded, hello, scope_of(client=["", 0], server=["/run/app.sock", None], headers=[]))

    assert all("client" not in hit for hit in recorded.of("http.hit"))
    assert recorded.of("http.hit")[2]["server"]["address"] == "/run/app.sock"


def test_only_what_the_standard_asks_for_is_needed(recorded: Recorded) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}

    assert served_by(recorded, hello, scope).body == b"hello"
    assert recorded.hit()["http"]["response"]["status_code"] == 200


@pytest.mark.parametrize("path", ["/caf\u00e9", "/\udcff\udcfe", "/" + "x" * 100_000, "/a\0b"])
def test_a_path_of_any_bytes_is_a_text(path: str, recorded: Recorded) -> None:
    served_by(recorded, hello, scope_of(path=path))

    assert recorded.hit()["url"]["path"] == path.replace("\udcff\udcfe", "\ufffd\ufffd")[:4096]


def test_headers_of_any_bytes_and_size_do_no_harm(recorded: Recorded) -> None:
    names = (b"host", b"user-agent", b"traceparent", b"content-length", b"\xff")
    scope = scope_of(query_string=b"\xff=%zz&" * 10_000, headers=[(name, b"\xff\0" * 50_000) for name in names])

    assert served_by(recorded, hello, scope).body == b"hello"
    assert recorded.hit()["url"]["query"].startswith("\ufffd=%zz")


def test_headers_that_can_be_read_once_are_left_to_the_application(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert list(scope["headers"]) == [(b"host", b"shop.example")]
        await hello(scope, receive, send)

    assert served_by(recorded, app, scope_of(headers=iter([(b"host", b"shop.example")]))).error is None
    assert recorded.hit()["server"]["address"] == "127.0.0.1"


def test_malformed_headers_are_served_though_not_recorded(recorded: Recorded, expected_faults: set[str]) -> None:
    expected_faults.add("http.fault")

    assert served_by(recorded, hello, scope_of(headers=[(b"one",)])).body == b"hello"


def test_a_mounted_application_is_part_of_the_same_request(recorded: Recorded) -> None:
    inner = Recorded()
    mounted = EventstormMiddleware(hello, HttpSettings(), source=inner)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await mounted({**scope, "root_path": "/mounted"}, receive, send)

    served_by(recorded, app, scope_of(path="/mounted/there"))

    assert recorded.hit()["url"]["path"] == "/mounted/there"
    assert not inner.events


def test_what_the_application_writes_into_the_scope_is_seen_outside(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["endpoint"] = "found"
        await hello(scope, receive, send)

    scope = scope_of()
    served_by(recorded, app, scope)

    assert scope["endpoint"] == "found"


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


def test_a_scope_that_is_served_again_is_another_request(recorded: Recorded) -> None:
    scope = scope_of()

    served_by(recorded, hello, scope)
    served_by(recorded, hello, scope)

    assert len({hit["trace_id"] for hit in recorded.of("http.hit")}) == 2


@pytest.mark.parametrize(("status", "code"), [(HTTPStatus.NOT_FOUND, 404), (10**30, None), (-1, None), ("200", None)])
def test_a_status_is_a_number_that_a_status_can_be(status: Any, code: int | None, recorded: Recorded) -> None:
    served_by(recorded, sending({**START, "status": status}, body(b"x")))

    assert recorded.hit()["http"]["response"].get("status_code") == code


def test_nothing_is_built_that_nobody_listens_to_and_the_trace_is_there() -> None:
    deaf, seen = Recorded(wanted=False), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(common_fields.get())
        await hello(scope, receive, send)

    assert served_by(deaf, app).body == b"hello"
    assert not deaf.events
    assert seen[0] is not None
    assert set(seen[0]) == {"trace_id", "span_id"}


def test_a_websocket_session_is_one_event(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": "chat"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": f"echo: {message.get('text')}"})
        assert message["code"] == 1001

    incoming = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "h\u00e9"},
        {"type": "websocket.receive", "bytes": b"1234"},
        {"type": "websocket.disconnect", "code": 1001},
    ]
    served = served_by(recorded, app, socket_of(path="/chat"), incoming=incoming)
    (event,) = recorded.of("websocket.session")

    assert served.error is None
    assert event["websocket"] == {
        "received": {"messages": 2, "bytes": 7},
        "sent": {"messages": 2, "bytes": len("echo: h\u00e9".encode()) + len("echo: None")},
        "close": {"by": "client", "code": 1001},
        "subprotocol": "chat",
    }
    assert event["http"] == {"request": {}, "response": {"status_code": 101}}
    assert event["url"] == {"path": "/chat", "scheme": "ws"}
    assert event["duration"] > 0
    assert not recorded.of("http.hit")


def test_a_websocket_that_the_application_closes_is_told(recorded: Recorded) -> None:
    app = sending({"type": "websocket.accept"}, {"type": "websocket.close", "code": 4000})

    served_by(recorded, app, socket_of())

    assert recorded.of("websocket.session")[0]["websocket"]["close"] == {"by": "server", "code": 4000}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "websocket.close"}], 403),
        ([{"type": "websocket.http.response.start", "status": 401, "headers": []}], 401),
    ],
)
def test_a_refused_websocket_has_its_status(messages: list[Any], status: int, recorded: Recorded) -> None:
    served_by(recorded, sending(*messages), socket_of())
    (event,) = recorded.of("websocket.session")

    assert event["http"]["response"]["status_code"] == status
    assert "close" not in event["websocket"]


@pytest.mark.parametrize(
    ("closed", "left", "told"),
    [
        ({"type": "websocket.close"}, {"type": "websocket.disconnect", "code": 1006}, {"by": "server", "code": 1000}),
        (None, {"type": "websocket.disconnect"}, {"by": "client", "code": 1005}),
        (None, {"type": "websocket.disconnect", "code": 1001}, {"by": "client", "code": 1001}),
    ],
)
def test_who_closes_a_websocket_first_is_told(closed: Any, left: Any, told: Any, recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        if closed is not None:
            await send(closed)
        await receive()
        with contextlib.suppress(RuntimeError):
            await send({"type": "websocket.close", "code": 4000})

    served_by(recorded, app, socket_of(), incoming=[left])

    assert recorded.of("websocket.session")[0]["websocket"]["close"] == told


def test_a_text_that_is_not_whole_is_counted_nevertheless(recorded: Recorded) -> None:
    served_by(
        recorded, sending({"type": "websocket.accept"}, {"type": "websocket.send", "text": "\ud800"}), socket_of()
    )

    assert recorded.of("websocket.session")[0]["websocket"]["sent"] == {"messages": 1, "bytes": 3}


def test_an_exception_in_a_session_passes_through_and_is_told(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise LookupError("no room")

    assert isinstance(served_by(recorded, app, socket_of()).error, LookupError)
    assert recorded.of("websocket.session")[0]["error"] == {"type": "LookupError"}
    assert recorded.of("websocket.session")[0]["http"]["response"]["status_code"] == 101


def test_a_fault_of_our_own_reaches_nobody(recorded: Recorded, expected_faults: set[str]) -> None:
    expected_faults.add("http.fault")

    assert served_by(recorded, hello, scope_of(path=7)).body == b"hello"
    assert not recorded.events


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
