"""A middleware that records each request and each WebSocket session of any ASGI 3 application, whatever the server.

It does not touch what passes: the same messages go both ways, in the same order, each exception passes through, and
the scope gets one key of its own. Lifespan and unknown kinds of scopes go straight to the application.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from eventstorm_integrations.http import Emits, Hook, HttpSettings
from eventstorm_integrations.http.adapter import serving
from eventstorm_integrations.http.asgi_exchange import HttpExchange, WebSocketExchange
from eventstorm_integrations.http.exchange import EXCHANGE_KEY, get_common, set_common
from eventstorm_integrations.http.recorder import Recorder

__all__ = ["ASGIApp", "EventstormMiddleware", "Message", "Receive", "Scope", "Send", "record"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_get_serving, _set_serving = serving.get, serving.set

_KINDS: dict[str, type[HttpExchange] | type[WebSocketExchange]] = {
    "http": HttpExchange,
    "websocket": WebSocketExchange,
}


class EventstormMiddleware:
    """Wraps an ASGI application: each request becomes an ``http.hit``, each WebSocket session a ``websocket.session``.

    What is emitted meanwhile, in tasks and threads too that the application starts, carries the ``trace_id``.

    Args:
        app: the application.
        settings: what is recorded; None reads the table ``[http]`` of ``eventstorm.toml`` and ``EVENTSTORM_HTTP_*``.
        hook: called with each event before it is emitted, and with the request's scope; it may change the event, and
            drops it by returning False. It runs in the event loop.
        source: where events go, in place of `eventstorm.emit`.

    Raises:
        SettingError: a setting is wrong.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings | None = None,
        *,
        hook: Hook | None = None,
        source: Emits | None = None,
    ) -> None:
        self.app = app
        self._recorder = Recorder(settings, hook, source)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve a request, a session, or the lifespan; return what the application returns, which should be None."""
        return await record(self._recorder, self.app, scope, receive, send)


async def record(
    recorder: Recorder,
    app: Callable[[Scope, Receive, Send], Awaitable[Any]],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> Any:
    """Let `app` serve a scope, and record it unless another middleware further out already does."""
    kind = _KINDS.get(scope.get("type", ""))
    outer_exchange = scope.get(EXCHANGE_KEY)
    if kind is None:
        return await app(scope, receive, send)
    if outer_exchange is not None and not outer_exchange.done:
        outer_exchange.adopt(recorder, scope)
        return await app(scope, receive, send)
    try:
        exchange = kind(recorder, scope)
        scope[EXCHANGE_KEY] = exchange
    except Exception:
        recorder.fault()
        return await app(scope, receive, send)
    outer, around = get_common(), _get_serving()
    set_common(exchange.common)
    _set_serving(exchange)
    try:
        return await app(scope, exchange.receiving(receive), exchange.sending(send))
    except BaseException as error:
        exchange.fail(error)
        raise
    finally:
        # No token: one of another context could not be used, and who drives a coroutine may change that.
        set_common(outer)
        _set_serving(around)
        exchange.finish()
