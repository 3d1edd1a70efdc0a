"""Records the requests and WebSocket sessions of Litestar applications, with the path of the route."""

from __future__ import annotations

from functools import partial
from typing import Any

from eventstorm_integrations._framework import needs
from eventstorm_integrations.asgi import ASGIApp, Receive, Scope, Send, record
from eventstorm_integrations.http import Emits, Hook, HttpSettings
from eventstorm_integrations.http.exchange import EXCHANGE_KEY
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch, warn_of_second
from eventstorm_integrations.http.recorder import Recorder

with needs("litestar", "2.13"):
    from litestar import Litestar

__all__ = ["instrument", "instrument_app", "instrument_by_default", "uninstrument", "uninstrument_app"]


def instrument_app(
    app: Litestar, settings: HttpSettings | None = None, *, hook: Hook | None = None, source: Emits | None = None
) -> None:
    """Record the requests and sessions of one application.

    A second call for the same application warns and does nothing. The arguments are those of
    `eventstorm_integrations.asgi.EventstormMiddleware`.

    Raises:
        SettingError: a setting is wrong.
    """
    # In the application, since there can be no weak references to it.
    if isinstance(app.asgi_handler, _Handler):
        warn_of_second("this Litestar application")
    else:
        app.asgi_handler = _Handler(app.asgi_handler, Recorder(settings, hook, source))


def uninstrument_app(app: Litestar) -> None:
    """Record an application no more."""
    if isinstance(app.asgi_handler, _Handler):
        app.asgi_handler = app.asgi_handler.handler


class _Handler:
    """What serves an application's requests, recorded."""

    def __init__(self, handler: Any, recorder: Recorder) -> None:
        self.handler, self.recorder = handler, recorder

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await record(self.recorder, partial(_routed, self.handler), scope, receive, send)


async def _routed(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await app(scope, receive, send)
    finally:
        try:
            exchange, handler = scope.get(EXCHANGE_KEY), scope.get("route_handler")
            # What is mounted has no template of its own.
            if exchange is not None and exchange.route is None and not getattr(handler, "is_mount", False):
                exchange.route = scope.get("path_template")
        except Exception:
            _instrumentation.fault()


def _recorded(original: Any) -> Any:
    async def __call__(self: Litestar, scope: Scope, receive: Receive, send: Send) -> None:
        recorder = _instrumentation.recorder(self)
        if recorder is None or isinstance(self.asgi_handler, _Handler):
            await original(self, scope, receive, send)
        else:
            await record(recorder, partial(_routed, partial(original, self)), scope, receive, send)

    return __call__


_instrumentation: Instrumentation[Litestar] = Instrumentation(
    "Litestar", [Patch(lambda: Litestar, "__call__", _recorded)]
)
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
