"""`timed` tells how long a block or a function took, and changes nothing else about it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import eventstorm
from eventstorm.testing import CapturedEvents, capture_events


@pytest.fixture
def events() -> Iterator[CapturedEvents]:
    with capture_events() as captured:
        yield captured


def _only(events: CapturedEvents) -> dict[str, Any]:
    (data,) = events.of("t")
    assert data.pop("duration") >= 0
    return data


def test_a_block_gives_the_event_to_add_to(events: CapturedEvents) -> None:
    with eventstorm.timed("t", user=7) as event:
        event["items"] = 2
    assert _only(events) == {"user": 7, "items": 2}


def test_an_exception_is_recorded_and_passes_through(events: CapturedEvents) -> None:
    shared = {"code": 1}
    with pytest.raises(ZeroDivisionError), eventstorm.timed("t", error=shared):
        raise ZeroDivisionError
    assert _only(events) == {"error": {"type": "ZeroDivisionError", "code": 1}}
    assert shared == {"code": 1}


def test_an_exception_is_named_with_its_module(events: CapturedEvents) -> None:
    with pytest.raises(asyncio.CancelledError), eventstorm.timed("t"):
        raise asyncio.CancelledError
    assert _only(events) == {"error": {"type": "asyncio.exceptions.CancelledError"}}


def test_a_function_and_its_recursion(events: CapturedEvents) -> None:
    @eventstorm.timed("t")
    def factorial(n: int) -> int:
        """Compute."""
        return n * factorial(n - 1) if n else 1

    assert factorial(4) == 24
    assert len(events.of("t")) == 5
    assert (factorial.__name__, factorial.__doc__) == ("factorial", "Compute.")


def test_methods_of_all_kinds_in_both_orders(events: CapturedEvents) -> None:
    class Shop:
        @eventstorm.timed("t")
        def plain(self, n: int) -> int:
            return n

        @eventstorm.timed("t")
        @staticmethod
        def outside(n: int) -> int:
            return n

        @staticmethod
        @eventstorm.timed("t")
        def inside(n: int) -> int:
            return n

        @eventstorm.timed("t")
        @classmethod
        def of_class(cls, n: int) -> int:
            return n

    assert Shop().plain(1) + Shop().outside(2) + Shop.inside(3) + Shop.of_class(4) == 10
    assert len(events) == 4


def test_a_coroutine_function_until_it_returns(events: CapturedEvents) -> None:
    @eventstorm.timed("t")
    async def work() -> int:
        await asyncio.sleep(0)
        assert not len(events)
        return 3

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(work()) == 3
    assert _only(events) == {}


def test_a_cancelled_task_is_recorded_and_stays_cancelled(events: CapturedEvents) -> None:
    @eventstorm.timed("t")
    async def work() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert _only(events) == {"error": {"type": "asyncio.exceptions.CancelledError"}}


def test_a_generator_keeps_send_throw_return_and_close(events: CapturedEvents) -> None:
    @eventstorm.timed("t")
    def talk() -> Iterator[Any]:
        try:
            got = yield 1
        except KeyError:
            got = "key"
        yield got
        return "done"

    generator: Any = talk()
    assert next(generator) == 1
    assert generator.send("hello") == "hello"
    with pytest.raises(StopIteration, match="done"):
        next(generator)
    generator = talk()
    next(generator)
    assert generator.throw(KeyError) == "key"
    generator.close()
    assert [set(data) for data in events.of("t")] == [{"duration"}, {"duration"}]


def test_an_asynchronous_generator_keeps_asend_athrow_and_aclose(events: CapturedEvents) -> None:
    closed = []

    @eventstorm.timed("t")
    async def talk() -> AsyncIterator[Any]:
        got: Any = 1
        try:
            while True:
                await asyncio.sleep(0)
                try:
                    got = yield got
                except KeyError as error:
                    got = repr(error)
                if got == "end":
                    return
                if got == "fail":
                    raise ZeroDivisionError
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main() -> None:
        generator: Any = talk()
        assert inspect.isasyncgen(generator)
        assert await generator.__anext__() == 1
        assert await generator.asend("a") == "a"
        # Twice, since the second one must reach the inner generator too.
        assert await generator.athrow(KeyError("x")) == "KeyError('x')"
        assert await generator.athrow(KeyError("y")) == "KeyError('y')"
        assert await generator.asend("b") == "b"
        with pytest.raises(StopAsyncIteration):
            await generator.asend("end")
        generator = talk()
        await generator.__anext__()
        await generator.aclose()
        generator = talk()
        await generator.__anext__()
        with pytest.raises(ZeroDivisionError):
            await generator.asend("fail")
        generator = talk()
        await generator.__anext__()
        with pytest.raises(OSError, match="thrown"):
            await generator.athrow(OSError("thrown"))

    asyncio.run(main())
    assert len(closed) == 4
    kinds = [data.get("error", {}).get("type") for data in events.of("t")]
    assert kinds == [None, None, "ZeroDivisionError", "OSError"]


def test_an_asynchronous_generator_that_ignores_its_end_is_told_off_as_without_timed(events: CapturedEvents) -> None:
    @eventstorm.timed("t")
    async def stubborn() -> AsyncIterator[int]:
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    async def main() -> None:
        generator: Any = stubborn()
        await generator.__anext__()
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            await generator.aclose()

    asyncio.run(main())
    assert len(events) == 1
