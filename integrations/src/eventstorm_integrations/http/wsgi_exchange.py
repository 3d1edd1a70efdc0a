"""What the WSGI middleware notes of a request, and the event that is made of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eventstorm_integrations.http.exchange import NOTHING, Exchange, get_common, set_common
from eventstorm_integrations.http.hit import encode_hit
from eventstorm_integrations.http.recorder import HIT, Recorder
from eventstorm_integrations.http.text import from_latin1, number, pairs, type_name

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["WsgiExchange"]

_clock = time.perf_counter

# What a hit tells of the environ; `map` asks for all of it at once.
_ASKED = (
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "wsgi.url_scheme",
    "HTTP_HOST",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "CONTENT_LENGTH",
    "REMOTE_ADDR",
    "HTTP_USER_AGENT",
)


class WsgiExchange(Exchange):
    """A request to a WSGI application. It must not hold the result, which may hold the environ, which holds it.

    Attributes:
        status: as the application gave it to ``start_response``; None before, as `headers`.
        complete: whether the application's iterator has come to its end.
        made_files: the identities of what ``wsgi.file_wrapper`` has made, if only these tell.
        known: an iterator that a framework has just made, and the one chunk that it gives, which no code of the
            application makes; None for none. It is held until the application returns.
    """

    status: Any = None
    headers: Any = None
    complete = False
    made_files: list[int] | None = None
    known: tuple[Any, bytes] | None = None

    def __init__(self, recorder: Recorder, environ: WSGIEnvironment) -> None:
        Exchange.__init__(self, recorder, environ, environ.get("HTTP_TRACEPARENT"))
        wrapper = environ.get("wsgi.file_wrapper")
        if wrapper is not None and not isinstance(wrapper, type):
            environ["wsgi.file_wrapper"] = self._remembering(wrapper)

    def _remembering(self, wrapper: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function such as uWSGI's, whose results only their identity tells from others."""
        made = self.made_files = []

        def file_wrapper(*args: Any, **kwargs: Any) -> Any:
            file = wrapper(*args, **kwargs)
            made.append(id(file))
            return file

        return file_wrapper

    def is_file(self, result: object) -> bool:
        """Tell whether `result` is of ``wsgi.file_wrapper``: servers that send such files by themselves look for it."""
        wrapper = self.request.get("wsgi.file_wrapper")
        if isinstance(wrapper, type):
            return isinstance(result, wrapper)
        return self.made_files is not None and id(result) in self.made_files

    def keep_context(self, outer: Any) -> None:
        """Leave the request's context, and remember it as the application left it."""
        self.common = get_common()
        set_common(outer)

    def close(self, close: Callable[[], Any] | None) -> None:
        """Close what the application returned, if that can be closed, in the request's context; emit the event."""
        try:
            if close is not None:
                outer = get_common()
                set_common(self.common)
                try:
                    close()
                finally:
                    self.keep_context(outer)
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            self.finish()

    def fail(self, error: BaseException) -> None:
        """Note what the application raised; the first counts."""
        if self.error_type is None:
            self.error_type = type_name(error)
        if self.first_s is None and not self.complete and isinstance(error, Exception):
            self.status = "500"  # which any server sends then, since no header has left it yet

    def leave(self) -> None:
        """Note, when not all was taken, why: in a `finally` of the server, its client has gone, say."""
        if self.error_type is None:
            error = sys.exc_info()[1]
            if error is not None:
                self.error_type = type_name(error)

    def count(self, data: Any) -> None:
        """Note what is being sent."""
        try:
            size = len(data)
        except TypeError:  # wrong, which is the server's to say
            return
        if size:
            if self.first_s is None:
                self.first_s = _clock()
            self.sent_bytes += size

    def finish(self) -> None:
        """Emit the event, the first time."""
        if self.done:
            return
        self.done = True
        try:
            if self.recorder.wanted(HIT):
                self._emit(_clock())
        except Exception:
            self.recorder.fault()
        finally:
            self.request = NOTHING

    def _emit(self, end_s: float) -> None:
        recorder, environ = self.recorder, self.request
        method, script, path, query, scheme, host, port, version, length, peer, agent = map(environ.get, _ASKED)
        method, scheme = method or "GET", scheme or "http"
        try:
            path = from_latin1((script or "") + (path or ""))
        except TypeError:  # one of them is no text
            path = from_latin1(script) or from_latin1(path)
        query = from_latin1(query) if query else ""
        if host:
            port = None
        else:
            host, port = environ.get("SERVER_NAME"), port if isinstance(port, int) else number(port)  # so has hypercorn
        if recorder.chooses and not recorder.allows(scheme, host, path, query):
            return
        request_bytes = number(length) if length else None
        if request_bytes is None and "HTTP_TRANSFER_ENCODING" not in environ:
            request_bytes = 0
        header, first_s = recorder.proxy_header, self.first_s
        hit = encode_hit(
            (
                method,
                str(self.status)[:3],
                self.route,
                scheme,
                host,
                port,
                version or "HTTP/1.1",
                request_bytes,
            ),
            0 if method == "HEAD" else self.sent_bytes,
            path,
            recorder.without_secrets(query) if query else "",
            peer or "" if header is None else recorder.client(peer or "", environ.get(_variable(header))),
            agent,
            end_s - self.started_s,
            None if first_s is None else first_s - self.started_s,
            self.identity,
        )
        recorder.emit_hit(self, hit, environ)

    def add_headers(self, http: dict[str, Any]) -> None:
        """Add those that are to be recorded."""
        recorder = self.recorder
        if recorder.response_headers:
            allowed = recorder.response_headers
            named = ((name.lower(), from_latin1(value)) for name, value in pairs(self.headers, str))
            found = recorder.headers(each for each in named if each[0] in allowed)
            if found:
                http["response"]["header"] = found
        if recorder.request_headers:
            values = [(name, self.request.get(_variable(name))) for name in recorder.request_headers]
            found = recorder.headers((name, from_latin1(value)) for name, value in values if value is not None)
            if found:
                http["request"]["header"] = found


def _variable(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
