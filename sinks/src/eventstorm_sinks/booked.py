"""The books of a store that others write, read again and again by a thread: whoever looks at them never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from eventstorm_sinks._bounded_log import BoundedLog
from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.stores import Readable

__all__ = ["BookedStore"]

log = logging.getLogger(__name__)

# Books are read so often. There may be tens of thousands of them: then that is done a fifth of the time, and not rarer
# than that nobody takes them for new any more.
READ_S, REST, LONGEST_REST_S = 1.0, 4, 10.0
LONG_READ_S = 10.0
"""A store that takes longer to say what its books are is a problem to tell of."""


class BookedStore:
    """A store and the books that it had a moment ago, from `start` until `stop`.

    Args:
        name: what the store is called, without its password.
        store: read by this object's thread, and by whoever asks it questions; not closed by it.
    """

    def __init__(self, name: str, store: Readable) -> None:
        self.name, self.store = name, store
        self._books: Mapping[StreamKey, Book] = {}
        self._error = "its books have not been read yet"
        self._began_s = 0.0
        self._log = BoundedLog(log)
        self._tried, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventstorm-books", daemon=True)

    @property
    def books(self) -> Mapping[StreamKey, Book]:
        """The books as they were read last; none before that."""
        return self._books

    @property
    def problem(self) -> str:
        """Why the books are older than they should be; empty when all is well."""
        began_s = self._began_s
        waited_s = time.monotonic() - began_s if began_s else 0.0
        if waited_s > LONG_READ_S:
            return f"{self.name}: has not answered for {waited_s:.0f} s"
        return f"{self.name}: cannot be read: {self._error}" if self._error else ""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait until it has been tried to read them, but no longer than that."""
        self._tried.wait(timeout_s)

    def stop(self) -> None:
        """Tell the thread to end; it does when the store answers, or its time for that is over."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began_s = self._began_s = time.monotonic()
            rest_s = READ_S
            try:
                self._books = {each.key: each for each in self.store.books()}
                self._error = ""
                rest_s = min(max(READ_S, REST * (time.monotonic() - began_s)), LONGEST_REST_S)
            except Exception as error:  # of a store that is away; and what a plug-in raises must not end the reading
                self._error = str(error).removeprefix(f"{self.name}: ") or type(error).__name__
                if not self._stopping.is_set():
                    self._log.warning(
                        type(error).__name__, "%s: cannot be read, trying again: %s", self.name, self._error
                    )
            self._began_s = 0.0
            self._tried.set()
            self._stopping.wait(rest_s)
