"""Django under WSGI and ASGI: routes as they are written, in threads and in tasks, and applications untouched."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import URLPattern, include, path, re_path
from django.urls.resolvers import RoutePattern

import eventstorm
import eventstorm.testing
from eventstorm_integrations import django as integration
from eventstorm_integrations.http import HttpSettings
from integrations.asgi_server import scope_of
from integrations.asgi_server import serve as serve_asgi
from integrations.recorded import Recorded
from integrations.wsgi_server import environ_of, serve

SETTINGS = HttpSettings()


def item(request: Any, number: int) -> HttpResponse:
    eventstorm.emit("shop.view")
    return HttpResponse(f"item {number}")


async def threaded(request: Any) -> HttpResponse:
    await sync_to_async(eventstorm.emit)("shop.threaded")
    return HttpResponse("threaded")


def stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"a", b"b"]))


def file(request: Any) -> FileResponse:
    return FileResponse(open(__file__, "rb"))  # which the response closes


def broken(request: Any) -> HttpResponse:
    raise LookupError("broken")


class Nameless(URLPattern):
    """A pattern of a program's own, which does not say what it looks like."""

    def resolve(self, path: str) -> Any:
        match = super().resolve(path)
        if match:
            match.route = None
        return match


urlpatterns = [
    Nameless(RoutePattern("nameless"), lambda request: HttpResponse("nameless")),
    path("item/<int:number>/", item),
    path(
        "shops/<slug:shop>/",
        include([re_path(r"^of/(?P<number>\d+)$", lambda request, shop, number: item(request, 1))]),
    ),
    path("threaded", threaded),
    path("stream", stream),
    path("file", file),
    path("broken", broken),
]


@pytest.fixture(scope="module", autouse=True)
def configured() -> None:
    """Configure Django, which can be done once in a process."""
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", LOGGING_CONFIG=None)
        django.setup()


@pytest.fixture
def everything(recorded: Recorded) -> Iterator[Recorded]:
    """All applications are recorded."""
    integration.instrument(SETTINGS, source=recorded)
    yield recorded
    integration.uninstrument()


def wsgi() -> Any:
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def asgi() -> Any:
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def routes(recorded: Recorded) -> list[tuple[Any, Any]]:
    return [(hit["http"]["response"].get("status_code"), hit["http"].get("route")) for hit in recorded.of("http.hit")]


def test_the_pattern_is_the_route_under_wsgi(everything: Recorded) -> None:
    for each in ("/item/7/", "/shops/mine/of/7", "/nowhere", "/broken"):
        serve(wsgi(), environ_of(PATH_INFO=each))

    assert routes(everything) == [
        (200, "/item/<int:number>/"),
        (200, r"/shops/<slug:shop>/of/(?P<number>\d+)$"),
        (404, None),
        (500, "/broken"),
    ]


def test_the_pattern_is_the_route_under_asgi(everything: Recorded) -> None:
    for each in ("/item/7/", "/threaded", "/nowhere"):
        serve_asgi(asgi(), scope_of(path=each), stays=True)

    assert routes(everything) == [(200, "/item/<int:number>/"), (200, "/threaded"), (404, None)]


@pytest.mark.parametrize("by", ["wsgi", "asgi"])
def test_what_a_view_raised_is_the_type_of_the_error(everything: Recorded, by: str) -> None:
    for each in ("/broken", "/nowhere"):
        if by == "wsgi":
            serve(wsgi(), environ_of(PATH_INFO=each))
        else:
            serve_asgi(asgi(), scope_of(path=each), stays=True)

    assert [hit.get("error") for hit in everything.of("http.hit")] == [{"type": "LookupError"}, None]


def test_a_match_without_a_pattern_has_no_route(everything: Recorded) -> None:
    assert serve(wsgi(), environ_of(PATH_INFO="/nameless")).body == b"nameless"
    assert routes(everything) == [(200, None)]


def test_threads_and_tasks_carry_the_trace(everything: Recorded) -> None:
    with eventstorm.testing.capture_events() as events:
        serve(wsgi(), environ_of(PATH_INFO="/item/7/"))
        serve_asgi(asgi(), scope_of(path="/item/7/"), stays=True)
        serve_asgi(asgi(), scope_of(path="/threaded"), stays=True)
        traces = [each.data["trace_id"] for each in events]

    assert traces == [hit["trace_id"] for hit in everything.of("http.hit")]


def test_files_and_streams_are_counted(everything: Recorded) -> None:
    streamed = serve(wsgi(), environ_of(PATH_INFO="/stream"))
    filed = serve(wsgi(), environ_of(PATH_INFO="/file"))

    assert streamed.body == b"ab"
    assert filed.is_file
    with open(__file__, "rb") as this:
        size = len(this.read())
    assert [hit["http"]["response"]["body"]["size"] for hit in everything.of("http.hit")] == [2, size]


def test_one_application_can_be_recorded(recorded: Recorded) -> None:
    mine, other = wsgi(), wsgi()
    integration.instrument_app(mine, SETTINGS, source=recorded)
    with pytest.warns(RuntimeWarning, match="this Django application is instrumented already"):
        integration.instrument_app(mine, SETTINGS, source=recorded)

    for app in (mine, other):
        serve(app, environ_of(PATH_INFO="/item/7/"))
    integration.uninstrument_app(mine)
    serve(mine, environ_of(PATH_INFO="/item/7/"))

    assert routes(recorded) == [(200, "/item/<int:number>/")]


def test_the_classes_are_as_they_were_afterwards(recorded: Recorded) -> None:
    before = WSGIHandler.__call__, BaseHandler.resolve_request
    integration.instrument(SETTINGS, source=recorded)
    assert WSGIHandler.__call__ is not before[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        integration.uninstrument()

    assert (WSGIHandler.__call__, BaseHandler.resolve_request) == before
