"""A middleware that records each request of any WSGI application (PEP 3333), whatever the server.

A request's event is emitted when the server has closed the response, so it holds what was really sent. Nothing else
changes: what the application returns reaches the server with the same length, file and attributes, each exception
passes through, and ``close`` of the application's iterable is called when the server calls it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from eventstorm.context import common_fields
from eventstorm_integrations.http import Emits, Hook, HttpSettings
from eventstorm_integrations.http.exchange import EXCHANGE_KEY, Exchange
from eventstorm_integrations.http.recorder import HIT, Recorder
from eventstorm_integrations.http.text import from_latin1, number, type_name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["EventstormMiddleware", "record"]

_clock = time.perf_counter


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
    if outer_exchange is not None:
        outer_exchange.adopt(recorder, environ)
        return app(environ, start_response)
    try:
        exchange = environ[EXCHANGE_KEY] = _WsgiExchange(recorder, environ)
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

    outer = common_fields.get()
    common_fields.set(exchange.common)
    try:
        result = app(environ, start)
    except BaseException as error:
        exchange.keep_context(outer)
        exchange.fail(error)
        exchange.finish()
        raise
    exchange.keep_context(outer)
    if result is None or isinstance(result, (str, bytes)):  # wrong, which the server shall see
        exchange.finish()
        return result
    if exchange.is_file(result):
        _watch_file(exchange, result)
        return result
    return (_SizedBody if hasattr(result, "__len__") else _Body)(exchange, result)


class _WsgiExchange(Exchange):
    """A request to a WSGI application. It must not hold the result, which may hold the environ, which holds it."""

    __slots__ = ("complete", "environ", "headers", "made_files", "status")

    def __init__(self, recorder: Recorder, environ: WSGIEnvironment) -> None:
        super().__init__(recorder, environ.get("HTTP_TRACEPARENT"))
        self._take(environ)
        self.status: Any = None
        self.headers: Any = None
        self.complete = False
        self.made_files: list[int] | None = None
        wrapper = environ.get("wsgi.file_wrapper")
        if wrapper is not None and not isinstance(wrapper, type):
            environ["wsgi.file_wrapper"] = self._remembering(wrapper)

    def _take(self, request: dict[str, Any]) -> None:
        # Applications change the environ while they dispatch; this is what the server said.
        self.environ = request.copy()

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
        wrapper = self.environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type):
            return isinstance(result, wrapper)
        return self.made_files is not None and id(result) in self.made_files

    def keep_context(self, outer: Any) -> None:
        """Leave the request's context, and remember it as the application left it."""
        self.common = common_fields.get()
        common_fields.set(outer)

    def fail(self, error: BaseException) -> None:
        """Note what the application raised; the first counts."""
        if self.error_type is None:
            self.error_type = type_name(error)
            if self.first_s is None and isinstance(error, Exception):
                self.status = "500"  # which any server sends then, since no header has left it yet

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
            self.environ = {}

    def _emit(self, end_s: float) -> None:
        recorder, get = self.recorder, self.environ.get
        method = get("REQUEST_METHOD", "GET")
        response: dict[str, Any] = {"body": {"size": 0 if method == "HEAD" else self.sent_bytes}}
        status = str(self.status or "")[:3]
        if status.isdigit() and status.isascii():
            response["status_code"] = int(status)
        if recorder.response_headers:
            allowed = recorder.response_headers
            pairs = [
                (name.lower(), from_latin1(value)) for name, value in self.headers or () if name.lower() in allowed
            ]
            if pairs:
                response["header"] = recorder.headers(pairs)
        host, port = get("HTTP_HOST"), None
        if not host:
            host, port = get("SERVER_NAME", ""), number(get("SERVER_PORT", ""))
        length = number(get("CONTENT_LENGTH") or "")
        agent = get("HTTP_USER_AGENT")
        header = recorder.proxy_header
        event = recorder.begin_event(
            self,
            end_s,
            method=method,
            scheme=get("wsgi.url_scheme", "http"),
            host=from_latin1(host),
            port=port,
            path=from_latin1(get("SCRIPT_NAME", "") + get("PATH_INFO", "")),
            query=from_latin1(get("QUERY_STRING") or ""),
            peer=get("REMOTE_ADDR") or "",
            forwarded="" if header is None else get(_variable(header), ""),
            agent=None if agent is None else from_latin1(agent),
            version=get("SERVER_PROTOCOL", "HTTP/1.1")[5:],
            request_bytes=None if length is None and "HTTP_TRANSFER_ENCODING" in self.environ else length or 0,
            response=response,
        )
        if event is None:
            return
        if recorder.request_headers:
            values = [(name, get(_variable(name))) for name in recorder.request_headers]
            found = recorder.headers((name, from_latin1(value)) for name, value in values if value is not None)
            if found:
                event["http"]["request"]["header"] = found
        recorder.emit_event(HIT, event, self.environ, None)


def _variable(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"


class _Steps:
    """An iterator of the application, as the server sees it: counted on its way."""

    __slots__ = ("_exchange", "_steps")

    def __init__(self, exchange: _WsgiExchange, steps: Any) -> None:
        self._exchange = exchange
        self._steps: Any = steps

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        outer = common_fields.get()
        common_fields.set(exchange.common)
        try:
            chunk: bytes = next(self._steps)
        except StopIteration:
            exchange.complete = True
            raise
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            exchange.keep_context(outer)
        exchange.count(chunk)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)


class _Body(_Steps):
    """What the application returned, as the server sees it: with the same attributes."""

    __slots__ = ("_result",)

    def __init__(self, exchange: _WsgiExchange, result: Any) -> None:
        super().__init__(exchange, result)
        self._result = result

    def __iter__(self) -> Iterator[bytes]:
        exchange, result = self._exchange, self._result
        if type(result) is list or type(result) is tuple:
            # No code of the application runs, and what was taken of it can be told afterwards.
            if result and exchange.first_s is None:
                exchange.first_s = _clock()
            self._steps = iter(result)
            return self._steps  # type: ignore[no-any-return]
        outer = common_fields.get()
        common_fields.set(exchange.common)
        try:
            steps = iter(result)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            exchange.keep_context(outer)
        # An iterator of its own is let go when the server lets go of it, which may be before `close`.
        return self if steps is result else _Steps(exchange, steps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)

    def close(self) -> None:
        """Close what the application returned, if it can be closed, and record the request."""
        exchange = self._exchange
        self._account()
        if not exchange.complete and exchange.error_type is None:
            # In a `finally` of the server, when its client has gone.
            error = sys.exc_info()[1]
            if error is not None:
                exchange.error_type = type_name(error)
        outer = common_fields.get()
        common_fields.set(exchange.common)
        try:
            close = getattr(self._result, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            exchange.keep_context(outer)
            exchange.finish()

    def __del__(self) -> None:
        # A server that forgot to close it. What the application returned is finalized as it would be without us.
        exchange = self._exchange
        if not exchange.done:
            self._account()
            exchange.finish()

    def _account(self) -> None:
        """Note how much of a list the server has taken."""
        exchange = self._exchange
        if exchange.done:
            return
        steps, result = self._steps, self._result
        if steps is not result and (type(result) is list or type(result) is tuple):
            left = steps.__length_hint__()
            exchange.complete = not left
            with contextlib.suppress(TypeError):  # wrong chunks, which is the server's to say
                exchange.sent_bytes += sum(map(len, result[: len(result) - left]))


class _SizedBody(_Body):
    """The same, of something that has a length, as servers ask for it to send a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._result)


def _watch_file(exchange: _WsgiExchange, file: Any) -> None:
    """Record the request when a file is closed that the server recognises by its type, so that it stays as it is."""
    exchange.first_s = _clock()
    own: dict[str, Any] = getattr(file, "__dict__", {})
    had_close, close = "close" in own, getattr(file, "close", None)

    def closing() -> None:
        # As it was before: what is closed must not be kept alive by a cycle.
        if had_close:
            file.close = close
        else:
            del file.close
        outer = common_fields.get()
        common_fields.set(exchange.common)
        try:
            if close is not None:
                close()
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            exchange.keep_context(outer)
            exchange.finish()

    _take_length(exchange)
    try:
        file.close = closing
    except (AttributeError, TypeError):
        exchange.finish()


def _take_length(exchange: _WsgiExchange) -> None:
    """Take the announced length for that of a file, which is sent where nobody counts."""
    try:
        for name, value in exchange.headers or ():
            if name.lower() == "content-length":
                exchange.sent_bytes += number(value) or 0
    except (AttributeError, TypeError, ValueError):  # wrong headers, which are the server's to judge
        return
