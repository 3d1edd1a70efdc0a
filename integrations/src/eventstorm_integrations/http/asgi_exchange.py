"""What the ASGI middleware notes of a request and of a WebSocket session, from the messages that pass."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from eventstorm_integrations.http.exchange import NOTHING, Exchange
from eventstorm_integrations.http.hit import encode_hit
from eventstorm_integrations.http.recorder import HIT, SESSION, Recorder
from eventstorm_integrations.http.text import from_bytes, number, pairs, type_name, valid

__all__ = ["HttpExchange", "WebSocketExchange"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

# Every application returns a little later than its response ends; below this it is no work in the background.
_LEAST_BACKGROUND_S = 0.001

# What a hit tells of the scope; `map` asks for all of it at once.
_ASKED = ("path", "query_string", "scheme", "client", "http_version", "server")

# ruff: noqa: SIM105
# `contextlib.suppress` is made, entered and left in Python: for each message that would be half of what it costs.

_clock = time.perf_counter


class _AsgiExchange(Exchange):
    """What both have in common. It must not hold the scope itself, which holds it."""

    topic: str
    given_up = False
    status: Any = None
    response_headers: Any = None

    def __init__(self, recorder: Recorder, scope: MutableMapping[str, Any]) -> None:
        listed = scope.get("headers")
        # Any iterable is allowed, and only lists can be read twice for certain.
        try:
            headers: dict[Any, Any] = dict(listed) if isinstance(listed, (list, tuple)) else {}
        except (TypeError, ValueError):  # no pairs
            headers = dict(pairs(listed, bytes))
        parent = headers.get(b"traceparent")
        Exchange.__init__(self, recorder, scope, None if parent is None else from_bytes(parent))
        self.headers = headers

    def fail(self, error: BaseException) -> None:
        """Note what the application raised."""
        raise NotImplementedError

    def finish(self) -> None:
        """Emit the event, when the application has returned or raised."""
        self.done = True
        try:
            if not self.given_up and self.recorder.wanted(self.topic):
                self._emit(_clock())
        except Exception:
            self.recorder.fault()
        finally:
            self.request, self.headers, self.response_headers = NOTHING, NOTHING, None

    def _emit(self, now_s: float) -> None:
        raise NotImplementedError

    def _hit(self, end_s: float, method: str | None, request_bytes: int | None, sent_bytes: int) -> bytes | None:
        """Return the event, encoded, with what the scope says; None if it is not to be recorded."""
        recorder, headers = self.recorder, self.headers
        path, query, scheme, client, version, server = map(self.request.get, _ASKED)
        scheme, host, port = scheme or ("http" if method else "ws"), headers.get(b"host"), None
        if not host:
            name, number_or_none = server if isinstance(server, (list, tuple)) and len(server) == 2 else ("", None)
            host, port = valid(name).encode(), number_or_none if type(number_or_none) is int else None
        path, asked = valid(path), from_bytes(query) if query else ""
        if recorder.chooses and not recorder.allows(scheme, host, path, asked):
            return None
        peer = client[0] if client and (type(client) is tuple or type(client) is list) else None
        header = recorder.proxy_header
        first_s = self.first_s
        return encode_hit(
            (
                method,
                self.status if isinstance(self.status, int) else None,
                self.route,
                scheme,
                host,
                port,
                version or "1.1",
                request_bytes,
            ),
            sent_bytes,
            path,
            recorder.without_secrets(asked) if asked else "",
            peer if header is None else recorder.client(peer or "", self._forwarded(header.encode())),
            headers.get(b"user-agent"),
            end_s - self.started_s,
            None if first_s is None else first_s - self.started_s,
            self.identity,
        )

    def add_headers(self, http: dict[str, Any]) -> None:
        """Add those that are to be recorded."""
        recorder = self.recorder
        if recorder.response_headers and self.response_headers is not None:
            found = _allowed(recorder, self.response_headers, recorder.response_headers)
            if found:
                http["response"]["header"] = found
        if recorder.request_headers:
            found = _allowed(recorder, self.request.get("headers"), recorder.request_headers)
            if found:
                http["request"]["header"] = found

    def _forwarded(self, wanted: bytes) -> str:
        # A list may come in several lines; their order is that of the list.
        values = [value for name, value in pairs(self.request.get("headers"), bytes) if name == wanted]
        return b",".join(values).decode("latin-1")


class HttpExchange(_AsgiExchange):
    """A request, and its response, which ends with the last message of its body or its trailers."""

    topic = HIT
    received_bytes = 0
    disconnected = False
    trailers = False
    ended_s: float | None = None
    background_error_type: str | None = None

    def receiving(self, receive: _Receive) -> _Receive:
        """Return `receive`, noting what comes."""

        async def noted() -> _Message:
            message = await receive()
            try:
                kind = message["type"]
                if kind == "http.request":
                    self.received_bytes += len(message.get("body") or b"")
                elif kind == "http.disconnect":
                    self.disconnected = True
            except Exception:  # a message that is wrong, which is the application's to say
                pass
            return message

        return noted

    def sending(self, send: _Send) -> _Send:
        """Return `send`, noting what goes."""

        # No coroutine of its own, but for the last message, at whose end the response ends.
        def noted(message: _Message) -> Awaitable[None]:
            try:
                last = self.ended_s is None and self._note(message)
            except Exception:  # a message that is wrong, which is the server's to say
                last = False
            return self._last(send, message) if last else send(message)

        return noted

    def _note(self, message: _Message) -> bool:
        """Note a message; tell whether it is the last."""
        kind = message["type"]
        if kind == "http.response.start":
            if self.status is None:
                self.status = message["status"]
                self.response_headers = message.get("headers")
                self.trailers = bool(message.get("trailers"))
        elif kind == "http.response.body":
            if self.status is None:
                return False
            if not message.get("more_body") and not self.trailers:
                return True
            self._count(message)
        elif kind == "http.response.zerocopysend":
            self._count(message)
            return not message.get("more_body") and not self.trailers
        elif kind == "http.response.pathsend":
            self._count(message)
            return not self.trailers
        elif kind == "http.response.trailers":
            return not message.get("more_trailers")
        return False

    def _count(self, message: _Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            size = len(message.get("body") or b"")
        elif kind == "http.response.zerocopysend":
            size = message.get("count") or 0
        else:  # a path: the server opens the file, and its length was announced
            announced = [value for name, value in self.response_headers or () if name.lower() == b"content-length"]
            size = (number(announced[0].decode("latin-1")) if announced else None) or 0
        if size:
            if self.first_s is None:
                self.first_s = _clock()
            self.sent_bytes += size

    async def _last(self, send: _Send, message: _Message) -> None:
        await send(message)
        ended_s = self.ended_s = _clock()
        if message["type"] == "http.response.body":
            try:
                size = len(message.get("body") or b"")
            except TypeError:  # a body that is wrong, which a server has let pass
                return
            if size:
                self.sent_bytes += size
                if self.first_s is None:
                    self.first_s = ended_s

    def fail(self, error: BaseException) -> None:
        """Note what the application raised: of the response, or of its work in the background."""
        # Frameworks answer with a 500 first, and then let the server see the exception that they answered.
        is_answered = isinstance(self.status, int) and self.status >= 500
        if self.ended_s is not None and not is_answered:
            self.background_error_type = type_name(error)
            return
        self.error_type = type_name(error)
        if self.status is None and isinstance(error, Exception):
            self.status = 500  # which any server sends then

    def _emit(self, now_s: float) -> None:
        ended_s = self.ended_s
        if ended_s is None and self.error_type is None:
            if self.disconnected:
                self.error_type = "http.disconnect"
            elif self.status is None:
                self.error_type, self.status = "no_response", 500
            else:
                self.error_type = "incomplete_response"
        method = self.request.get("method") or "GET"
        length = self.headers.get(b"content-length")
        announced = None if length is None else number(length)
        hit = self._hit(
            now_s if ended_s is None else ended_s,
            method,
            self.received_bytes if announced is None else announced,
            0 if method == "HEAD" else self.sent_bytes,
        )
        if hit is None:
            return
        background_s = 0.0 if ended_s is None else now_s - ended_s
        if background_s < _LEAST_BACKGROUND_S and self.background_error_type is None:
            self.recorder.emit_hit(self, hit, self.request)
            return
        event = self.recorder.document(self, hit)
        background: dict[str, Any] = {"duration": background_s}
        event["background"] = background
        if self.background_error_type is not None:
            background["error"] = {"type": self.background_error_type}
        self.recorder.emit_document(HIT, event, self.request, time.time() - background_s)


class WebSocketExchange(_AsgiExchange):
    """A session, from the handshake to the close of either side."""

    topic = SESSION
    received = received_messages = sent = sent_messages = 0
    code: Any = None
    closed_by: str | None = None
    subprotocol: Any = None

    def receiving(self, receive: _Receive) -> _Receive:
        """Return `receive`, noting what comes."""

        async def noted() -> _Message:
            message = await receive()
            try:
                kind = message["type"]
                if kind == "websocket.receive":
                    self.received += _size(message)
                    self.received_messages += 1
                elif kind == "websocket.disconnect" and self.closed_by is None:
                    self.closed_by, self.code = "client", message.get("code") or 1005
            except Exception:  # a message that is wrong, which is the application's to say
                pass
            return message

        return noted

    def sending(self, send: _Send) -> _Send:
        """Return `send`, noting what went."""

        async def noted(message: _Message) -> None:
            await send(message)
            try:
                self._note(message)
            except Exception:  # a message that is wrong, which a server has let pass
                pass

        return noted

    def _note(self, message: _Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            self.sent += _size(message)
            self.sent_messages += 1
        elif kind == "websocket.accept":
            self.status, self.subprotocol = 101, message.get("subprotocol")
            self.response_headers = message.get("headers")
        elif kind == "websocket.close":
            if self.status is None:
                self.status = 403  # which any server sends then
            if self.closed_by is None:
                self.closed_by, self.code = "server", message.get("code") or 1000
        elif kind == "websocket.http.response.start":
            self.status, self.response_headers = message["status"], message.get("headers")

    def fail(self, error: BaseException) -> None:
        """Note what the application raised."""
        self.error_type = type_name(error)
        if self.status is None and isinstance(error, Exception):
            self.status = 500  # which servers send to a handshake that fails

    def _emit(self, now_s: float) -> None:
        hit = self._hit(now_s, None, None, 0)
        if hit is None:
            return
        event = self.recorder.document(self, hit)
        del event["http"]["response"]["body"]  # messages go instead, both ways
        session: dict[str, Any] = {
            "received": {"messages": self.received_messages, "bytes": self.received},
            "sent": {"messages": self.sent_messages, "bytes": self.sent},
        }
        if self.closed_by is not None and self.status == 101:
            is_code = isinstance(self.code, int) and 0 <= self.code < 65536
            session["close"] = {"by": self.closed_by, "code": self.code} if is_code else {"by": self.closed_by}
        subprotocol = valid(self.subprotocol)
        if subprotocol:
            session["subprotocol"] = subprotocol
        event["websocket"] = session
        self.recorder.emit_document(SESSION, event, self.request, None)


def _size(message: _Message) -> int:
    """Return the bytes of a message's content; a text is sent as UTF-8."""
    text = message.get("text")
    if text is None:
        return len(message.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _allowed(recorder: Recorder, headers: Any, allowed: Any) -> dict[str, list[str]]:
    named = ((name.decode("latin-1").lower(), value) for name, value in pairs(headers, bytes))
    return recorder.headers((name, from_bytes(value)) for name, value in named if name in allowed)
