"""ASGI applications that tests serve, and the middleware around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventstorm_integrations.asgi import EventstormMiddleware
from eventstorm_integrations.http import HttpSettings
from integrations.asgi_server import Served, serve
from integrations.recorded import Recorded

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def sending(*messages: dict[str, Any]) -> Callable[..., Any]:
    """Return an application that sends these."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for each in messages:
            await send(each)

    return app


def body(content: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


hello = sending(START, body(b"hello"))


def served_by(recorded: Recorded, app: Callable[..., Any], scope: Any = None, **arguments: Any) -> Served:
    return serve(EventstormMiddleware(app, HttpSettings(), source=recorded), scope, **arguments)
