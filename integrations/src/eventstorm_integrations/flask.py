"""Records the requests of Flask applications, with the rule that each matched as ``http.route``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from eventstorm_integrations._framework import needs
from eventstorm_integrations.http.exchange import EXCHANGE_KEY, is_recorded
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch
from eventstorm_integrations.http.text import type_name
from eventstorm_integrations.wsgi import record

with needs("flask", "2.2"):
    from flask import Flask, Request, request

__all__ = ["instrument", "instrument_app", "instrument_by_default", "uninstrument", "uninstrument_app"]


def _recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Flask.__call__``, around all of the application's middlewares.

    And ``Flask.wsgi_app``, which a server or a dispatcher may be given instead.
    """

    def serve(self: Flask, environ: dict[str, Any], start_response: Any) -> Any:
        recorder = None if is_recorded(environ) else _instrumentation.recorder(self)
        if recorder is None:
            return original(self, environ, start_response)
        return record(recorder, partial(original, self), environ, start_response)

    return serve


def _routed(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Flask.preprocess_request``, which comes right after the request was matched with the rules."""

    def preprocess_request(self: Flask, *args: Any, **kwargs: Any) -> Any:
        try:
            _note_route(request._get_current_object())  # type: ignore[attr-defined]
        except Exception:
            _instrumentation.fault()
        return original(self, *args, **kwargs)

    return preprocess_request


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


def _note_route(request: Request) -> None:
    environ = request.environ
    exchange, rule = environ.get(EXCHANGE_KEY), request.url_rule
    if exchange is None or rule is None:
        return
    before, script = getattr(exchange, "environ", None), environ.get("SCRIPT_NAME")
    if before is None:  # it is that of an ASGI application, whose mounts are its own
        exchange.route = exchange.route_prefix + rule.rule
        return
    if not script:
        exchange.route = rule.rule
        return
    outer = before.get("SCRIPT_NAME", "")
    # A dispatcher moves the mount's name from one variable to the other; a prefix that a proxy adds is in one only.
    is_mounted = outer + before.get("PATH_INFO", "") == script + environ.get("PATH_INFO", "")
    exchange.route = script[len(outer) :] + rule.rule if is_mounted else rule.rule


_instrumentation: Instrumentation[Flask] = Instrumentation(
    "Flask",
    [
        Patch(lambda: Flask, "__call__", _recorded),
        Patch(lambda: Flask, "wsgi_app", _recorded),
        Patch(lambda: Flask, "preprocess_request", _routed),
        Patch(lambda: Flask, "handle_exception", _answered),
    ],
)
instrument_app = _instrumentation.instrument_app
uninstrument_app = _instrumentation.uninstrument_app
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
