"""The sink, put together: receive -> ledger -> a queue and a writer for each store -> stores."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from eventstorm.endpoints import check_bind
from eventstorm.errors import SettingError
from eventstorm_sinks.closing import close_stores
from eventstorm_sinks.ledger import Ledger
from eventstorm_sinks.receive import Listener, Receiver
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.share import Share
from eventstorm_sinks.snapshot import SinkSnapshot, ledger_rows
from eventstorm_sinks.stores import Readable, open_store, redacted
from eventstorm_sinks.web import serve
from eventstorm_sinks.write import Writer

if TYPE_CHECKING:
    from eventstorm_router import Router
    from eventstorm_sinks.web.server import WebServer

__all__ = ["Sink"]

# How long the stores have, together, to take what waits when the sink stops.
FLUSH_S = 5.0
# And so long to close. What DuckDB has committed is safe before it is closed, so nothing is lost by not waiting longer.
CLOSE_S = 3.0
# A write that takes longer is a problem to tell of: twenty times what one should take.
LONG_WRITE_S = 10.0


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
    def readables(self) -> list[Readable]:
        """The stores, in the order of the settings."""
        return [writer.store for writer in self.writers]

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
            self.web = serve(self, settings)
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
        close_stores([(writer.url, writer.store) for writer in self.writers], CLOSE_S)

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
        rows = ledger_rows(self.ledger.snapshot(), accounts)
        return SinkSnapshot(time.time(), rows, tuple(writer.stats() for writer in self.writers), self.malformed)

    def problems(self) -> list[str]:
        """Return why the sink is not in order; empty when it receives and every store can write."""
        receiving = self._receiver.problems() if self._receiver else ["nothing is received: the sink is starting"]
        stats = [writer.stats() for writer in self.writers]
        failing = [f"{each.url}: cannot write: {each.last_error}" for each in stats if each.last_error]
        hanging = [
            f"{each.url}: a write has taken {each.writing_s:.0f} s so far"
            for each in stats
            if each.writing_s > LONG_WRITE_S
        ]
        return receiving + failing + hanging
