"""An ASGI server in a function: it keeps to the standard, and what it saw of an application is its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any


def scope_of(**fields: Any) -> dict[str, Any]:
    """Return the scope of a request; a field of None is left out."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"shop.example"), (b"accept", b"*/*")],
        "client": ("192.0.2.7", 4711),
        "server": ("127.0.0.1", 8000),
        "extensions": {"http.response.pathsend": {}, "http.response.trailers": {}},
        **fields,
    }
    return {name: value for name, value in scope.items() if value is not None}


def socket_of(**fields: Any) -> dict[str, Any]:
    """Return the scope of a WebSocket session."""
    return scope_of(**{"type": "websocket", "scheme": "ws", "subprotocols": [], "method": None, **fields})


class Served:
    """What a server saw."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.error: BaseException | None = None
        self.returned: Any = None

    @property
    def log(self) -> tuple[Any, ...]:
        """All of it that can be compared."""
        return self.messages, type(self.error), str(self.error), self.returned

    @property
    def body(self) -> bytes:
        """The body, as the client would get it."""
        return b"".join(each.get("body", b"") for each in self.messages if each["type"] == "http.response.body")


async def serve_async(
    app: Callable[..., Any],
    scope: dict[str, Any] | None = None,
    incoming: Iterable[Any] = ({"type": "http.request", "body": b"", "more_body": False},),
    *,
    send_error: BaseException | None = None,
    sends: int = 10**6,
    stays: bool = False,
) -> Served:
    """Serve one scope.

    Args:
        app: the application.
        scope: what it gets.
        incoming: what it receives; then disconnects, for ever.
        stays: the client stays until it has the response.
        send_error: raised by `send` after `sends` messages.
        sends: so many messages may be sent.
    """
    scope = scope_of() if scope is None else scope
    waiting = list(incoming)
    served = Served()
    kind, over = scope.get("type"), asyncio.Event()

    async def receive() -> Any:
        await asyncio.sleep(0)
        if stays and not waiting:
            await over.wait()
        return waiting.pop(0) if waiting else {"type": f"{kind}.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        name = message["type"]
        if len(served.messages) >= sends and send_error is not None:
            raise send_error
        if kind == "http":
            _check(name, served.messages)
        served.messages.append(message)
        if name == "http.response.body" and not message.get("more_body", False):
            over.set()

    try:
        served.returned = await app(scope, receive, send)
    except BaseException as error:
        served.error = error
        if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, SystemExit)):
            served.error = type(error)(*error.args)
    return served


def serve(app: Callable[..., Any], scope: dict[str, Any] | None = None, **arguments: Any) -> Served:
    """Serve one scope in a loop of its own."""
    return asyncio.run(serve_async(app, scope, **arguments))


def _check(name: str, before: list[Any]) -> None:
    """Raise what a server raises for a message that does not fit."""
    if name in ("http.response.early_hint", "http.response.push", "http.response.debug"):
        return
    started = [each for each in before if each["type"] == "http.response.start"]
    if name == "http.response.start":
        if started:
            raise RuntimeError("the response has started")
        return
    if not started:
        raise RuntimeError(f"{name} before the response has started")
    bodies = [each for each in before if each["type"] in ("http.response.body", "http.response.pathsend")]
    over = bool(bodies) and not bodies[-1].get("more_body", False)
    if name == "http.response.trailers":
        if not (over and started[0].get("trailers")):
            raise RuntimeError("no trailers now")
    elif name not in ("http.response.body", "http.response.pathsend", "http.response.zerocopysend"):
        raise RuntimeError(f"what is {name}?")
    elif over:
        raise RuntimeError("the response is over")
