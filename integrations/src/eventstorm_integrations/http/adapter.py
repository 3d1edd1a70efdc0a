"""A WSGI application inside of an ASGI application, as a mount say, is served one request, which is recorded once.

What adapts one to the other builds an environ that has nothing of the scope's own keys, but runs the application in a
copy of the context: a2wsgi does, and so did Starlette's own.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventstorm_integrations.http.asgi_exchange import HttpExchange, WebSocketExchange
    from eventstorm_integrations.http.recorder import Recorder

__all__ = ["adapted", "serving"]

serving: ContextVar[HttpExchange | WebSocketExchange | None] = ContextVar("eventstorm.serving", default=None)
"""What is served in this context by ASGI."""
serving.set(None)  # from the start, as `common_fields`


def adapted(recorder: Recorder, environ: dict[str, Any]) -> HttpExchange | WebSocketExchange | None:
    """Return the exchange of the ASGI request that an environ was made of, if that is the one to be recorded.

    It gives way to `recorder`, as one of WSGI does, if that is the program's own and it is not itself.
    """
    exchange = serving.get()
    if exchange is None or not _is_same(exchange.request, environ):
        return None
    if exchange.recorder.by_default and not recorder.by_default:
        exchange.given_up = True
        return None
    return exchange


def _is_same(scope: dict[str, Any], environ: dict[str, Any]) -> bool:
    """Tell whether it is that request, not one that a test client makes meanwhile."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return (
        scope.get("method") == environ.get("REQUEST_METHOD")
        and scope.get("path", "").encode("utf-8", "replace") == path.encode("latin-1", "replace")
        and scope.get("query_string", b"") == environ.get("QUERY_STRING", "").encode("latin-1", "replace")
    )
