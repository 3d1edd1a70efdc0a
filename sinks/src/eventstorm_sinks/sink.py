"""The sink, put together: receive -> ledger -> a queue and a writer for each store -> stores."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from eventstorm.endpoints import check_bind
from eventstorm.errors import SettingError, StartError
from eventstorm_sinks.batch import Source, StreamKey
from eventstorm_sinks.ledger import Ledger, StreamAccount
from eventstorm_sinks.receive import Listener, Receiver
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import Store, open_store, redacted
from eventstorm_sinks.write import StoreAccount, Writer, WriterStats

if TYPE_CHECKING:
    from eventstorm_router import Router
    from eventstorm_sinks.web.server import WebServer

__all__ = ["LedgerRow", "LedgerRowStore", "Sink", "SinkSnapshot"]

log = logging.getLogger(__name__)

# How long the stores have, together, to take what waits when the sink stops.
FLUSH_S = 5.0
# And so long to close. What DuckDB has committed is safe before it is closed, so nothing is lost by not waiting longer.
CLOSE_S = 3.0


@dataclass(frozen=True, slots=True)
class LedgerRowStore:
    """What became of one stream in one store, over all the time that the store has kept its books."""

    store: str
    stored: int
    refused: int
    overflowed: int
    """Dropped in front of the store, whose queue was full."""
    lost_source: int
    lost_way: int
    """Lost on the way as this store saw it: also what was received but not stored when an earlier run was killed."""
    pending: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What became of one topic of one source: since this sink started, and in each store since its books began."""

    topic: str
    source: Source
    tid: int
    """The topic's number in the source; `ledger.REMAINDER_TID`: the sum of streams not kept one by one any more."""
    received: int
    duplicates: int
    lost_source: int
    lost_way: int
    size_bytes: int
    last_seen_s: float | None
    """Unix time; None if this stream is known only from a store's books."""
    closed: bool
    stores: tuple[LedgerRowStore, ...]


@dataclass(frozen=True, slots=True)
class SinkSnapshot:
    """A sink at one moment."""

    at_s: float
    rows: tuple[LedgerRow, ...]
    stores: tuple[WriterStats, ...]
    malformed: dict[str, int]


class Sink:
    """Receives events and writes them into stores, from `start` (or ``with``) until `stop`. Starts once.

    With ``settings.embed_router`` it runs a router itself and listens at ``settings.ingress``. With ``settings.http``
    it serves the page and the HTTP API, which needs the extra ``web``.
    """

    def __init__(self, settings: SinkSettings, ingress: str | None = None) -> None:
        """Check `settings`. If the router runs elsewhere, the sink's own events are published at its `ingress`.

        Raises:
            SettingError: an address is open to other machines, and ``settings.insecure`` is not set.
        """
        if settings.embed_router:
            check_bind(settings.ingress, "sink.ingress", insecure=settings.insecure)
            check_bind(settings.egress, "sink.egress", insecure=settings.insecure)
        if settings.http:
            check_bind(settings.http, "sink.http", insecure=settings.insecure)
        self.settings = settings
        self.share = Share.parse(settings.share, settings.share_by, "sink.share")
        self.ledger = Ledger(self.share)
        self.router: Router | None = None
        self.web: WebServer | None = None
        self.ingress = settings.ingress if settings.embed_router else ingress
        """Where the router listens for sources, if that is known; once started, with the port that the system chose."""
        self.egress = settings.egress
        """The router's egress: once started, with the port that the system chose."""
        self.writers: list[Writer] = []
        self._listeners: list[Listener] = []
        self._receiver: Receiver | None = None

    @property
    def stores(self) -> list[tuple[str, Store, WriterStats]]:
        """The stores in the order of the settings: URL (without password), the store, its writer's counters."""
        return [(writer.url, writer.store, writer.stats()) for writer in self.writers]

    @property
    def receiving(self) -> bool:
        """Whether messages are received now."""
        return self._receiver is not None and self._receiver.running

    @property
    def malformed(self) -> dict[str, int]:
        """How many messages were not understood, by reason."""
        return self._receiver.malformed if self._receiver else {}

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` with every message, on the receiving thread: see `eventstorm_sinks.receive.Listener`."""
        self._listeners.append(listener)
        if self._receiver:
            self._receiver.add_listener(listener)

    def start(self) -> None:
        """Open the stores, start the embedded router and the threads, and serve the page.

        Raises:
            SettingError: a store's URL is not understood.
            StartError: a store cannot be opened, an address is in use, or something is not installed.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        settings = self.settings
        if len(set(settings.stores)) != len(settings.stores):
            raise SettingError(f"sink.stores: {' '.join(map(redacted, settings.stores))} names a store twice")
        for url in settings.stores:
            writer = Writer(
                redacted(url),
                open_store(url, settings),
                queue_bytes=settings.queue_bytes,
                commit_s=settings.commit_s,
                batch_events=settings.batch_events,
                drop_oldest=settings.queue_drop == "oldest",
                share=self.share,
            )
            self.writers.append(writer)
            self.ledger.go_on_from(writer.books(), time.time())
        if settings.embed_router:
            self._start_router()
        self._receiver = Receiver(self.egress, settings.topics, self.ledger, self.writers, self.ingress, self.share)
        for listener in self._listeners:
            self._receiver.add_listener(listener)
        if settings.http:
            # Before anything is received, so that what the page listens to is there from the first event on.
            self._start_web()
        for writer in self.writers:
            writer.start()
        self._receiver.start()

    def _start_router(self) -> None:
        from eventstorm_router import Router, RouterSettings

        settings = self.settings
        self.router = Router(
            RouterSettings(ingress=settings.ingress, egress=settings.egress, insecure=settings.insecure)
        )
        self.router.start()
        self.ingress, self.egress = self.router.ingress, self.router.egress

    def _start_web(self) -> None:
        try:
            from eventstorm_sinks.web.server import WebServer
        except ImportError as error:
            raise StartError(
                f"the page needs more than is installed ({error}); install it with: "
                "pip install 'eventstorm-sinks[web]', or do without: --http ''"
            ) from None
        self.web = WebServer(self, self.settings)
        self.web.start()

    def stop(self) -> None:
        """Stop receiving, write what waits, close the stores. A second call does nothing.

        Within about ten seconds: a store that hangs is left behind, with what it did not take counted as lost.
        """
        if self.web:
            self.web.stop()
            self.web = None
        if self._receiver:
            self._receiver.stop()
        if self.router:
            self.router.stop()
            self.router = None
        stop_by_s = time.monotonic() + FLUSH_S
        for writer in self.writers:
            writer.close(max(stop_by_s - time.monotonic(), 0.1))
        closing = [
            threading.Thread(target=_close, args=(writer,), name=f"eventstorm-close-{writer.url}", daemon=True)
            for writer in self.writers
        ]
        for thread in closing:
            thread.start()
        stop_by_s = time.monotonic() + CLOSE_S
        for writer, thread in zip(self.writers, closing, strict=True):
            thread.join(max(stop_by_s - time.monotonic(), 0))
            if thread.is_alive():
                log.error("%s: not closed within %g s; left behind", writer.url, CLOSE_S)

    def __enter__(self) -> Sink:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def snapshot(self) -> SinkSnapshot:
        """Return the ledger and the stores as they are now. Safe from any thread.

        What is received while this is put together may be in some figures and not yet in others: exact at a quiet
        moment.
        """
        accounts = [(writer.url, writer.accounts()) for writer in self.writers]
        received = {StreamKey(each.source.id, each.tid): each for each in self.ledger.snapshot()}
        # What waits for a store may be of a stream that has no book yet, and that the ledger has summed up meanwhile:
        # its topic is not known here until it is written.
        known = ((key for key, account in books.items() if account.book) for _, books in accounts)
        keys = set(received).union(*known)
        rows = [_row(received.get(key), [(url, books.get(key)) for url, books in accounts]) for key in keys]
        rows.sort(key=lambda row: (row.topic, row.source.host, row.source.service, row.source.pid, row.source.id))
        return SinkSnapshot(time.time(), tuple(rows), tuple(writer.stats() for writer in self.writers), self.malformed)


def _close(writer: Writer) -> None:
    try:
        writer.store.close()
    except Exception:
        log.exception("%s: could not be closed", writer.url)


def _row(account: StreamAccount | None, stores: list[tuple[str, StoreAccount | None]]) -> LedgerRow:
    books = [store.book for _, store in stores if store and store.book]
    known = account or books[0]
    return LedgerRow(
        topic=known.topic,
        source=known.source,
        tid=known.tid,
        received=account.received if account else 0,
        duplicates=account.duplicates if account else 0,
        lost_source=account.lost_source if account else 0,
        lost_way=account.lost_way if account else 0,
        size_bytes=account.size_bytes if account else 0,
        last_seen_s=account.last_seen_s if account else None,
        closed=account.closed if account else known.closed,
        stores=tuple(_store(url, store) for url, store in stores),
    )


def _store(url: str, account: StoreAccount | None) -> LedgerRowStore:
    if account is None:
        return LedgerRowStore(url, 0, 0, 0, 0, 0, 0)
    book = account.book
    if book is None:
        return LedgerRowStore(url, 0, 0, account.overflowed, 0, 0, account.pending)
    return LedgerRowStore(
        url,
        book.stored,
        book.refused,
        book.overflowed + account.overflowed,
        book.lost_source,
        book.lost_way,
        account.pending,
    )
