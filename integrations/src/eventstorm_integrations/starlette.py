"""Records the requests and WebSocket sessions of Starlette applications, FastAPI's too, with the path of the route."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from eventstorm_integrations._framework import needs
from eventstorm_integrations.asgi import Receive, Scope, Send, record
from eventstorm_integrations.http.exchange import EXCHANGE_KEY
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch

with needs("starlette", "0.27"):
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route, WebSocketRoute

__all__ = ["instrument", "instrument_app", "instrument_by_default", "uninstrument", "uninstrument_app"]


def _recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    async def __call__(self: Starlette, scope: Scope, receive: Receive, send: Send) -> Any:
        recorder = instrumentation.recorder_within(self, scope)
        if recorder is None:
            return await original(self, scope, receive, send)
        return await record(recorder, partial(original, self), scope, receive, send)

    return __call__


# These return the coroutine of what they wrap, and so add none of their own.


def _routed(original: Callable[..., Any]) -> Callable[..., Any]:
    def handle(self: Route, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        try:
            exchange = scope.get(EXCHANGE_KEY)
            if exchange is not None:
                exchange.route = exchange.route_prefix + _path(self, scope)
        except Exception:
            instrumentation.fault()
        return original(self, scope, receive, send)  # type: ignore[no-any-return]

    return handle


def _mounted(original: Callable[..., Any]) -> Callable[..., Any]:
    def handle(self: Mount, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        try:
            exchange = scope.get(EXCHANGE_KEY)
            if exchange is not None:
                exchange.route_prefix += self.path
                if not self.routes:  # files, or an application of another kind
                    exchange.route = exchange.route_prefix + "/{path:path}"
        except Exception:
            instrumentation.fault()
        return original(self, scope, receive, send)  # type: ignore[no-any-return]

    return handle


def _path(route: Route, scope: Scope) -> str:
    """Return a route's path. FastAPI holds that of a router that was included, with its prefix, beside the route."""
    fastapi = scope.get("fastapi")
    context = fastapi.get("effective_route_context") if isinstance(fastapi, dict) else None
    if getattr(context, "original_route", None) is route:
        return str(getattr(context, "path", route.path))
    return route.path


def _route_of_fastapi() -> Any:
    return getattr(sys.modules.get("fastapi.routing"), "APIRoute", None)


instrumentation: Instrumentation[Starlette] = Instrumentation(
    "Starlette",
    [
        Patch(lambda: Starlette, "__call__", _recorded),
        Patch(lambda: Route, "handle", _routed),
        Patch(lambda: WebSocketRoute, "handle", _routed),
        Patch(lambda: Mount, "handle", _mounted),
        Patch(_route_of_fastapi, "handle", _routed),
    ],
)
instrument_app = instrumentation.instrument_app
uninstrument_app = instrumentation.uninstrument_app
instrument = instrumentation.instrument
instrument_by_default = instrumentation.instrument_by_default
uninstrument = instrumentation.uninstrument
