"""The application: which path leads where."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from eventstorm.errors import EventstormError
from eventstorm_sinks.live import Live
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.web.account import ServedSink
from eventstorm_sinks.web.api import Api
from eventstorm_sinks.web.feed import Feed
from eventstorm_sinks.web.guard import Guard
from eventstorm_sinks.web.parameters import Problem

__all__ = ["make_app"]

log = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")


def make_app(sink: ServedSink, settings: SinkSettings, live: Live, bound_host: str) -> Starlette:
    """Return the ASGI application of one sink."""
    feed = Feed(live, sink)
    api = Api(sink, settings, live, feed)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        ticking = asyncio.create_task(feed.run())
        try:
            yield
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/topics", api.topics),
            Route("/api/series", api.series),
            Route("/api/history", api.history),
            Route("/api/events", api.events),
            Route("/api/event", api.event),
            Route("/api/sql", api.sql, methods=["GET", "POST"]),
            Route("/api/ledger", api.ledger),
            Route("/healthz", api.health),
            Route("/metrics", api.metrics),
            WebSocketRoute("/feed", feed.serve),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, bound_host=bound_host)],
        exception_handlers={
            Problem: _problem,
            ValueError: _value_error,
            EventstormError: _unavailable,  # a store that is away, and a question that took too long
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _fault,
        },
        lifespan=lifespan,
    )
    app.state.api = api
    return app


async def _problem(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, Problem) else 400)


async def _value_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _unavailable(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else ""
    return JSONResponse({"error": f"{request.url.path}: {detail}; see docs/http-api.md for what there is"}, status)


async def _gone(request: Request, error: Exception) -> Response:
    # Nobody reads this, but a client that leaves in the middle of its question is no fault of ours, to be logged.
    return Response(status_code=400)


async def _fault(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "a fault in Eventstorm itself; its log tells more"}, 500)
