"""What a log record costs that becomes an event, against the standard library's QueueHandler.

Each is one `logger.info` with two arguments to format, the mean of 2,000 in a row: what the thread in the background
takes of the interpreter meanwhile is part of it, in both.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import queue
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from statistics import median
from typing import Any

from harness import Result, Subject, Worker, alternate, free_port, process, script, until

TOPIC = "log.record"


def run(quick: bool) -> list[Result]:
    """Measure."""
    rounds = 8 if quick else 60
    heard, unheard = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    with (
        process(*script("listener.py", heard, ""), ready="ready"),
        process(*script("listener.py", unheard), ready="ready"),
        contextlib.ExitStack() as stack,
    ):

        def worker(make: Callable[..., AbstractContextManager[Subject]], *arguments: object) -> Worker:
            started = Worker(make, *arguments)
            stack.callback(started.stop)
            return started

        workers = {
            "nothing": worker(handler_of_nothing),
            "queue": worker(queue_handler),
            "handler": worker(eventstorm_handler, heard, True),
            "instrument": worker(eventstorm_instrument, heard, True),
            "unheard": worker(eventstorm_handler, unheard, False),
        }
        samples = alternate(workers, rounds, lambda each: each.sample(2000))
    mean = {name: median(each) for name, each in samples.items()}
    return [
        _against("`EventstormHandler`, a record, heard / QueueHandler", mean["handler"], mean["queue"], 1),
        _against("`logging.instrument()`, the same / QueueHandler", mean["instrument"], mean["queue"], 1),
        _against(
            "`EventstormHandler`, a record, unheard / a handler of nothing", mean["unheard"], mean["nothing"], None
        ),
    ]


def _against(what: str, ours_ns: float, theirs_ns: float, at_most: float | None) -> Result:
    return Result(
        what, ours_ns / theirs_ns, "x", at_most=at_most, detail=f"{ours_ns:,.0f} ns against {theirs_ns:,.0f} ns"
    )


@contextmanager
def handler_of_nothing() -> Iterator[Subject]:
    """What `logging` itself takes: the record is made, and handled by nobody."""
    logger = _logger()
    logger.addHandler(logging.NullHandler())
    yield Subject(_record(logger))


@contextmanager
def queue_handler() -> Iterator[Subject]:
    """The standard library's QueueHandler; the other end formats nothing and writes nothing."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    logger = _logger()
    logger.addHandler(logging.handlers.QueueHandler(waiting))
    listener = logging.handlers.QueueListener(waiting, logging.NullHandler())
    listener.start()
    yield Subject(_record(logger), lambda: until(waiting.empty, 30))
    listener.stop()


@contextmanager
def eventstorm_handler(endpoint: str, heard: bool) -> Iterator[Subject]:
    """Ours, with a peer at `endpoint` that listens to records or does not."""
    from eventstorm_integrations.logging import EventstormHandler

    logger = _logger()
    logger.addHandler(EventstormHandler())
    with _recorded(endpoint, heard, _record(logger)) as subject:
        yield subject


@contextmanager
def eventstorm_instrument(endpoint: str, heard: bool) -> Iterator[Subject]:
    """All loggers instrumented, of which this one has no handler that does anything."""
    from eventstorm_integrations.logging import instrument

    logger = _logger()
    logger.addHandler(logging.NullHandler())
    instrument()
    with _recorded(endpoint, heard, _record(logger)) as subject:
        yield subject


@contextmanager
def _recorded(endpoint: str, heard: bool, record: Callable[[], object]) -> Iterator[Subject]:
    import eventstorm

    eventstorm.configure(endpoint=endpoint, service="bench")
    record()
    until(lambda: eventstorm.wanted(TOPIC) is heard and eventstorm.flush(timeout_s=0.1), 10)
    yield Subject(record, lambda: eventstorm.flush(timeout_s=10))
    assert bool(eventstorm.stats()["sent"]) is heard
    eventstorm.close()


def _logger() -> logging.Logger:
    logger = logging.getLogger("shop.orders")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


def _record(logger: logging.Logger) -> Callable[[], object]:
    number, customer = 4711, "Ada Lovelace"
    return lambda: logger.info("order %s of %s", number, customer)
