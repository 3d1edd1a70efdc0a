"""Litestar: routes as they are written, applications untouched and not kept alive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

import pytest
from litestar import Litestar, Router, WebSocket, asgi, websocket
from litestar import get as get_route

import eventstorm
import eventstorm.testing
from eventstorm_integrations import litestar as integration
from eventstorm_integrations.http import HttpSettings
from integrations.asgi_server import scope_of, serve, socket_of
from integrations.recorded import Recorded

try:
    from litestar.params import FromPath
except ImportError:  # in older versions the name of a parameter tells enough
    T = TypeVar("T")
    FromPath = Annotated[T, ...]

SETTINGS = HttpSettings()


@get_route("/item/{number:int}", sync_to_thread=True)
def item(number: FromPath[int]) -> int:
    """Emit in a thread."""
    eventstorm.emit("shop.threaded")
    return number


@get_route("/plain")
async def plain() -> str:
    """Have no parameter."""
    return "plain"


@websocket("/chat/{room:str}")
async def chat(socket: WebSocket[Any, Any, Any], room: FromPath[str]) -> None:
    """Say hello."""
    await socket.accept()
    await socket.send_text(room)
    await socket.close()


@asgi("/mounted", is_mount=True, copy_scope=True)
async def mounted(scope: Any, receive: Any, send: Any) -> None:
    """Be another application."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"mounted"})


def shop() -> Litestar:
    return Litestar([plain, chat, mounted, Router("/v1", route_handlers=[item])], openapi_config=None)


@pytest.fixture
def everything(recorded: Recorded) -> Iterator[Recorded]:
    """All applications are recorded."""
    integration.instrument(SETTINGS, source=recorded)
    yield recorded
    integration.uninstrument()


def routes(recorded: Recorded) -> list[tuple[Any, Any]]:
    return [(hit["http"]["response"].get("status_code"), hit["http"].get("route")) for hit in recorded.of("http.hit")]


def test_the_path_of_the_route_is_the_route(everything: Recorded) -> None:
    app = shop()
    for path in ("/v1/item/7", "/plain", "/nowhere", "/mounted/there"):
        serve(app, scope_of(path=path))

    assert routes(everything) == [(200, "/v1/item/{number}"), (200, "/plain"), (404, None), (200, None)]


def test_routes_that_begin_alike_are_told_apart(everything: Recorded) -> None:
    async def numbered(number: FromPath[int]) -> str:
        return str(number)

    async def all_of_them() -> str:
        return "all"

    paths = ["/item/{number:int}", "/item/{number:int}/price", "/item/{number:int}/image"]
    app = Litestar([get_route("/item")(all_of_them), *(get_route(path)(numbered) for path in paths)])
    for path in ("/item", "/item/7", "/item/7/price", "/item/7/image"):
        serve(app, scope_of(path=path))

    assert routes(everything) == [
        (200, "/item"),
        (200, "/item/{number}"),
        (200, "/item/{number}/price"),
        (200, "/item/{number}/image"),
    ]


def test_websockets_have_routes_too(everything: Recorded) -> None:
    serve(shop(), socket_of(path="/chat/lobby"), incoming=[{"type": "websocket.connect"}])

    assert everything.of("websocket.session")[0]["http"]["route"] == "/chat/{room}"


def test_threads_carry_the_trace(everything: Recorded) -> None:
    with eventstorm.testing.capture_events() as events:
        serve(shop(), scope_of(path="/v1/item/7"))

        assert events.of("shop.threaded")[0]["trace_id"] == everything.hit()["trace_id"]


def test_one_application_can_be_recorded(recorded: Recorded) -> None:
    mine, other = shop(), shop()
    integration.instrument_app(mine, SETTINGS, source=recorded)
    with pytest.warns(RuntimeWarning, match="this Litestar application is instrumented already"):
        integration.instrument_app(mine, SETTINGS, source=recorded)

    for app in (mine, other):
        serve(app, scope_of(path="/plain"))
    integration.uninstrument_app(mine)
    serve(mine, scope_of(path="/plain"))

    assert routes(recorded) == [(200, "/plain")]


def test_an_application_recorded_by_itself_has_its_own_settings(everything: Recorded) -> None:
    app, own = shop(), Recorded()
    integration.instrument_app(app, SETTINGS, source=own)
    serve(app, scope_of(path="/plain"))

    assert routes(own) == [(200, "/plain")]
    assert not everything.events


def test_the_class_is_as_it_was_afterwards(recorded: Recorded) -> None:
    before = Litestar.__call__
    integration.instrument(SETTINGS, source=recorded)
    assert Litestar.__call__ is not before
    integration.uninstrument()

    assert Litestar.__call__ is before


def test_an_application_is_held_by_nothing_of_ours(recorded: Recorded) -> None:
    # Litestar's own caches hold applications for ever, so there is no end to wait for.
    app = shop()
    before = sys.getrefcount(app)
    integration.instrument_app(app, SETTINGS, source=recorded)
    integration.instrument(SETTINGS, source=recorded)
    integration.uninstrument()

    assert sys.getrefcount(app) == before
