"""One page over all sinks that share stores: what they have stored, and what passes now. It stores nothing.

History, searches and the ledger come from the stores, whose books say what became of every event in whichever sink
that stored it. What is live comes from a subscription of its own; what that one misses is no loss of anybody's.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from eventstorm.endpoints import check_bind
from eventstorm.errors import SettingError
from eventstorm_sinks.booked import BookedStore
from eventstorm_sinks.closing import close_stores
from eventstorm_sinks.ledger import Ledger
from eventstorm_sinks.receive import Listener, Receiver
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.snapshot import SinkSnapshot, ledger_rows
from eventstorm_sinks.stores import Readable, open_beside_sinks, redacted
from eventstorm_sinks.web import serve
from eventstorm_sinks.write import StoreAccount

if TYPE_CHECKING:
    from eventstorm_sinks.web.server import WebServer

__all__ = ["Overview"]

# A store that answers at all does so by then: the page does not begin with a ledger that knows of nothing.
FIRST_BOOKS_S = 3.0
CLOSE_S = 3.0


class Overview:
    """Serves the page at ``settings.http`` from `start` (or ``with``) until `stop`. Starts once.

    Of the settings it takes ``stores``, ``egress``, ``topics``, ``http``, ``insecure``, and those of the stores.
    """

    def __init__(self, settings: SinkSettings) -> None:
        """Check `settings`.

        Raises:
            SettingError: there is no address, or it is open to other machines, and ``settings.insecure`` is not set.
        """
        if not settings.http:
            raise SettingError("sink.http: empty; a page needs an address: --http 127.0.0.1:5580")
        check_bind(settings.http, "sink.http", insecure=settings.insecure)
        if len(set(settings.stores)) != len(settings.stores):
            raise SettingError(f"sink.stores: {' '.join(map(redacted, settings.stores))} names a store twice")
        self.settings = settings
        self.stores: list[BookedStore] = []
        self.web: WebServer | None = None
        self._ledger = Ledger()
        # What it says of itself would be a stream that no sink stores.
        self._receiver = Receiver(settings.egress, settings.topics, self._ledger, (), silent=True)

    @property
    def readables(self) -> list[Readable]:
        """The stores, in the order of the settings."""
        return [each.store for each in self.stores]

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` with every message, on the receiving thread: see `eventstorm_sinks.receive.Listener`."""
        self._receiver.add_listener(listener)

    def start(self) -> None:
        """Open the stores for reading, and serve the page. A store that is away is tried again and again.

        Raises:
            SettingError: a store's URL is not understood, or it cannot be read beside the sinks that write it.
            StartError: a store cannot be opened, an address is in use, or something is not installed.
        """
        try:
            for url in self.settings.stores:
                self.stores.append(BookedStore(redacted(url), open_beside_sinks(url, self.settings)))
            self.web = serve(self, self.settings)
            self._receiver.start()
            for each in self.stores:
                each.start()
            wait_until_s = time.monotonic() + FIRST_BOOKS_S
            for each in self.stores:
                each.wait(max(wait_until_s - time.monotonic(), 0))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop serving and receiving, and close the stores, within seven seconds. A second call does nothing."""
        for each in self.stores:
            each.stop()
        if self.web:
            self.web.stop()
            self.web = None
        self._receiver.stop()
        close_stores([(each.name, each.store) for each in self.stores], CLOSE_S)

    def __enter__(self) -> Overview:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def snapshot(self) -> SinkSnapshot:
        """Return the books as they were read last, and what has been received here. Safe from any thread.

        What waits in the sinks' queues, and which messages they refused as malformed, their stores cannot tell.
        """
        received = [replace(each, lost_source=0, lost_way=0) for each in self._ledger.snapshot()]
        accounts = [
            (each.name, {key: StoreAccount(book, 0, 0) for key, book in each.books.items()}) for each in self.stores
        ]
        return SinkSnapshot(time.time(), ledger_rows(received, accounts), (), self._receiver.malformed)

    def problems(self) -> list[str]:
        """Return why something is not in order; empty when it receives, and every store can be read."""
        return [*self._receiver.problems(), *(each.problem for each in self.stores if each.problem)]
