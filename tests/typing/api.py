"""Every public name as its users write it, for the type checkers; this file is never run."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from django.core.handlers.wsgi import WSGIHandler  # type: ignore[import-untyped]
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar
from starlette.applications import Starlette

import eventstorm
import eventstorm.testing
import eventstorm_integrations
import eventstorm_integrations.django
import eventstorm_integrations.fastapi
import eventstorm_integrations.flask
import eventstorm_integrations.gunicorn
import eventstorm_integrations.litestar
import eventstorm_integrations.starlette
import eventstorm_integrations.uvicorn
import eventstorm_integrations.werkzeug
import eventstorm_integrations.wsgiref
import eventstorm_router
import eventstorm_sinks
from eventstorm.context import common_fields
from eventstorm.settings import SdkSettings
from eventstorm.testing import CapturedEvent, CapturedEvents
from eventstorm_integrations.asgi import ASGIApp, Message, Receive, Scope, Send
from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import Emits, Hook, HttpSettings
from eventstorm_integrations.logging import EventstormHandler, instrument, uninstrument
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from eventstorm_router import Router, RouterSettings
from eventstorm_sinks.batch import Batch, Book, StoredEvent, StreamKey
from eventstorm_sinks.batch import Source as StoredSource
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import (
    Reader,
    Series,
    SqlResult,
    Store,
    StoreUnavailable,
    TopicSummary,
    open_store,
)
from eventstorm_sinks.stores.conformance import StoreConformance
from eventstorm_sinks.stores.where import Condition

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

version: str = eventstorm.__version__

accepted: bool = eventstorm.emit("shop.order")
accepted = eventstorm.emit("shop.order", {"total": 42.5}, items=3)
accepted = eventstorm.emit("shop.order", topic="a field", event="another")
accepted = eventstorm.emit_at("shop.order", {"total": 42.5}, 1_700_000_000.5)
accepted = eventstorm.emit_encoded("shop.order", b"\x05\0\0\0\0")
accepted = eventstorm.emit_encoded("shop.order", b"\x05\0\0\0\0", 1_700_000_000.5)
common: Mapping[str, Any] | None = common_fields.get()
common_fields.set({"trace_id": "0af7651916cd43dd8448eb211c80319c"})
wanted: bool = eventstorm.wanted("debug.sql")
stats: dict[str, Any] = eventstorm.stats()
flushed: bool = eventstorm.flush()
flushed = eventstorm.flush(timeout_s=1.0)
eventstorm.close()
eventstorm.close(timeout_s=0.5)
eventstorm.configure(endpoint="tcp://127.0.0.1:5550", service="shop", buffer_bytes=2**20)

with eventstorm.timed("shop.checkout", user=7) as event:
    event["items"] = 2


@eventstorm.timed("shop.plain")
def plain(total: float) -> str:
    """Keep its type."""
    return str(total)


@eventstorm.timed("shop.asynchronous")
async def asynchronous(total: float) -> str:
    """Keep its type."""
    return str(total)


@eventstorm.timed("shop.generator")
def generator() -> Iterator[int]:
    """Keep its type."""
    yield 1


@eventstorm.timed("shop.asynchronous_generator")
async def asynchronous_generator() -> AsyncIterator[int]:
    """Keep its type."""
    yield 1


async def use() -> None:
    """Use what was decorated."""
    text: str = plain(1.5)
    text = await asynchronous(1.5)
    number: int = next(generator())
    async for number in asynchronous_generator():
        print(text, number)


source = eventstorm.Source(SdkSettings(endpoint="tcp://127.0.0.1:5550"), reserved=True)
source = eventstorm.Source()
accepted = source.emit("eventstorm.stats", {"uptime": 1.0})
accepted = source.emit_encoded("eventstorm.stats", b"\x05\0\0\0\0")
wanted = source.wanted("eventstorm.stats")
identity: bytes = source.id
settings: SdkSettings | None = source.settings
example: str = source.example("unencodable")
stats = source.stats()
flushed = source.flush(1.0)
source.configure(SdkSettings())
source.close(1.0)

with eventstorm.testing.capture_events() as events:
    captured: CapturedEvents = events
    first: CapturedEvent = events[0]
    topic: str = first.topic
    data: dict[str, Any] = first.data
    ts: float = first.ts
    count: int = len(events)
    orders: list[dict[str, Any]] = events.of("shop.order")
    topics: list[str] = [each.topic for each in events]

try:
    eventstorm.configure(no_such_setting=1)
except eventstorm.SettingError as error:
    root: eventstorm.EventstormError = error
except eventstorm.StartError as error:
    root = error
except eventstorm.WireError as error:
    reason: str = error.reason

counts: dict[str, int] = eventstorm_integrations.stats()


def drop_probes(hit: dict[str, Any], request: Mapping[str, Any]) -> bool:
    """Be a hook."""
    hit["tenant"] = request.get("HTTP_X_TENANT")
    return bool(hit["url"]["path"] != "/probe")


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Be an application."""
    start_response("200 OK", [])
    return []


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Be an application."""
    message: Message = {"type": "http.response.start", "status": 200, "headers": []}
    await send(message)


http_settings = HttpSettings(excluded_urls=("^/health$",), sample_rate=0.1, trusted_proxies=("10.0.0.0/8",))
wsgi_app: WSGIApplication = WsgiMiddleware(wsgi)
wsgi_app = WsgiMiddleware(wsgi, http_settings, hook=drop_probes, source=source)
asgi_app: ASGIApp = AsgiMiddleware(asgi)
asgi_app = AsgiMiddleware(asgi, http_settings, hook=drop_probes, source=source)

flask_app, starlette_app, fastapi_app = Flask("shop"), Starlette(), FastAPI()
eventstorm_integrations.flask.instrument_app(flask_app)
eventstorm_integrations.flask.instrument_app(flask_app, http_settings, hook=drop_probes, source=source)
eventstorm_integrations.flask.uninstrument_app(flask_app)
eventstorm_integrations.flask.instrument(http_settings, hook=drop_probes, source=source)
eventstorm_integrations.flask.uninstrument()
eventstorm_integrations.starlette.instrument_app(starlette_app, http_settings, hook=drop_probes, source=source)
eventstorm_integrations.starlette.uninstrument_app(starlette_app)
eventstorm_integrations.starlette.instrument()
eventstorm_integrations.starlette.uninstrument()
eventstorm_integrations.fastapi.instrument_app(fastapi_app, http_settings, hook=drop_probes, source=source)
eventstorm_integrations.fastapi.uninstrument_app(fastapi_app)
eventstorm_integrations.fastapi.instrument(http_settings, hook=drop_probes, source=source)
eventstorm_integrations.fastapi.uninstrument()
eventstorm_integrations.litestar.instrument_app(Litestar([]), http_settings, hook=drop_probes, source=source)
eventstorm_integrations.litestar.uninstrument_app(Litestar([]))
eventstorm_integrations.litestar.instrument()
eventstorm_integrations.litestar.uninstrument()
eventstorm_integrations.django.instrument_app(WSGIHandler(), http_settings, hook=drop_probes, source=source)
eventstorm_integrations.django.uninstrument_app(WSGIHandler())
eventstorm_integrations.django.instrument()
eventstorm_integrations.django.uninstrument()

eventstorm_integrations.gunicorn.instrument(http_settings, hook=drop_probes, source=source)
eventstorm_integrations.gunicorn.uninstrument()
eventstorm_integrations.uvicorn.instrument(http_settings, hook=drop_probes, source=source)
eventstorm_integrations.uvicorn.uninstrument()
eventstorm_integrations.werkzeug.instrument(http_settings, hook=drop_probes, source=source)
eventstorm_integrations.werkzeug.uninstrument()
eventstorm_integrations.wsgiref.instrument(http_settings, hook=drop_probes, source=source)
eventstorm_integrations.wsgiref.uninstrument()
hook: Hook = drop_probes
emits: Emits = source

handler: logging.Handler = EventstormHandler()
handler = EventstormHandler(logging.INFO, source=source)
handler = EventstormHandler("INFO")
instrument()
uninstrument()

version = eventstorm_router.__version__
version = eventstorm_integrations.__version__
version = eventstorm_sinks.__version__

with Router(RouterSettings(ingress="tcp://127.0.0.1:0", egress="tcp://127.0.0.1:0")) as router:
    endpoint: str = router.ingress
    endpoint = router.egress
    failure: str | None = router.failure
router = Router(RouterSettings())
router.start()
router.stop()


class MemoryStore:
    """A store of one's own."""

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Open it."""
        self.stored: dict[bytes, StoredEvent] = {}
        self.accounts: dict[StreamKey, Book] = {}
        if location == "away":
            raise StoreUnavailable("away")

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Store events and books."""
        for batch in batches:
            source: StoredSource = batch.source
            for each in batch.events:
                identity: bytes = batch.id_of(each)
                self.stored[identity] = StoredEvent(identity, each.ts_ms, batch.topic, source, each.data)
        self.accounts.update({book.key: book for book in books})

    def books(self) -> list[Book]:
        """Return the books."""
        return list(self.accounts.values())

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Yield what is stored."""
        return iter(self.stored.values())

    def maintain(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class TestMemoryStore(StoreConformance):
    """The kit that tests a store."""

    @pytest.fixture
    def url(self) -> str:
        """Where the store is."""
        return "memory:"


store: Store = MemoryStore("", SinkSettings())
store = open_store("duckdb:events.duckdb", SinkSettings())
if isinstance(store, Reader):
    summary: list[TopicSummary] = store.topics()
    lines: list[Series] = store.series("cpu.usage", "system.cpu.utilization", "avg", 0, 60, 10, by="source.host")
    newest: list[StoredEvent] = store.recent(["shop."], "text", None, 10)
    answer: SqlResult = store.sql("FROM events", max_rows=10, timeout_s=1.0)
