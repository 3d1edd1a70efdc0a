"""What `bench_web` times without a server: requests to an application, and the encoding of the hit that one makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import TOPIC, Subject, until
from web_applications import ENVIRON, SCOPE, application

REQUESTS = 10
"""So many are one call: a loop of asyncio is entered once for all of them."""


@contextmanager
def requests(kind: str, tool: str, endpoint: str) -> Iterator[Subject]:
    """Requests, at `REQUESTS` a call; with a peer at `endpoint` that listens to the hits or does not."""
    if tool != "eventstorm":
        with _serving(kind, tool) as serve:
            yield Subject(serve)
        return
    import eventstorm

    eventstorm.configure(endpoint=endpoint, service="bench")
    with _serving(kind, tool) as serve:
        serve()
        until(lambda: eventstorm.flush(timeout_s=0.1) and eventstorm.stats()["connected"], 10)
        yield Subject(serve, lambda: eventstorm.flush(timeout_s=10))
    eventstorm.close()


@contextmanager
def hit_encode(kind: str) -> Iterator[Subject]:
    """The yardstick: the hit of such a request, encoded by pymongo's C extension, as often as there are requests."""
    import bson

    from eventstorm.testing import capture_events

    with _serving(kind, "eventstorm") as serve, capture_events() as events:
        serve()
    hit, encode = events.of(TOPIC)[0], bson.encode

    def encoded() -> None:
        for _ in range(REQUESTS):
            encode(hit)

    yield Subject(encoded)


@contextmanager
def _serving(kind: str, tool: str) -> Iterator[Callable[[], object]]:
    app = application(kind, tool)
    if kind in ("wsgi", "flask"):
        yield lambda: _serve_wsgi(app)
        return
    loop = asyncio.new_event_loop()
    yield lambda: loop.run_until_complete(_serve_asgi(app))
    loop.close()


def _start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
    return _write


def _write(chunk: bytes) -> None: ...


def _serve_wsgi(app: Any) -> None:
    for _ in range(REQUESTS):
        body = app(ENVIRON.copy(), _start_response)
        try:
            for _chunk in body:
                pass
        finally:
            if hasattr(body, "close"):
                body.close()


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None: ...


async def _serve_asgi(app: Any) -> None:
    for _ in range(REQUESTS):
        await app(SCOPE.copy(), _receive, _send)
