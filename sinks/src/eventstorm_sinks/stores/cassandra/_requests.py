"""Many requests at the same time, but no more than so many."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from cassandra.cluster import Session

__all__ = ["run_all"]


def run_all(session: Session, statements: Iterable[Any], most: int) -> None:
    """Execute statements, `most` at a time, and wait until none is under way any more.

    Raises:
        Exception: the first error; what follows it is not begun.
    """
    free = threading.Semaphore(most)
    errors: list[BaseException] = []

    def succeed(_: object) -> None:
        free.release()

    def fail(error: BaseException) -> None:
        errors.append(error)
        free.release()

    try:
        for statement in statements:
            free.acquire()
            if errors:
                free.release()
                break
            try:
                session.execute_async(statement).add_callbacks(succeed, fail)
            except BaseException:
                free.release()
                raise
    finally:
        # Each ends within the session's timeout, so this does too.
        for _ in range(most):
            free.acquire()
    for error in errors:
        raise error
