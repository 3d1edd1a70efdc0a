"""Records the requests of Django, under WSGI and ASGI, with the pattern that each matched as ``http.route``.

An application is what ``get_wsgi_application`` or ``get_asgi_application`` returned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from eventstorm_integrations import asgi, wsgi
from eventstorm_integrations._framework import needs
from eventstorm_integrations.http.exchange import EXCHANGE_KEY
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch
from eventstorm_integrations.http.text import type_name

with needs("django", "4.2"):
    from django.core.handlers import exception as answers  # type: ignore[import-untyped]
    from django.core.handlers.asgi import ASGIHandler  # type: ignore[import-untyped]
    from django.core.handlers.base import BaseHandler  # type: ignore[import-untyped]
    from django.core.handlers.wsgi import WSGIHandler  # type: ignore[import-untyped]

__all__ = ["instrument", "instrument_app", "instrument_by_default", "uninstrument", "uninstrument_app"]


def _recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    def __call__(self: WSGIHandler, environ: dict[str, Any], start_response: Any) -> Any:
        recorder = _instrumentation.recorder(self)
        if recorder is None:
            return original(self, environ, start_response)
        return wsgi.record(recorder, partial(original, self), environ, start_response)

    return __call__


def _recorded_asynchronously(original: Callable[..., Any]) -> Callable[..., Any]:
    async def __call__(self: ASGIHandler, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> Any:
        recorder = _instrumentation.recorder(self)
        if recorder is None:
            return await original(self, scope, receive, send)
        return await asgi.record(recorder, partial(original, self), scope, receive, send)

    return __call__


def _exchange(request: Any) -> Any:
    return (getattr(request, "environ", None) or getattr(request, "scope", None) or {}).get(EXCHANGE_KEY)


def _answered(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function that answers with a 500 what a view raised, unless it is one that stands for another answer."""

    def handle_uncaught_exception(request: Any, resolver: Any, exc_info: Any) -> Any:
        try:
            exchange = _exchange(request)
            if exchange is not None and exchange.error_type is None:
                exchange.error_type = type_name(exc_info[1])
        except Exception:
            _instrumentation.fault()
        return original(request, resolver, exc_info)

    return handle_uncaught_exception


def _routed(original: Callable[..., Any]) -> Callable[..., Any]:
    def resolve_request(self: BaseHandler, request: Any) -> Any:
        match = original(self, request)
        try:
            exchange = _exchange(request)
            if exchange is not None and match.route is not None:
                exchange.route = "/" + match.route
        except Exception:
            _instrumentation.fault()
        return match

    return resolve_request


_instrumentation: Instrumentation[BaseHandler] = Instrumentation(
    "Django",
    [
        Patch(lambda: WSGIHandler, "__call__", _recorded),
        Patch(lambda: ASGIHandler, "__call__", _recorded_asynchronously),
        Patch(lambda: BaseHandler, "resolve_request", _routed),
        Patch(lambda: answers, "handle_uncaught_exception", _answered),
    ],
)
instrument_app = _instrumentation.instrument_app
uninstrument_app = _instrumentation.uninstrument_app
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
