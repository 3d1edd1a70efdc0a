"""docs/web.md names each field that a hit and a session may have, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from documents import ROOT
from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from integrations.asgi_apps import START, body
from integrations.asgi_server import scope_of, serve, socket_of
from integrations.recorded import Recorded
from integrations.wsgi_apps import hello
from integrations.wsgi_server import environ_of
from integrations.wsgi_server import serve as serve_wsgi

SETTINGS = HttpSettings(request_headers=("host",), response_headers=("content-type",), sample_rate=1 - 1e-12)


def names_of(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from names_of(value, f"{prefix}{key}.")
        else:
            yield prefix + ("NAME" if prefix.endswith(".header.") else key)


async def failing_in_the_background(scope: Any, receive: Any, send: Any) -> None:
    scope["eventstorm.exchange"].route = "/item/{number}"
    await send(START)
    await send(body(b"hello"))
    raise LookupError("in the background")


async def chat(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept", "subprotocol": "chat"})
    await send({"type": "websocket.close"})
    raise LookupError("after the end")


def test_the_table_of_fields_is_complete(recorded: Recorded) -> None:
    environ = environ_of(REQUEST_METHOD="BREW", QUERY_STRING="a=1", HTTP_USER_AGENT="curl/8.0")
    serve_wsgi(WsgiMiddleware(hello, SETTINGS, source=recorded), environ)
    serve(AsgiMiddleware(failing_in_the_background, SETTINGS, source=recorded), scope_of())
    serve(AsgiMiddleware(chat, SETTINGS, source=recorded), socket_of())

    table = (ROOT / "docs/web.md").read_text("utf-8").partition("<!-- fields -->")[2].partition("<!-- /fields -->")[0]
    told = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)]

    assert len(recorded.events) == 3
    assert sorted(told) == sorted({name for _, event, _ in recorded.events for name in names_of(event)})
