"""Flask: routes as they are written, applications untouched, instrumented and not, and never kept alive."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

import eventstorm
import eventstorm.testing
from eventstorm_integrations import asgi as asgi_integration
from eventstorm_integrations import flask as integration
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.wsgi import EventstormMiddleware
from integrations.asgi_server import scope_of, serve_async
from integrations.recorded import Recorded
from integrations.wsgi_server import environ_of, serve

SETTINGS = HttpSettings()


def shop() -> Flask:
    app = Flask(__name__)

    @app.get("/item/<int:number>")
    def item(number: int) -> str:
        return f"item {number}"

    @app.get("/stream")
    def stream() -> Any:
        def chunks() -> Iterator[str]:
            eventstorm.emit("shop.streamed")
            yield "a"
            yield "b"

        return flask.stream_with_context(chunks())

    @app.get("/broken")
    def broken() -> str:
        raise LookupError("broken")

    admin = Blueprint("admin", __name__, url_prefix="/admin")

    @admin.get("/user/<name>")
    def user(name: str) -> str:
        return name

    app.register_blueprint(admin)
    return app


@pytest.fixture
def everything(recorded: Recorded) -> Iterator[Recorded]:
    """All applications are recorded."""
    integration.instrument(SETTINGS, source=recorded)
    yield recorded
    integration.uninstrument()


def routes(recorded: Recorded) -> list[tuple[Any, Any]]:
    return [(hit["http"]["response"].get("status_code"), hit["http"].get("route")) for hit in recorded.of("http.hit")]


def test_the_rule_is_the_route(everything: Recorded) -> None:
    client = shop().test_client()

    for path in ("/item/7", "/admin/user/ann", "/nowhere/7", "/item/seven"):
        client.get(path, buffered=True)
    client.post("/item/7", buffered=True)

    assert routes(everything) == [
        (200, "/item/<int:number>"),
        (200, "/admin/user/<name>"),
        (404, None),
        (404, None),
        (405, None),
    ]


def test_one_application_can_be_recorded(recorded: Recorded) -> None:
    mine, other = shop(), shop()
    integration.instrument_app(mine, SETTINGS, source=recorded)

    assert mine.test_client().get("/item/7", buffered=True).text == "item 7"
    assert other.test_client().get("/item/8", buffered=True).text == "item 8"
    assert [hit["url"]["path"] for hit in recorded.of("http.hit")] == ["/item/7"]

    integration.uninstrument_app(mine)
    mine.test_client().get("/item/9", buffered=True)
    assert len(recorded.of("http.hit")) == 1


def test_an_application_that_was_made_before_is_recorded(recorded: Recorded) -> None:
    client = shop().test_client()
    integration.instrument(SETTINGS, source=recorded)
    try:
        client.get("/item/7", buffered=True)
    finally:
        integration.uninstrument()
    client.get("/item/8", buffered=True)

    assert routes(recorded) == [(200, "/item/<int:number>")]


def test_the_class_is_as_it_was_afterwards(recorded: Recorded) -> None:
    before = Flask.__call__, Flask.wsgi_app
    app = shop()
    contents = set(vars(app))

    integration.instrument(SETTINGS, source=recorded)
    integration.instrument_app(app, SETTINGS, source=recorded)
    assert Flask.__call__ is not before[0]
    assert set(vars(app)) == contents
    integration.uninstrument()
    assert Flask.__call__ is not before[0], "one application is recorded still"
    integration.uninstrument_app(app)

    assert (Flask.__call__, Flask.wsgi_app) == before


def test_what_somebody_else_replaced_since_stays(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    integration.instrument(SETTINGS, source=recorded)
    ours = Flask.__call__
    try:
        monkeypatch.setattr(Flask, "__call__", lambda *arguments: ours(*arguments))
        integration.uninstrument()
        shop().test_client().get("/item/7", buffered=True)
        assert not recorded.events
        integration.instrument(SETTINGS, source=recorded)
        shop().test_client().get("/item/7", buffered=True)
        assert len(recorded.events) == 1
    finally:
        monkeypatch.undo()
        integration.uninstrument()


def test_a_second_time_warns_and_does_nothing(everything: Recorded) -> None:
    app, other = shop(), Recorded()
    with pytest.warns(RuntimeWarning, match="Flask is instrumented already") as caught:
        integration.instrument(SETTINGS, source=other)
    assert caught[0].filename == __file__

    integration.instrument_app(app, SETTINGS, source=everything)
    with pytest.warns(RuntimeWarning, match="this Flask application is instrumented already"):
        integration.instrument_app(app, SETTINGS, source=other)
    app.test_client().get("/item/7", buffered=True)
    integration.uninstrument_app(app)

    assert len(everything.of("http.hit")) == 1
    assert not other.events


def test_an_application_recorded_by_itself_has_its_own_settings(everything: Recorded) -> None:
    app, own = shop(), Recorded()
    integration.instrument_app(app, HttpSettings(sample_rate=0), source=own)

    app.test_client().get("/item/7", buffered=True)
    integration.uninstrument_app(app)

    assert not own.events
    assert not everything.events


def test_a_server_that_records_already_gets_the_route(everything: Recorded, recorded: Recorded) -> None:
    outer = Recorded()

    serve(EventstormMiddleware(shop(), SETTINGS, source=outer), environ_of(PATH_INFO="/item/7"))

    assert routes(outer) == [(200, "/item/<int:number>")]
    assert not everything.events


def test_middlewares_are_inside_and_the_route_is_seen_through_them(everything: Recorded) -> None:
    app = shop()

    def copying(environ: dict[str, Any], start_response: Any) -> Any:
        return inner(dict(environ), start_response)

    inner, app.wsgi_app = app.wsgi_app, copying  # type: ignore[method-assign]
    app.test_client().get("/item/7", buffered=True)

    assert routes(everything) == [(200, "/item/<int:number>")]


def test_a_mounted_application_has_its_mount_in_the_route(everything: Recorded) -> None:
    app, mounted = shop(), shop()
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/mounted": mounted})  # type: ignore[method-assign]

    app.test_client().get("/mounted/item/7", buffered=True)
    app.test_client().get("/item/7", buffered=True)
    serve(app, environ_of(SCRIPT_NAME="/prefix", PATH_INFO="/item/7"))

    assert routes(everything) == [
        (200, "/mounted/item/<int:number>"),
        (200, "/item/<int:number>"),
        (200, "/item/<int:number>"),
    ]
    assert everything.of("http.hit")[0]["url"]["path"] == "/mounted/item/7"


def test_a_dispatcher_over_the_inner_application_is_recorded_too(everything: Recorded) -> None:
    serve(DispatcherMiddleware(shop().wsgi_app), environ_of(PATH_INFO="/item/7"))

    assert routes(everything) == [(200, "/item/<int:number>")]


def test_a_prefix_that_a_client_makes_up_is_in_no_route(everything: Recorded) -> None:
    app = shop()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]

    app.test_client().get("/item/7", headers={"X-Forwarded-Prefix": "/made/up"}, buffered=True)

    assert routes(everything) == [(200, "/item/<int:number>")]


def test_an_exception_is_a_500_of_flask(everything: Recorded) -> None:
    assert shop().test_client().get("/broken", buffered=True).status_code == 500
    assert routes(everything) == [(500, "/broken")]


def test_an_exception_that_flask_answers_with_a_500_is_told(everything: Recorded) -> None:
    assert shop().test_client().get("/broken", buffered=True).status_code == 500
    assert everything.hit()["error"] == {"type": "LookupError"}


def test_a_program_may_hand_an_exception_to_flask_itself(everything: Recorded) -> None:
    app = shop()

    with app.test_request_context("/item/7"):
        assert app.handle_exception(e=LookupError("by name")).status_code == 500
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(LookupError, match="outside"):
        app.handle_exception(LookupError("outside"))


def test_an_exception_that_the_application_answers_itself_is_no_error(everything: Recorded) -> None:
    app = shop()
    app.register_error_handler(LookupError, lambda error: ("none such", 404))

    assert app.test_client().get("/broken", buffered=True).status_code == 404
    assert "error" not in everything.hit()


def test_an_exception_that_flask_lets_through_passes(everything: Recorded) -> None:
    app = shop()
    app.testing = True

    with pytest.raises(LookupError, match="broken"):
        app.test_client().get("/broken", buffered=True)

    assert routes(everything) == [(500, "/broken")]
    assert everything.hit()["error"] == {"type": "LookupError"}


def test_a_stream_carries_the_trace(everything: Recorded) -> None:
    with eventstorm.testing.capture_events() as events:
        assert shop().test_client().get("/stream", buffered=True).text == "ab"
        assert events.of("shop.streamed")[0]["trace_id"] == everything.hit()["trace_id"]

    assert everything.hit()["http"]["response"]["body"]["size"] == 2


def test_applications_are_not_kept_alive(recorded: Recorded) -> None:
    app = shop()
    integration.instrument_app(app, SETTINGS, source=recorded)
    app.test_client().get("/item/7", buffered=True)
    gone = weakref.ref(app)
    del app
    gc.collect()

    assert gone() is None
    integration.uninstrument()


def test_nothing_warns_while_it_is_imported_and_used(everything: Recorded) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shop().test_client().get("/item/7", buffered=True)


def test_applications_that_are_equal_are_recorded_one_by_one(recorded: Recorded) -> None:
    class Equal(Flask):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        __hash__ = None  # type: ignore[assignment]

    first, second = Equal("first"), Equal("second")
    integration.instrument_app(first, SETTINGS, source=recorded)
    try:
        serve(first, environ_of(PATH_INFO="/first"))
        serve(second, environ_of(PATH_INFO="/second"))
    finally:
        integration.uninstrument_app(first)

    assert [hit["url"]["path"] for hit in recorded.of("http.hit")] == ["/first"]


@pytest.mark.parametrize("own", [False, True], ids=["all", "one"])
def test_within_an_asgi_application_it_is_one_request_with_the_whole_route(own: bool, recorded: Recorded) -> None:
    app, outer = shop(), Recorded()
    if own:
        integration.instrument_app(app, SETTINGS, source=recorded)
    else:
        integration.instrument(SETTINGS, source=recorded)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        scope["eventstorm.exchange"].route_prefix = "/mounted"  # as Starlette's integration does
        environ = environ_of(SCRIPT_NAME="/mounted", PATH_INFO="/item/7")
        served = await asyncio.to_thread(serve, app, environ)
        # What is asked meanwhile is another request, and what is over is no longer served.
        await asyncio.to_thread(serve, app, environ_of(PATH_INFO="/item/8"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": served.body})

    async def asked() -> None:
        middleware = asgi_integration.EventstormMiddleware(asgi, SETTINGS, source=outer)
        await serve_async(middleware, scope_of(path="/mounted/item/7"))
        serve(app, environ_of(SCRIPT_NAME="/mounted", PATH_INFO="/item/7"))

    try:
        asyncio.run(asked())
    finally:
        integration.uninstrument_app(app)
        integration.uninstrument()

    assert routes(outer) == [(200, "/mounted/item/<int:number>")]
    assert routes(recorded) == [(200, "/item/<int:number>")] * 2
