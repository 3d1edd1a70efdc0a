"""Many requests at the same time, but no more than so many; and pages of rows, one request after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from cassandra.cluster import ResultSet, Session

__all__ = ["rows_of", "run_all"]


def run_all(session: Session, statements: Iterable[Any], most: int) -> None:
    """Execute statements, `most` at a time, and wait until none is under way any more.

    Raises:
        Exception: the first error; what follows it is not begun.
    """
    free = threading.Semaphore(most)
    errors: list[BaseException] = []

    def settle(answer: object, unanswered: list[None]) -> None:
        try:
            unanswered.pop()
        except IndexError:  # of a node beside which another one was asked, and which answers after all
            return
        if isinstance(answer, BaseException):
            errors.append(answer)
        free.release()

    try:
        for statement in statements:
            free.acquire()
            if errors:
                free.release()
                break
            try:
                once: tuple[list[None]] = ([None],)
                session.execute_async(statement).add_callbacks(settle, settle, callback_args=once, errback_args=once)
            except BaseException:
                free.release()
                raise
    finally:
        # Each ends within the session's timeout, so this does too.
        for _ in range(most):
            free.acquire()
    for error in errors:
        raise error


def rows_of(session: Session, statement: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that a statement asks for which may be repeated, page by page.

    Each page is a request of its own. Where all are one request, as when the driver's answer is iterated, it takes the
    late answer of a node beside which another one was asked for that to its next question: pages come twice, or never.

    Raises:
        DriverException: a page cannot be had.
    """
    rows, paging_state = _page(session, statement, None)
    yield from rows
    while paging_state is not None:
        rows, paging_state = _page(session, statement, paging_state)
        yield from rows


def _page(session: Session, statement: Any, paging_state: bytes | None) -> tuple[list[tuple[Any, ...]], bytes | None]:
    """Return some rows, and what to ask for the next ones with; None after the last."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    future = session.execute_async(statement, paging_state=paging_state)
    # Both as of the first answer, whatever comes a moment later.
    future.add_callbacks(lambda rows: answers.put((rows, ResultSet(future, rows).paging_state)), answers.put)
    answer = answers.get()
    if isinstance(answer, BaseException):
        raise answer
    rows, following = answer
    return rows, following
