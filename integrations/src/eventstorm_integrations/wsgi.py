"""A middleware that records each request of any WSGI application (PEP 3333), whatever the server.

A request's event is emitted when the server has closed the response, so it holds what was really sent. Nothing else
changes: what the application returns reaches the server with the same length, file and attributes, each exception
passes through, and ``close`` of the application's iterable is called when the server calls it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eventstorm_integrations.http import Emits, Hook, HttpSettings
from eventstorm_integrations.http.adapter import adapted, serving
from eventstorm_integrations.http.exchange import EXCHANGE_KEY, get_common, set_common
from eventstorm_integrations.http.recorder import Recorder
from eventstorm_integrations.http.wsgi_body import Body, KnownBody, ListBody, SizedBody, watch_file
from eventstorm_integrations.http.wsgi_exchange import WsgiExchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["EventstormMiddleware", "record"]


class EventstormMiddleware:
    """Wraps a WSGI application: every request becomes an ``http.hit``, and what it emits carries its ``trace_id``.

    Args:
        app: the application.
        settings: what is recorded; None reads the table ``[http]`` of ``eventstorm.toml`` and ``EVENTSTORM_HTTP_*``.
        hook: called with each hit before it is emitted, and with the request's environ; it may change the hit, and
            drops it by returning False.
        source: where hits go, in place of `eventstorm.emit`.

    Raises:
        SettingError: a setting is wrong.
    """

    def __init__(
        self,
        app: WSGIApplication,
        settings: HttpSettings | None = None,
        *,
        hook: Hook | None = None,
        source: Emits | None = None,
    ) -> None:
        self.app = app
        self._recorder = Recorder(settings, hook, source)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        return record(self._recorder, self.app, environ, start_response)


def record(
    recorder: Recorder, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Let `app` serve a request, and record it unless another middleware further out already does."""
    outer_exchange = environ.get(EXCHANGE_KEY)
    if outer_exchange is not None and not outer_exchange.done:
        outer_exchange.adopt(recorder, environ)
        return app(environ, start_response)
    try:
        if serving.get() is not None:
            asgi_exchange = adapted(recorder, environ)
            if asgi_exchange is not None:
                environ[EXCHANGE_KEY] = asgi_exchange
                return app(environ, start_response)
        exchange = environ[EXCHANGE_KEY] = WsgiExchange(recorder, environ)
    except Exception:
        recorder.fault()
        return app(environ, start_response)

    def start(*args: Any, **kwargs: Any) -> Any:
        write = start_response(*args, **kwargs)
        exchange.status = args[0] if args else kwargs.get("status")
        exchange.headers = args[1] if len(args) > 1 else kwargs.get("headers")
        if write is None:  # a server that does not keep to the standard
            return write

        def counted(data: bytes) -> Any:
            written = write(data)
            exchange.count(data)
            return written

        return counted

    outer = get_common()
    set_common(exchange.common)
    try:
        result = app(environ, start)
    except BaseException as error:
        exchange.keep_context(outer)
        exchange.known = None
        exchange.fail(error)
        exchange.finish()
        raise
    # As `keep_context` does, at half the cost.
    exchange.common = get_common()
    set_common(outer)
    known = exchange.known
    if known is not None:
        exchange.known = None
        if known[0] is result:
            return KnownBody(exchange, *known)
    kind = type(result)
    if kind is list or kind is tuple:
        return ListBody(exchange, result)
    if result is None or isinstance(result, (str, bytes)):  # wrong, which the server shall see
        exchange.finish()
        return result
    if exchange.is_file(result):
        watch_file(exchange, result)
        return result
    return (SizedBody if hasattr(result, "__len__") else Body)(exchange, result)
