"""Starlette and FastAPI: routes as they are written, mounts and routers included, applications untouched."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

import eventstorm
import eventstorm.testing
from eventstorm_integrations import fastapi as fastapi_integration
from eventstorm_integrations import starlette as integration
from eventstorm_integrations.asgi import EventstormMiddleware
from eventstorm_integrations.http import HttpSettings
from integrations.asgi_server import Served, scope_of, serve, socket_of
from integrations.recorded import Recorded

SETTINGS = HttpSettings()


async def item(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"item {request.path_params.get('number')}")


def threaded(request: Request) -> PlainTextResponse:
    eventstorm.emit("shop.threaded")
    return PlainTextResponse("threaded")


async def broken(request: Request) -> PlainTextResponse:
    raise LookupError("broken")


async def stream(request: Request) -> StreamingResponse:
    async def chunks() -> Any:
        eventstorm.emit("shop.streamed")
        yield b"a"
        yield b"b"

    return StreamingResponse(chunks())


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


ROUTES = [
    Route("/item/{number:int}", item),
    Route("/threaded", threaded),
    Route("/broken", broken),
    Route("/stream", stream),
    WebSocketRoute("/chat/{room}", chat),
]


class Copying:
    """A middleware that gives a copy of the scope to what is below it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


def shop(**arguments: Any) -> Starlette:
    return Starlette(
        routes=[
            *ROUTES,
            Mount("/shops/{shop}", routes=[Mount("/inner", app=Router(ROUTES))]),
            Mount("/app", app=Starlette(routes=ROUTES)),
            Mount("/files", app=StaticFiles(directory=Path(__file__).parent)),
        ],
        **arguments,
    )


def fast() -> FastAPI:
    app = FastAPI()
    router, inner = APIRouter(prefix="/router"), APIRouter()

    @app.get("/item/{number}")
    async def own(number: int) -> int:
        return number

    @router.get("/item/{number}")
    def routed(number: int) -> int:
        eventstorm.emit("shop.threaded")
        return number

    @inner.get("/deep/{number}")
    async def deep(number: int, tasks: BackgroundTasks) -> int:
        tasks.add_task(eventstorm.emit, "shop.background")
        return number

    @inner.websocket("/chat/{room}")
    async def talk(socket: WebSocket, room: str) -> None:
        await chat(socket)

    router.include_router(inner, prefix="/inner")
    app.include_router(router, prefix="/v1")
    app.mount("/mounted", shop())
    return app


@pytest.fixture
def everything(recorded: Recorded) -> Iterator[Recorded]:
    """All applications are recorded."""
    integration.instrument(SETTINGS, source=recorded)
    yield recorded
    integration.uninstrument()


def get(app: Any, path: str, **fields: Any) -> Served:
    return serve(app, scope_of(path=path, raw_path=path.encode(), **fields))


def routes(recorded: Recorded) -> list[tuple[Any, Any]]:
    return [(hit["http"]["response"].get("status_code"), hit["http"].get("route")) for hit in recorded.of("http.hit")]


@pytest.mark.parametrize("copying", [False, True])
def test_the_path_of_the_route_is_the_route(copying: bool, everything: Recorded) -> None:
    app = shop(middleware=[Middleware(Copying)] if copying else [])

    paths = ["/item/7", "/shops/9/inner/item/7", "/app/item/7", "/nowhere", "/app/nowhere", "/shops/9/inner/nowhere"]
    for path in paths:
        get(app, path)

    assert routes(everything) == [
        (200, "/item/{number:int}"),
        (200, "/shops/{shop}/inner/item/{number:int}"),
        (200, "/app/item/{number:int}"),
        (404, None),
        (404, None),
        (404, None),
    ]
    assert [hit["url"]["path"] for hit in everything.of("http.hit")] == paths


def test_files_are_one_route(everything: Recorded) -> None:
    served = get(shop(), f"/files/{Path(__file__).name}")

    assert routes(everything) == [(200, "/files/{path:path}")]
    assert everything.hit()["http"]["response"]["body"]["size"] == Path(__file__).stat().st_size
    assert served.error is None


def test_the_routes_of_fastapi_have_the_prefixes_of_their_routers(everything: Recorded) -> None:
    app = fast()

    for path in ("/item/7", "/v1/router/item/7", "/v1/router/inner/deep/7", "/mounted/item/7", "/v1/nowhere"):
        get(app, path)
    get(app, "/v1/router/inner/deep/7", method="POST")

    assert routes(everything) == [
        (200, "/item/{number}"),
        (200, "/v1/router/item/{number}"),
        (200, "/v1/router/inner/deep/{number}"),
        (200, "/mounted/item/{number:int}"),
        (404, None),
        (405, "/v1/router/inner/deep/{number}"),
    ]


def test_a_mount_that_cannot_be_looked_at_serves_all_the_same(everything: Recorded, expected_faults: set[str]) -> None:
    class Odd(Mount):
        @property
        def routes(self) -> Any:
            raise LookupError("not for you")

    expected_faults.add("http.fault")
    app = Starlette(routes=[Odd("/odd", app=PlainTextResponse("served"))])

    assert get(app, "/odd/x").body == b"served"
    assert routes(everything) == [(200, None)]


def test_websockets_have_routes_too(everything: Recorded) -> None:
    serve(shop(), socket_of(path="/shops/9/inner/chat/lobby"), incoming=[{"type": "websocket.connect"}])
    serve(fast(), socket_of(path="/v1/router/inner/chat/lobby"), incoming=[{"type": "websocket.connect"}])

    assert [event["http"]["route"] for event in everything.of("websocket.session")] == [
        "/shops/{shop}/inner/chat/{room}",
        "/v1/router/inner/chat/{room}",
    ]
    assert [event["websocket"]["close"] for event in everything.of("websocket.session")] == [
        {"by": "server", "code": 1000}
    ] * 2


def test_one_application_can_be_recorded(recorded: Recorded) -> None:
    mine, other = fast(), fast()
    integration.instrument_app(mine, SETTINGS, source=recorded)

    assert get(mine, "/v1/router/inner/deep/7").body == b"7"
    assert get(other, "/item/8").body == b"8"
    assert routes(recorded) == [(200, "/v1/router/inner/deep/{number}")]

    integration.uninstrument_app(mine)
    get(mine, "/item/9")
    assert len(recorded.of("http.hit")) == 1


def test_fastapi_can_be_asked_for_by_its_name(recorded: Recorded) -> None:
    app = fast()
    fastapi_integration.instrument(SETTINGS, source=recorded)
    fastapi_integration.instrument(SETTINGS, source=Recorded())
    try:
        get(app, "/v1/router/item/7")
    finally:
        fastapi_integration.uninstrument()
    get(app, "/v1/router/item/8")

    assert routes(recorded) == [(200, "/v1/router/item/{number}")]


def test_fastapi_may_be_imported_when_starlette_is_instrumented_already() -> None:
    program = """
from eventstorm_integrations import starlette
starlette.instrument()
from fastapi.routing import APIRoute
before = vars(APIRoute).get("handle")
from eventstorm_integrations import fastapi as integration
integration.instrument()
assert vars(APIRoute)["handle"] is not before
integration.uninstrument()
assert vars(APIRoute).get("handle") is before
"""
    # What we warn of; an old FastAPI warns of itself.
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_classes_are_as_they_were_afterwards(recorded: Recorded) -> None:
    from fastapi.routing import APIRoute

    def methods() -> list[Any]:
        return [Starlette.__call__, Route.handle, WebSocketRoute.handle, Mount.handle, vars(APIRoute).get("handle")]

    before = methods()
    integration.instrument(SETTINGS, source=recorded)
    assert not any(mine is theirs for mine, theirs in zip(methods(), before, strict=True))
    # Servers look at this to tell ASGI 3 from ASGI 2.
    assert inspect.iscoroutinefunction(Starlette.__call__)
    integration.uninstrument()

    assert methods() == before


def test_a_second_time_warns_and_does_nothing(everything: Recorded) -> None:
    app, other = shop(), Recorded()
    with pytest.warns(RuntimeWarning, match="Starlette is instrumented already"):
        integration.instrument(SETTINGS, source=other)
    integration.instrument_app(app, SETTINGS, source=everything)
    with pytest.warns(RuntimeWarning, match="this Starlette application is instrumented already"):
        integration.instrument_app(app, SETTINGS, source=other)
    get(app, "/item/7")
    integration.uninstrument_app(app)

    assert len(everything.of("http.hit")) == 1
    assert not other.events


def test_a_server_that_records_already_gets_the_route(everything: Recorded) -> None:
    outer = Recorded()

    get(EventstormMiddleware(shop(), SETTINGS, source=outer), "/item/7")

    assert routes(outer) == [(200, "/item/{number:int}")]
    assert not everything.events


def test_an_exception_passes_through_and_is_a_500(everything: Recorded) -> None:
    assert isinstance(get(shop(), "/broken").error, LookupError)
    assert routes(everything) == [(500, "/broken")]
    assert everything.hit()["error"] == {"type": "LookupError"}


def test_threads_streams_and_background_tasks_carry_the_trace(everything: Recorded) -> None:
    with eventstorm.testing.capture_events() as events:
        get(shop(), "/threaded")
        get(shop(), "/stream")
        get(fast(), "/v1/router/item/7")
        get(fast(), "/v1/router/inner/deep/7")
        traces = [hit["trace_id"] for hit in everything.of("http.hit")]
        emitted = [each for each in events if each.topic.startswith("shop.")]

    assert [each.topic for each in emitted] == ["shop.threaded", "shop.streamed", "shop.threaded", "shop.background"]
    assert [each.data["trace_id"] for each in emitted] == traces


def test_lifespan_is_left_alone(everything: Recorded) -> None:
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    served = serve(shop(), {"type": "lifespan", "state": {}}, incoming=incoming)

    assert [each["type"] for each in served.messages] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not everything.events


def test_applications_are_not_kept_alive(recorded: Recorded) -> None:
    app = shop()
    integration.instrument_app(app, SETTINGS, source=recorded)
    get(app, "/item/7")
    gone = weakref.ref(app)
    del app
    gc.collect()

    assert gone() is None
    integration.uninstrument()


def test_requests_at_once_have_their_own_routes(everything: Recorded) -> None:
    from integrations.asgi_server import serve_async

    app = shop()

    async def main() -> None:
        paths = [f"/item/{index}" if index % 2 else f"/app/item/{index}" for index in range(40)]
        await asyncio.gather(*(serve_async(app, scope_of(path=path)) for path in paths))

    asyncio.run(main())

    assert {(hit["url"]["path"][:5], hit["http"]["route"]) for hit in everything.of("http.hit")} == {
        ("/item", "/item/{number:int}"),
        ("/app/", "/app/item/{number:int}"),
    }
