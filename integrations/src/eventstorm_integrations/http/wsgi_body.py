"""What a WSGI application returned, as the server sees it: with the same length and attributes, counted on its way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from sys import exc_info
from typing import Any

from eventstorm_integrations.http.exchange import get_common, set_common
from eventstorm_integrations.http.text import number
from eventstorm_integrations.http.wsgi_exchange import WsgiExchange

__all__ = ["Body", "KnownBody", "ListBody", "SizedBody", "watch_file"]

_clock = time.perf_counter


class _Held:
    """Something of the application's, with the same attributes, and the exchange that learns what becomes of it."""

    __slots__ = ("_exchange", "_result")

    def __init__(self, exchange: WsgiExchange, result: Any) -> None:
        self._exchange = exchange
        self._result = result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)


class _Watched(_Held):
    """What the application returned, all of it."""

    __slots__ = ()

    def __del__(self) -> None:
        # A server that forgot to close it. What the application returned is finalized as it would be without us.
        if not self._exchange.done:
            self._account()
            self._exchange.finish()

    def _account(self) -> None:
        """Note what could not be counted on its way."""


class ListBody(_Watched):
    """A list or a tuple: no code of the application runs while it is sent, so what was taken is counted at the end."""

    __slots__ = ("_steps",)

    def __init__(self, exchange: WsgiExchange, result: Any) -> None:
        self._exchange = exchange
        self._result = result
        self._steps: Any = None

    def __iter__(self) -> Iterator[bytes]:
        if self._exchange.first_s is None:
            self._exchange.first_s = _clock()
        self._steps = iter(self._result)
        return self._steps  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._result)

    def close(self) -> None:
        """Record the request."""
        exchange = self._exchange
        if not exchange.done:
            self._account()
            exchange.finish()

    def _account(self) -> None:
        exchange, chunks, steps = self._exchange, self._result, self._steps
        if exc_info()[1] is not None and _is_interrupted(steps):
            exchange.leave()
        left = len(chunks) if steps is None else steps.__length_hint__()
        if left:
            chunks = chunks[: len(chunks) - left]
        try:
            exchange.sent_bytes += sum(map(len, chunks))
        except TypeError:  # wrong chunks, which is the server's to say
            return
        if not exchange.sent_bytes:
            exchange.first_s = None


class KnownBody(_Watched):
    """An iterator over one chunk that is known, so that no code of the application runs until it is closed."""

    __slots__ = ("_chunk", "_steps")

    def __init__(self, exchange: WsgiExchange, result: Any, chunk: bytes) -> None:
        self._exchange = exchange
        self._result = result
        self._chunk = chunk
        self._steps: Any = None

    def __iter__(self) -> Iterator[bytes]:
        if self._steps is None:
            self._exchange.first_s = _clock()
            self._steps = iter((self._chunk,))
        return self._steps  # type: ignore[no-any-return]

    def __next__(self) -> bytes:
        return next(iter(self))

    def close(self) -> None:
        """Close what the framework returned, and record the request."""
        exchange = self._exchange
        if not exchange.done:
            self._account()
        exchange.close(self._result.close)

    def _account(self) -> None:
        exchange, steps = self._exchange, self._steps
        if steps is not None and self._chunk and not steps.__length_hint__():
            exchange.sent_bytes += len(self._chunk)
        else:
            exchange.first_s = None
        if exc_info()[1] is not None and _is_interrupted(steps):
            exchange.leave()


class _Steps(_Held):
    """An iterator, whose code runs in the request's context."""

    __slots__ = ()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        outer = get_common()
        set_common(exchange.common)
        try:
            chunk: bytes = next(self._result)
        except StopIteration:
            exchange.complete = True
            raise
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            # As `keep_context` does, at half the cost; it is paid for each chunk.
            exchange.common = get_common()
            set_common(outer)
        exchange.count(chunk)
        return chunk


class Body(_Watched, _Steps):
    """Any other iterable."""

    __slots__ = ()

    def __iter__(self) -> Iterator[bytes]:
        exchange, result = self._exchange, self._result
        outer = get_common()
        set_common(exchange.common)
        try:
            steps = iter(result)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            exchange.keep_context(outer)
        # Another iterator is finalized when the server drops it, before it closes the iterable.
        return self if steps is result else _Steps(exchange, steps)

    def close(self) -> None:
        """Close what the application returned, if it can be closed, and record the request."""
        if not self._exchange.complete:
            self._exchange.leave()
        self._exchange.close(getattr(self._result, "close", None))


class SizedBody(Body):
    """The same, of something that has a length, as servers ask for it to send a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._result)


def _is_interrupted(steps: Any) -> bool:
    """Tell whether an exception that goes by may be that the last chunk that was taken could not be sent.

    Then an iterator over a list or a tuple, unlike one that has come to its end, still refers to what it is of.
    """
    return steps is None or len(steps.__reduce__()) > 2


def watch_file(exchange: WsgiExchange, file: Any) -> None:
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
        exchange.close(close)

    _take_length(exchange)
    try:
        file.close = closing
    except (AttributeError, TypeError):
        exchange.finish()


def _take_length(exchange: WsgiExchange) -> None:
    """Take the announced length for that of a file, which is sent where nobody counts."""
    try:
        for name, value in exchange.headers or ():
            if name.lower() == "content-length":
                exchange.sent_bytes += number(value) or 0
    except (AttributeError, TypeError, ValueError):  # wrong headers, which are the server's to judge
        return
