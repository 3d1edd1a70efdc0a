"""The HTTP API: see ``docs/http-api.md``. Everything that asks a store runs in a few threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from eventstorm.errors import EventstormError
from eventstorm_sinks.live import Live
from eventstorm_sinks.live_tail import EventView, Filter, view
from eventstorm_sinks.live_values import json_text
from eventstorm_sinks.panels import RANGES
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Readable, Reader, Series, StoreUnavailable
from eventstorm_sinks.stores.asked_where import AskedWhere
from eventstorm_sinks.stores.where import Condition
from eventstorm_sinks.web import metrics
from eventstorm_sinks.web.account import ServedSink, first_reader, ledger_document
from eventstorm_sinks.web.feed import Feed
from eventstorm_sinks.web.history import history
from eventstorm_sinks.web.parameters import Parameters, Problem

__all__ = ["Api"]

T = TypeVar("T")

THREADS = 4
MAX_WAITING = 32
"""Requests that may wait for a thread; more are told to come back."""
MAX_EVENTS = 1000
MAX_POINTS = 20_000
MAX_BODY_BYTES = 1 << 20
MAX_TOPICS_ASKED = 200


class Api:
    """The handlers of the HTTP API.

    Args:
        sink: what is served.
        settings: the upper bounds of queries.
        live: for where the live window begins.
        feed: for how many clients watch.
    """

    def __init__(self, sink: ServedSink, settings: SinkSettings, live: Live, feed: Feed) -> None:
        self._sink, self._settings, self._live, self._feed = sink, settings, live, feed
        self._pool = ThreadPoolExecutor(THREADS, "eventstorm-queries")
        # Apart, so that whoever watches over this process gets an answer while long queries fill the other.
        self._watch_pool = ThreadPoolExecutor(1, "eventstorm-watch")
        self._awaited: dict[str, asyncio.Future[Any]] = {}
        """What was asked of the watch pool, by name, and has not begun."""
        self._running: dict[ThreadPoolExecutor, int] = {}
        self._closing = threading.Event()

    def close(self) -> None:
        """Cancel what runs and take no more."""
        self._closing.set()
        for pool in (self._pool, self._watch_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    async def topics(self, request: Request) -> Response:
        """``GET /api/topics``."""
        Parameters(request).done()
        return _json({"topics": await self._ask(self._reader().topics)})

    async def series(self, request: Request) -> Response:
        """``GET /api/series``."""
        given = Parameters(request)
        topic, field, by = given.text("topic"), given.text("field") or None, given.text("by") or None
        aggregate = given.text("aggregate", "avg" if field else "count")
        step_s = given.number("step", 1, least=1)
        now_s = int(time.time())
        stop_s = given.number("stop", now_s + 1, least=0)
        start_s = given.number("start", stop_s - 3600, least=0)
        where = given.conditions("where")
        given.done()
        # Outwards to whole steps: a step that is cut off would show too little.
        start_s, stop_s = start_s // step_s * step_s, -(-stop_s // step_s) * step_s
        if (stop_s - start_s) // step_s > MAX_POINTS:
            least_s = -(-(stop_s - start_s) // MAX_POINTS)
            raise Problem(f"step: {step_s} s would give more than {MAX_POINTS} points; use {least_s} or more")
        store, reader = self._store()

        def ask() -> list[Series]:
            asked = self._where(store, reader, where)
            return asked.series(topic, field, aggregate, start_s, stop_s, step_s, by)

        found = await self._ask(ask)
        return _json({"start": start_s, "stop": stop_s, "step": step_s, "series": found})

    async def history(self, request: Request) -> Response:
        """``GET /api/history``: all panels of the page, before its live window."""
        given = Parameters(request)
        span_s, until_s = given.number("span", RANGES[0].span_s), given.number("until", least=0)
        given.done()
        span = next((each for each in RANGES if each.span_s == span_s), None)
        if span is None:
            raise Problem(f"span: {span_s}: there are {', '.join(str(each.span_s) for each in RANGES)}")
        reader, now_s = self._reader(), int(time.time())
        return _json(await self._ask(lambda: history(reader, span, now_s, min(until_s, now_s + 1))))

    async def events(self, request: Request) -> Response:
        """``GET /api/events``: the newest events."""
        given = Parameters(request)
        topics, prefix, text = given.texts("topic"), given.text("prefix"), given.text("text")
        before_ms = given.number("before_ms") if given.has("before_ms") else None
        limit = given.number("limit", 50, least=1, most=MAX_EVENTS)
        system = given.flag("system", True)
        where = given.conditions("where")
        given.done()
        if len(topics) > MAX_TOPICS_ASKED:
            raise Problem(f"topic: {len(topics)} of them; {MAX_TOPICS_ASKED} are allowed, or a subtree as http.")
        store, reader = self._store()
        wanted = Filter(topic=prefix, system=system)

        def ask() -> list[EventView]:
            asked = topics
            if not topics and (prefix or not system):
                asked = [each.topic for each in reader.topics() if wanted.takes_topic(each.topic)][:MAX_TOPICS_ASKED]
                if not asked:
                    return []
            found = self._where(store, reader, where).recent(asked, text, before_ms, limit)
            return [view(each.id, each.ts_ms, each.topic, *each.source[1:], each.data) for each in found]

        return _json({"events": await self._ask(ask)})

    async def event(self, request: Request) -> Response:
        """``GET /api/event``: one event's whole document, as text of Extended JSON."""
        given = Parameters(request)
        topic, ts_ms, id = given.text("topic"), given.number("ts_ms"), given.text("id")
        given.done()
        store, _ = self._store()

        def ask() -> str | None:
            for each in store.read([topic], ts_ms, ts_ms + 1):
                if each.id.hex() == id:
                    return json_text(each.data)
            return None

        text = await self._ask(ask)
        if text is None:
            raise Problem(f"id: no event {id[:60]!r} of {topic[:200]!r} at that time is stored", 404)
        return _json({"text": text})

    async def sql(self, request: Request) -> Response:
        """``GET`` and ``POST /api/sql``."""
        if request.method == "POST":
            if request.headers.get("x-eventstorm") != "1":
                raise Problem("X-Eventstorm: a POST needs this header with the value 1", 403)
            asked = await _body(request)
        else:
            given = Parameters(request)
            rows = given.number("rows", self._settings.sql_rows, least=1)
            asked = _SqlQuery(given.text("query"), rows, given.seconds("timeout_s", self._settings.sql_timeout_s))
            given.done()
        if not asked.query.strip():
            raise Problem("query: empty; ask for example: SELECT topic, count(*) FROM events GROUP BY topic")
        return await self._answer_sql(request, asked)

    async def _answer_sql(self, request: Request, asked: _SqlQuery) -> Response:
        bounds = self._settings
        rows = min(bounds.sql_rows, max(1, asked.rows or bounds.sql_rows))
        timeout_s = min(bounds.sql_timeout_s, asked.timeout_s if asked.timeout_s is not None else bounds.sql_timeout_s)
        if not timeout_s > 0:
            raise Problem(f"timeout_s: {timeout_s} is too small; it must be more than 0")
        reader, cancelled = self._reader(), threading.Event()
        started_s = time.monotonic()
        query = asyncio.ensure_future(
            self._ask(lambda: reader.sql(asked.query, max_rows=rows, timeout_s=timeout_s, cancelled=cancelled))
        )
        leaving = asyncio.ensure_future(_disconnected(request))
        closing = asyncio.ensure_future(self._closed())
        try:
            await asyncio.wait({query, leaving, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not query.done():
                cancelled.set()
            return _json(await query)
        except StoreUnavailable as error:
            raise Problem(str(error), 503) from None
        except EventstormError as error:
            # The reader has one error for all; what took its whole time was out of time.
            raise Problem(str(error), 408 if time.monotonic() - started_s >= timeout_s else 400) from None
        finally:
            cancelled.set()
            for task in (leaving, closing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def ledger(self, request: Request) -> Response:
        """``GET /api/ledger``."""
        Parameters(request).done()
        document = await self._watch("ledger", lambda: msgspec.json.encode(ledger_document(self._sink.snapshot())))
        return Response(document, media_type="application/json")

    async def health(self, request: Request) -> Response:
        """``GET /healthz``."""
        found = await self._watch("health", self._sink.problems)
        return _json({"status": "failing" if found else "ok", "problems": found}, 503 if found else 200)

    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``."""
        text = await self._watch("metrics", lambda: metrics.render(self._sink.snapshot(), self._feed.clients))
        return Response(text, media_type=metrics.CONTENT_TYPE)

    def _reader(self) -> Reader:
        return self._store()[1]

    def _store(self) -> tuple[Readable, Reader]:
        found = first_reader(self._sink)
        if found is None:
            raise Problem("no store here answers questions; add one: --store duckdb:events.duckdb", 503)
        return found

    def _where(self, store: Readable, reader: Reader, where: Sequence[Condition]) -> Reader | AskedWhere:
        """Return who answers questions about the events of which conditions hold: without any, the store itself."""
        return AskedWhere(store, reader, where, self._settings.sql_timeout_s) if where else reader

    async def _ask(self, question: Callable[[], T]) -> T:
        """Run a `question` to a store on one of the threads."""
        return await self._run(self._pool, question)

    async def _watch(self, name: str, question: Callable[[], T]) -> T:
        """Answer a `question` about this process, which no query may hold up.

        All who ask before work on the answer begins get the same one: with very many sources it takes seconds.
        """
        answer = self._awaited.get(name)
        if answer is None:

            def begin() -> T:
                self._awaited.pop(name, None)
                return question()

            def done(answer: asyncio.Future[Any]) -> None:
                if self._awaited.get(name) is answer:  # it failed before it began
                    del self._awaited[name]
                if not answer.cancelled():
                    answer.exception()  # known to asyncio as seen, even if nobody waits any more

            answer = self._awaited[name] = asyncio.ensure_future(self._run(self._watch_pool, begin))
            answer.add_done_callback(done)
        found: T = await asyncio.shield(answer)
        return found

    async def _run(self, pool: ThreadPoolExecutor, question: Callable[[], T]) -> T:
        if self._closing.is_set():
            raise Problem("this server is stopping; ask again when it has started anew", 503)
        running = self._running.get(pool, 0)
        if running >= THREADS + MAX_WAITING:
            raise Problem(f"{running} requests are being answered already; try again in a moment", 503)
        self._running[pool] = running + 1
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, question)
        finally:
            self._running[pool] -= 1

    async def _closed(self) -> None:
        # Polled, as stop() comes from another thread; only while a query runs.
        while not self._closing.is_set():
            await asyncio.sleep(0.05)


class _SqlQuery(msgspec.Struct, forbid_unknown_fields=True):
    query: str
    rows: int | None = None
    timeout_s: float | None = None


async def _body(request: Request) -> _SqlQuery:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Problem(f"body: more than {MAX_BODY_BYTES} bytes", 413)
    try:
        return msgspec.json.decode(body, type=_SqlQuery)
    except msgspec.DecodeError as error:
        raise Problem(f'body: {error}; send {{"query": "SELECT …", "rows": 100, "timeout_s": 5}}') from None


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(document: Any, status: int = 200) -> Response:
    # msgspec writes NaN and infinities as null, as JSON has no other word for them.
    return Response(msgspec.json.encode(document), status, media_type="application/json")
