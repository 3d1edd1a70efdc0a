"""Records the requests of Flask applications, with the rule that each matched as ``http.route``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from eventstorm_integrations._framework import needs
from eventstorm_integrations.http.exchange import EXCHANGE_KEY
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch
from eventstorm_integrations.http.text import type_name
from eventstorm_integrations.http.wsgi_exchange import WsgiExchange
from eventstorm_integrations.wsgi import record

with needs("flask", "2.2"):
    from flask import Flask, Request, request
    from werkzeug.wrappers import Response
    from werkzeug.wsgi import ClosingIterator

__all__ = ["instrument", "instrument_app", "instrument_by_default", "uninstrument", "uninstrument_app"]


def _recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Flask.__call__``, around all of the application's middlewares.

    And ``Flask.wsgi_app``, which a server or a dispatcher may be given instead.
    """

    def serve(self: Flask, environ: dict[str, Any], start_response: Any) -> Any:
        recorder = _instrumentation.recorder_within(self, environ)
        if recorder is None:
            return original(self, environ, start_response)
        return record(recorder, partial(original, self), environ, start_response)

    return serve


def _routed(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Flask.preprocess_request``, which comes right after the request was matched with the rules."""
    current: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]

    def preprocess_request(self: Flask, *args: Any, **kwargs: Any) -> Any:
        try:
            matched = current()
            exchange, rule = matched.environ.get(EXCHANGE_KEY), matched.url_rule
            if exchange is not None and rule is not None:
                exchange.route = _route(exchange, matched.environ, rule.rule)
        except Exception:
            _instrumentation.fault()
        return original(self, *args, **kwargs)

    return preprocess_request


def _known(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Response.get_app_iter``, which makes an iterator even of the one text that most views return.

    To follow each step of that would be a tenth of what recording a request costs.
    """

    def get_app_iter(self: Response, environ: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        result = original(self, environ, *args, **kwargs)
        try:
            exchange = environ.get(EXCHANGE_KEY)
            if type(exchange) is WsgiExchange and type(result) is ClosingIterator:
                chunks, status = self.response, self.status_code
                if (
                    type(chunks) is list
                    and len(chunks) == 1
                    and type(chunks[0]) is bytes
                    # Otherwise Werkzeug leaves the body out, or a class of the application's may change it.
                    and status >= 200
                    and status not in (204, 304)
                    and environ["REQUEST_METHOD"] != "HEAD"
                    and getattr(self.iter_encoded, "__func__", None) is Response.iter_encoded
                ):
                    exchange.known = result, chunks[0]
        except Exception:
            _instrumentation.fault()
        return result

    return get_app_iter


def _answered(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Flask.handle_exception``, which answers with a 500 what no error handler of the application took."""

    def handle_exception(self: Flask, *args: Any, **kwargs: Any) -> Any:
        try:
            # The last argument in each version; a program may call it itself, outside of any request.
            error = kwargs.get("e", args[-1] if args else None)
            exchange = request.environ.get(EXCHANGE_KEY) if request else None
            if exchange is not None and exchange.error_type is None and isinstance(error, Exception):
                exchange.error_type = type_name(error)
        except Exception:
            _instrumentation.fault()
        return original(self, *args, **kwargs)

    return handle_exception


def _route(exchange: Any, environ: dict[str, Any], rule: str) -> str:
    """Return the template of a route: that of its rule, behind those of the mounts on the way to it."""
    if type(exchange) is not WsgiExchange:  # it is that of an ASGI application, whose mounts are its own
        return str(exchange.route_prefix + rule)
    script = environ.get("SCRIPT_NAME")
    if not script:
        return rule
    before = exchange.request
    outer: str = before.get("SCRIPT_NAME", "")
    # A dispatcher moves the mount's name from one variable to the other; a prefix that a proxy adds is in one only.
    is_mounted = outer + before.get("PATH_INFO", "") == script + environ.get("PATH_INFO", "")
    return str(script[len(outer) :]) + rule if is_mounted else rule


_instrumentation: Instrumentation[Flask] = Instrumentation(
    "Flask",
    [
        Patch(lambda: Flask, "__call__", _recorded),
        Patch(lambda: Flask, "wsgi_app", _recorded),
        Patch(lambda: Flask, "preprocess_request", _routed),
        Patch(lambda: Flask, "handle_exception", _answered),
        Patch(lambda: Response, "get_app_iter", _known),
    ],
)
instrument_app = _instrumentation.instrument_app
uninstrument_app = _instrumentation.uninstrument_app
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
