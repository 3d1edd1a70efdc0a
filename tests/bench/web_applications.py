"""What `bench_web` serves: small applications, bare and recorded by one of the tools, and the request that they get.

A server is given ``web_applications:wsgi_bare``, or any other pair of `APPLICATIONS` and `TOOLS`.
"""

from __future__ import annotations

import functools
import importlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper

__all__ = ["APPLICATIONS", "ENVIRON", "SCOPE", "TOOLS", "application"]

_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
_HEADERS = {"host": "shop.example", "user-agent": _AGENT, "accept": "text/html", "accept-language": "en"}

# As gunicorn and uvicorn make them.
ENVIRON: dict[str, Any] = {
    "wsgi.errors": sys.stderr,
    "wsgi.version": (1, 0),
    "wsgi.multithread": False,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    "wsgi.file_wrapper": FileWrapper,
    "wsgi.input_terminated": True,
    "wsgi.input": io.BytesIO(),
    "wsgi.url_scheme": "http",
    "SERVER_SOFTWARE": "gunicorn",
    "REQUEST_METHOD": "GET",
    "QUERY_STRING": "page=2",
    "RAW_URI": "/item/4711?page=2",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.17",
    "REMOTE_PORT": "40112",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "PATH_INFO": "/item/4711",
    "SCRIPT_NAME": "",
    **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in _HEADERS.items()},
}
SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
    "client": ("192.0.2.17", 40112),
    "scheme": "http",
    "method": "GET",
    "root_path": "",
    "path": "/item/4711",
    "raw_path": b"/item/4711",
    "query_string": b"page=2",
    "headers": [(name.encode(), value.encode()) for name, value in _HEADERS.items()],
    "state": {},
}

_BODY = b"hello, world\n"


def _wsgi() -> Any:
    def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(_BODY)))])
        return [_BODY]

    return hello


def _asgi() -> Any:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(_BODY)).encode())]

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": _BODY})

    return hello


def _flask() -> Any:
    from flask import Flask

    app = Flask("shop")
    app.get("/item/<int:number>")(lambda number: _BODY)
    return app


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse(_BODY)

    return Starlette(routes=[Route("/item/{number:int}", item)])


def _shop() -> Any:
    """Of `examples/shop`, which must be where modules are looked for."""
    return importlib.import_module("shop").app


def _fast_shop() -> Any:
    return importlib.import_module("fast_shop").app


APPLICATIONS: dict[str, Callable[[], Any]] = {
    "wsgi": _wsgi,
    "asgi": _asgi,
    "flask": _flask,
    "starlette": _starlette,
    "shop": _shop,
    "fast_shop": _fast_shop,
}
FLASK = ("flask", "shop")


def _bare(kind: str) -> Any:
    return APPLICATIONS[kind]()


def _eventstorm(kind: str) -> Any:
    app = APPLICATIONS[kind]()
    if kind == "wsgi":
        import eventstorm_integrations.wsgi

        return eventstorm_integrations.wsgi.EventstormMiddleware(app)
    if kind == "asgi":
        import eventstorm_integrations.asgi

        return eventstorm_integrations.asgi.EventstormMiddleware(app)
    if kind in FLASK:
        import eventstorm_integrations.flask

        eventstorm_integrations.flask.instrument_app(app)
    else:
        import eventstorm_integrations.starlette

        eventstorm_integrations.starlette.instrument_app(app)
    return app


def _least(kind: str) -> Any:
    """The least that recording takes in Python: see status, size and time, and encode a hit; it is sent nowhere."""
    import bson

    app = APPLICATIONS[kind]()
    fields = {"method": "GET", "path": ENVIRON["PATH_INFO"], "query": ENVIRON["QUERY_STRING"], "headers": _HEADERS}

    def hit(status: object, size: int, start_s: float) -> None:
        bson.encode({"http": fields, "status": status, "size": size, "duration": time.perf_counter() - start_s})

    def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_s, seen, size = time.perf_counter(), "", 0

        def start(status: str, *rest: Any) -> Any:
            nonlocal seen
            seen = status
            return start_response(status, *rest)

        body = whole(environ, start)
        try:
            for part in body:
                size += len(part)
                yield part
        finally:
            if hasattr(body, "close"):
                body.close()
            hit(int(seen[:3]), size, start_s)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        start_s, status, size = time.perf_counter(), 0, 0

        async def noted(message: Any) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message["body"])
            await send(message)

        await app(scope, receive, noted)
        if scope["type"] == "http":
            hit(status, size, start_s)

    if kind in FLASK:
        whole, app.wsgi_app = app.wsgi_app, wsgi
        return app
    whole = app
    return wsgi if kind == "wsgi" else asgi


def _opentelemetry(kind: str) -> Any:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class Nothing(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    # The cheaper of the two that there are: the one for batches passes each span through a queue to another thread.
    provider.add_span_processor(SimpleSpanProcessor(Nothing()))
    trace.set_tracer_provider(provider)
    app = APPLICATIONS[kind]()
    if kind == "wsgi":
        from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WsgiMiddleware

        return WsgiMiddleware(app)
    if kind == "asgi":
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as AsgiMiddleware

        return AsgiMiddleware(app)
    if kind in FLASK:
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        FlaskInstrumentor().instrument_app(app)
    else:
        from opentelemetry.instrumentation.starlette import StarletteInstrumentor

        StarletteInstrumentor.instrument_app(app)
    return app


def _sentry(kind: str) -> Any:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Nothing(Transport):
        def capture_envelope(self, envelope: object) -> None: ...

    integrations: list[Any] = []
    if kind in FLASK:
        from sentry_sdk.integrations.flask import FlaskIntegration

        integrations.append(FlaskIntegration())
    elif kind == "starlette":
        from sentry_sdk.integrations.starlette import StarletteIntegration

        integrations.append(StarletteIntegration())
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Nothing,
        traces_sample_rate=1.0,
        default_integrations=False,
        integrations=integrations,
    )
    app = APPLICATIONS[kind]()
    if kind == "wsgi":
        from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

        return SentryWsgiMiddleware(app)
    if kind == "asgi":
        from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

        return SentryAsgiMiddleware(app)
    return app


TOOLS: dict[str, Callable[[str], Any]] = {
    "bare": _bare,
    "eventstorm": _eventstorm,
    "least": _least,
    "opentelemetry": _opentelemetry,
    "sentry": _sentry,
}


@functools.cache
def application(kind: str, tool: str) -> Any:
    """Return one of `APPLICATIONS`, recorded by one of `TOOLS`. One tool a process: they patch the frameworks."""
    return TOOLS[tool](kind)


def __getattr__(name: str) -> Any:
    kind, _, tool = name.rpartition("_")
    if kind in APPLICATIONS and tool in TOOLS:
        return application(kind, tool)
    raise AttributeError(name)
