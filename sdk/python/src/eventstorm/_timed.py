"""`timed`: how long something took, as an event."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from eventstorm._process import process

__all__ = ["timed"]

F = TypeVar("F", bound=Callable[..., Any])


class timed:  # reads as the function that it is to its users
    """Emit an event when a block or a function ends, with its duration.

    As a context manager it gives the dictionary that becomes the event, to add fields to::

        with eventstorm.timed("shop.checkout", user=7) as event:
            event["items"] = len(basket)

    As a decorator it times each call of a function; of a coroutine function until it returns, of a generator function
    until it is exhausted or closed. ``duration`` is in seconds (float). An exception is recorded as ``error.type`` and
    passes through.
    """

    __slots__ = ("_event", "_fields", "_started_s", "_topic")

    def __init__(self, topic: str, /, **fields: Any) -> None:
        self._topic = topic
        self._fields = fields

    def __enter__(self) -> dict[str, Any]:
        self._event = dict(self._fields)
        self._started_s = time.perf_counter()
        return self._event

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        event = self._event
        event["duration"] = time.perf_counter() - self._started_s
        if kind is not None and kind is not GeneratorExit:  # which is how a generator is told that it is done
            recorded = event.get("error", {})
            if isinstance(recorded, dict):  # a copy, since it may be the caller's, and of many calls
                event["error"] = {"type": _name(kind), **recorded}
        process.emit(self._topic, event)

    def __call__(self, function: F) -> F:
        import inspect  # at the decoration of a function, not at import, which it would make slower by a third

        if isinstance(function, (staticmethod, classmethod)):
            kind: Any = type(function)
            return kind(self(function.__func__))  # type: ignore[no-any-return]
        # Each call is timed by an instance of its own: calls run in many threads and tasks at once.
        topic, fields = self._topic, self._fields
        wrapper: Any
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def asynchronous_generator(*args: Any, **kwargs: Any) -> Any:
                with timed(topic, **fields):
                    # What `yield from` would do, which there is not for asynchronous generators.
                    generator = function(*args, **kwargs)
                    step = generator.asend(None)
                    try:
                        while True:
                            try:
                                item = await step
                            except StopAsyncIteration:
                                return
                            try:
                                received = yield item
                            except GeneratorExit:
                                raise
                            except BaseException as error:
                                step = generator.athrow(error)
                            else:
                                step = generator.asend(received)
                    finally:
                        await generator.aclose()

            wrapper = asynchronous_generator
        elif inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                with timed(topic, **fields):
                    return await function(*args, **kwargs)

            wrapper = coroutine
        elif inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                with timed(topic, **fields):
                    return (yield from function(*args, **kwargs))

            wrapper = generator
        else:

            @functools.wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                with timed(topic, **fields):
                    return function(*args, **kwargs)

            wrapper = call
        return wrapper  # type: ignore[no-any-return]


def _name(kind: type[BaseException]) -> str:
    """Return an exception's name as OpenTelemetry's ``error.type`` has it: with its module, unless that is builtins."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
