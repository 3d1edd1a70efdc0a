"""What keeps other web sites out: a page on the internet must not reach this server through its visitor's browser.

A site can point its own name at 127.0.0.1 ("DNS rebinding"), so the Host header must be one of ours; it can open a
WebSocket or post a form across sites, so an Origin header must be that of the very host that was asked for.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

__all__ = ["Guard"]

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


class Guard:
    """Refuses foreign hosts and origins, and adds the headers that restrain the page itself.

    Args:
        app: the application behind.
        bound_host: the name or address that the server listens at.
    """

    def __init__(self, app: ASGIApp, bound_host: str) -> None:
        self._app = app
        self._names = {"localhost", bound_host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self._problem(headers, scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD"))
        if not problem and scope["path"].startswith("/api/") and headers.get("sec-fetch-site") == "cross-site":
            # It could not read the answer, but it could make us work.
            problem = "Sec-Fetch-Site: another web site may not ask here"
        if scope["type"] == "websocket":
            await (WebSocketClose(1008, problem) if problem else self._app)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        app = JSONResponse({"error": problem}, 403) if problem else self._app
        await app(scope, receive, send_with_headers)

    def _problem(self, headers: Headers, changes_something: bool) -> str:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return f"Host: {host[:100]!r} is not this server; ask for it by address, or as localhost"
        origin = headers.get("origin")
        if changes_something and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f"Origin: {origin[:100]!r} is another site; only this server's own page and programs may do this"
        return ""

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            # An address cannot be rebound as a name can, so any that reached us is ours.
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
