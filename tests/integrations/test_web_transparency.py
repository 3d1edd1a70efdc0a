"""A server sees of any application, however wrong, exactly what it sees without the middleware, and one hit is made."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from integrations.asgi_server import scope_of, serve_async, socket_of
from integrations.recorded import Recorded
from integrations.wsgi_server import environ_of
from integrations.wsgi_server import serve as serve_wsgi

ERRORS: list[Callable[[], BaseException]] = [
    lambda: ValueError("of the application"),
    lambda: StopIteration("of the application"),
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt(),
    lambda: GeneratorExit(),
    lambda: asyncio.CancelledError("of the application"),
]
# Legal ones, and what no application should hand over.
CHUNKS = st.sampled_from([b"", b"a", b"bcd", b"x" * 1000, "text", None, 7, bytearray(b"yz")])
STATUSES = st.sampled_from(["200 OK", "404", "", "99 bottles", None, 200, b"200 OK"])
HEADERS = st.sampled_from([[], [("Content-Length", "3")], [("A",)], None, [("Content-Length", "many"), (b"b", 3)]])

wsgi_steps = st.lists(
    st.one_of(
        st.tuples(st.just("start"), STATUSES, HEADERS),
        st.tuples(st.just("restart"), STATUSES, HEADERS),
        st.tuples(st.just("start wrongly"), st.integers(0, 3)),
        st.tuples(st.just("write"), CHUNKS),
        st.tuples(st.just("raise"), st.sampled_from(ERRORS)),
    ),
    max_size=5,
)
body_steps = st.lists(
    st.one_of(st.tuples(st.just("chunk"), CHUNKS), st.tuples(st.just("raise"), st.sampled_from(ERRORS)), wsgi_steps),
    max_size=5,
)
RESULTS = st.sampled_from(
    ["list", "tuple", "iterator", "generator", "object", "sized", "file", "wrapped file", "none", "bytes", "number"]
)


class Steps:
    """Does the steps of a test as the application that it stands for."""

    def __init__(self, start_response: Callable[..., Any], log: list[Any]) -> None:
        self.start_response, self.log, self.write = start_response, log, None

    def run(self, steps: Any) -> None:
        for step in steps:
            kind = step[0]
            if kind == "start":
                self.write = self.start_response(step[1], step[2])
            elif kind == "restart":
                try:
                    raise LookupError("replaced")
                except LookupError:
                    self.write = self.start_response(step[1], step[2], sys.exc_info())
            elif kind == "start wrongly":
                try:
                    self.start_response(*range(step[1]), surely="wrong")
                except TypeError as error:
                    self.log.append(str(error))
            elif kind == "write" and self.write is not None:
                self.log.append(self.write(step[1]))
            elif kind == "raise":
                raise step[1]()

    def body(self, steps: Any) -> Iterator[Any]:
        try:
            for step in steps:
                if step and step[0] == "chunk":
                    yield step[1]
                elif step and step[0] == "raise":
                    raise step[1]()
                else:
                    self.run(step)
        finally:
            self.log.append("over")


class Object:
    """An iterable with a close that may fail."""

    def __init__(self, steps: Steps, body: Any, close_error: Any) -> None:
        self.steps, self.body, self.close_error = steps, body, close_error

    def __iter__(self) -> Iterator[Any]:
        return self.steps.body(self.body)

    def close(self) -> None:
        self.steps.log.append("close")
        if self.close_error is not None:
            raise self.close_error()


class Sized(Object):
    def __len__(self) -> int:
        return len(self.body)


def wsgi_application(head: Any, result: str, body: Any, close_error: Any, log: list[Any]) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        steps = Steps(start_response, log)
        steps.run(head)
        chunks = [step[1] for step in body if step and step[0] == "chunk"]
        file = io.BytesIO(b"content of a file")
        kinds: dict[str, Callable[[], Any]] = {
            "list": lambda: chunks,
            "tuple": lambda: tuple(chunks),
            "iterator": lambda: iter(chunks),
            "generator": lambda: steps.body(body),
            "object": lambda: Object(steps, body, close_error),
            "sized": lambda: Sized(steps, body, close_error),
            "file": lambda: file,
            "wrapped file": lambda: environ["wsgi.file_wrapper"](file, 4),
            "none": lambda: None,
            "bytes": lambda: b"bytes",
            "number": lambda: 7,
        }
        return kinds[result]()

    return app


@settings(max_examples=400)
@given(
    head=wsgi_steps,
    result=RESULTS,
    body=body_steps,
    close_error=st.one_of(st.none(), st.sampled_from(ERRORS)),
    take=st.one_of(st.none(), st.integers(0, 3)),
    close=st.integers(0, 2),
    iterate=st.booleans(),
)
def test_a_wsgi_server_sees_the_same(
    head: Any, result: str, body: Any, close_error: Any, take: int | None, close: int, iterate: bool
) -> None:
    def observe(wrap: Callable[[Any], Any]) -> Any:
        log: list[Any] = []
        app = wrap(wsgi_application(head, result, body, close_error, log))
        served = serve_wsgi(app, environ_of(), take=take, close=close, iterate=iterate)
        seen = served.log
        served.result = served.error = None  # what is not closed is finalized now, in both
        return seen, log

    recorded = Recorded()
    bare = observe(lambda app: app)
    wrapped = observe(lambda app: WsgiMiddleware(app, HttpSettings(), source=recorded))
    if not close:
        gc.collect()  # a traceback may hold what is not closed

    assert wrapped == bare
    # A file that a server never closes is the one thing whose end nobody can see.
    assert len(recorded.of("http.hit")) == 1 or (result == "wrapped file" and not close)


MESSAGES = st.sampled_from(
    [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]},
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        {"type": "http.response.start", "status": "wrong"},
        {"type": "http.response.start"},
        {"type": "http.response.body", "body": b"abc"},
        {"type": "http.response.body", "body": b"abc", "more_body": True},
        {"type": "http.response.body"},
        {"type": "http.response.body", "body": 7, "more_body": True},
        {"type": "http.response.body", "body": 7},
        {"type": "http.response.pathsend", "path": "/file"},
        {"type": "http.response.zerocopysend", "file": 3, "count": 5, "more_body": True},
        {"type": "http.response.trailers", "headers": []},
        {"type": "http.response.early_hint", "links": []},
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": "\ud800"},
        {"type": "websocket.send", "bytes": b"ab"},
        {"type": "websocket.send"},
        {"type": "websocket.close", "code": 1001},
        {"type": "websocket.http.response.start"},
        {"type": "unheard.of"},
        {"kind": "none"},
        7,
    ]
)
INCOMING = st.lists(
    st.sampled_from(
        [
            {"type": "http.request", "body": b"abc", "more_body": True},
            {"type": "http.request"},
            {"type": "http.request", "body": 7},
            {"type": "http.disconnect"},
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "h\u00e9"},
            {"type": "websocket.receive", "bytes": 7},
            {"type": "websocket.disconnect"},
            {},
            None,
        ]
    ),
    max_size=4,
)
asgi_steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), MESSAGES),
        st.tuples(st.just("send and go on"), MESSAGES),
        st.tuples(st.just("receive")),
        st.tuples(st.just("raise"), st.sampled_from(ERRORS)),
    ),
    max_size=7,
)


def asgi_application(steps: Any, log: list[Any]) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            if step[0] == "send":
                log.append(await send(step[1]))
            elif step[0] == "send and go on":
                try:
                    await send(step[1])
                except Exception as error:
                    log.append(repr(error))
            elif step[0] == "receive":
                log.append(await receive())
            else:
                error = step[1]()
                # Which a coroutine cannot raise.
                raise ValueError if isinstance(error, StopIteration) else error

    return app


@settings(max_examples=400)
@given(
    steps=asgi_steps,
    scope=st.sampled_from([scope_of, socket_of, lambda: scope_of(method="HEAD"), lambda: {"type": "lifespan"}]),
    incoming=INCOMING,
    sends=st.integers(0, 4),
    fails=st.booleans(),
)
def test_an_asgi_server_sees_the_same(
    steps: Any, scope: Callable[[], dict[str, Any]], incoming: Any, sends: int, fails: bool
) -> None:
    def observe(wrap: Callable[[Any], Any]) -> Any:
        log: list[Any] = []
        error = OSError("the client is gone") if fails else None
        app = wrap(asgi_application(steps, log))
        served = asyncio.run(serve_async(app, scope(), incoming, send_error=error, sends=sends))
        return served.log, log

    recorded = Recorded()
    bare = observe(lambda app: app)
    wrapped = observe(lambda app: AsgiMiddleware(app, HttpSettings(), source=recorded))

    assert wrapped == bare
    assert len(recorded.events) == int(scope()["type"] != "lifespan")
