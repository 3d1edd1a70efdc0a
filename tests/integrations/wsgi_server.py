"""A WSGI server in a function: what it saw of an application is its log, to compare one application with another."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults


def environ_of(**variables: Any) -> dict[str, Any]:
    """Return an environ; a variable of None is left out."""
    environ: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.7", "HTTP_HOST": "shop.example", "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ["wsgi.errors"] = io.StringIO()
    environ["wsgi.file_wrapper"] = FileWrapper
    environ.update(variables)
    return {name: value for name, value in environ.items() if value is not None}


class Served:
    """What a server saw."""

    def __init__(self) -> None:
        self.started: list[tuple[Any, ...]] = []
        self.written: list[Any] = []
        self.chunks: list[Any] = []
        self.length: object = "none"
        self.file: object = "none"
        self.is_file = False
        self.result: Any = None
        self.closings: list[object] = []
        self.error: BaseException | None = None

    @property
    def log(self) -> tuple[Any, ...]:
        """All of it that can be compared."""
        told = (type(self.error), str(self.error))
        seen = [(*args[:2], bool(args[2:])) for args in self.started]
        return seen, self.written, self.chunks, self.length, self.file, self.is_file, told, self.closings

    @property
    def body(self) -> bytes:
        """The body, as the client would get it."""
        return b"".join([*self.written, *self.chunks])


def serve(
    app: Callable[..., Any],
    environ: dict[str, Any] | None = None,
    *,
    take: int | None = None,
    close: int = 1,
    iterate: bool = True,
) -> Served:
    """Serve one request.

    Args:
        app: the application.
        environ: the request.
        take: after so many chunks the client is gone, which raises BrokenPipeError here.
        close: how often to close what the application returned; a proper server does it once.
        iterate: False for a server that looks at nothing of the body.
    """
    served = Served()
    environ = environ_of() if environ is None else environ

    def start_response(*args: Any, **kwargs: Any) -> Callable[..., None]:
        if kwargs or len(args) not in (2, 3):
            raise TypeError("start_response takes a status, headers, and perhaps exc_info")
        if served.started and len(args) == 2:
            raise AssertionError("headers are there already")
        if len(args) == 3 and args[2] and (served.written or served.chunks):
            raise args[2][1].with_traceback(args[2][2])
        served.started.append(args)
        return served.written.append

    try:
        result = served.result = app(environ, start_response)
        try:
            served.is_file = isinstance(result, FileWrapper)
            try:
                served.length = len(result)
            except TypeError as error:
                served.length = type(error)
            fileno = getattr(result, "fileno", None)
            served.file = fileno() if fileno is not None else "none"
            if iterate:
                for chunk in result:
                    if take is not None and len(served.chunks) >= take:
                        raise BrokenPipeError("the client is gone")
                    served.chunks.append(chunk)
        finally:
            closing = getattr(result, "close", None)
            for _ in range(close if closing is not None else 0):
                try:
                    closing()
                except Exception as error:
                    served.closings.append((type(error), str(error)))
    except BaseException as error:
        served.error = error
    return served
