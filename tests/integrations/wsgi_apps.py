"""WSGI applications that tests serve, and the middleware around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.wsgi import EventstormMiddleware
from integrations.recorded import Recorded
from integrations.wsgi_server import Served, serve

HEADERS = [("Content-Type", "text/plain")]


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [*HEADERS, ("Content-Length", "5")])
    return [b"hello"]


def answering(result: Any, status: str = "200 OK") -> Callable[..., Any]:
    """Return an application that answers with `result`, or with what it returns."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, HEADERS)
        return result() if callable(result) else result

    return app


class Closable:
    """An iterable that counts how often it is closed."""

    def __init__(self, chunks: Iterable[bytes] = (b"ab", b"cde"), error: BaseException | None = None) -> None:
        self.chunks, self.error, self.closed, self.iterated = chunks, error, 0, 0

    def __iter__(self) -> Iterator[bytes]:
        self.iterated += 1
        return iter(self.chunks)

    def close(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


def served_by(recorded: Recorded, app: Callable[..., Any], **arguments: Any) -> Served:
    return serve(EventstormMiddleware(app, HttpSettings(), source=recorded), **arguments)
