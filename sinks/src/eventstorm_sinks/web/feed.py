"""The WebSocket ``/feed``: one frame a second to each client, made from the newest state when the client can take it.

A client that reads slowly gets fewer frames, each with all that changed since its last: nothing queues up for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from eventstorm_sinks.live import WINDOW_S, Live
from eventstorm_sinks.live_tail import Filter
from eventstorm_sinks.panels import PANELS, RANGES, TABLES
from eventstorm_sinks.web.account import ServedSink, losses

__all__ = ["MAX_CLIENTS", "Feed"]

log = logging.getLogger(__name__)

MAX_CLIENTS = 100
MAX_LOSS_ROWS = 100
FRAME_S = 1.0
STUCK_S = 30.0
"""A client that cannot take one frame in so long is gone, or as good as."""
TRY_AGAIN_LATER = 1013  # WebSocket close codes, RFC 6455 and IANA's registry
POLICY_VIOLATION = 1008

_filter = msgspec.json.Decoder(Filter)


class Feed:
    """Makes frames and sends them. Used on the event loop; frames are made by one thread of its own.

    Args:
        live: what is drawn; ticked here.
        sink: for its losses.
    """

    def __init__(self, live: Live, sink: ServedSink) -> None:
        self._live = live
        self._sink = sink
        self.clients = 0
        # One thread: Live wants its views to be taken by the one that ticks.
        self._maker = ThreadPoolExecutor(1, "eventstorm-frames")
        self._ticked = asyncio.Condition()
        self._tick = 0
        self._shared: dict[int, msgspec.Raw] = {}
        self._losses: dict[str, Any] = {}

    async def run(self) -> None:
        """Tick every second until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                started_s = loop.time()
                try:
                    await loop.run_in_executor(self._maker, self._make_tick)
                except Exception:
                    log.exception("a frame could not be made")
                async with self._ticked:
                    self._tick = self._live.tick_number
                    self._ticked.notify_all()
                # A tick that takes long must not leave the processor to nobody else.
                await asyncio.sleep(max(FRAME_S - (loop.time() - started_s), FRAME_S / 10))
        finally:
            self._maker.shutdown(wait=False, cancel_futures=True)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client until it leaves."""
        await websocket.accept()
        if self.clients >= MAX_CLIENTS:
            await websocket.close(TRY_AGAIN_LATER, f"{MAX_CLIENTS} clients watch already; close one and try again")
            return
        self.clients += 1
        client = _Client()
        sending = asyncio.create_task(self._send_frames(websocket, client))
        receiving = asyncio.create_task(self._receive(websocket, client))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.clients -= 1
            for task in (sending, receiving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError, OSError):
                    await task

    async def _receive(self, websocket: WebSocket, client: _Client) -> None:
        while True:
            text = await websocket.receive_text()
            try:
                client.wanted = _filter.decode(text)
            except msgspec.DecodeError as error:
                await websocket.close(POLICY_VIOLATION, f"not a filter: {error}"[:120])
                return

    async def _send_frames(self, websocket: WebSocket, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        await websocket.send_bytes(_greeting())
        while True:
            async with self._ticked:
                await self._ticked.wait_for(lambda: self._tick > client.tick)
            frame = await loop.run_in_executor(self._maker, self._make_frame, client)
            try:
                # Returns once the client has read enough of what it was sent before.
                await asyncio.wait_for(websocket.send_bytes(frame), STUCK_S)
            except asyncio.TimeoutError:
                return

    # From here on: the thread that makes frames.

    def _make_tick(self) -> None:
        self._live.tick()
        self._shared.clear()
        self._losses = {}
        if self.clients:
            snapshot = self._sink.snapshot()
            found = losses(snapshot.rows)
            self._losses = {
                "rows": found[:MAX_LOSS_ROWS],
                "total": sum(each.events for each in found),
                "streams": len(found),
                "malformed": sum(snapshot.malformed.values()),
                "problems": self._sink.problems(),
            }

    def _make_frame(self, client: _Client) -> bytes:
        now = time.time()
        shared = self._shared.get(client.tick)
        if shared is None:
            shared = self._shared[client.tick] = msgspec.Raw(
                msgspec.json.encode({"bins": self._live.bins(client.tick), "tables": self._live.tables()})
            )
        arrival = self._live.arrival
        wanted = client.wanted
        # Who asks anew gets what is kept: what came before need not be stored yet, where the client looks for it too.
        events = self._live.events(wanted, client.arrival if wanted is client.told else 0)
        client.tick, client.arrival, client.told = self._live.tick_number, arrival, wanted
        return msgspec.json.encode(
            {
                "kind": "frame",
                "now": now,
                "since_s": self._live.since_s(now),
                "state": shared,
                "losses": self._losses,
                "ignored": self._live.ignored,
                "wanted": wanted,
                "events": events,
            }
        )


class _Client:
    """How far one client is."""

    __slots__ = ("arrival", "tick", "told", "wanted")

    def __init__(self) -> None:
        self.tick = 0
        self.arrival = 0
        self.wanted = self.told = Filter()


def _greeting() -> bytes:
    ranges = [each._asdict() for each in RANGES]
    return msgspec.json.encode(
        {"kind": "hello", "window_s": WINDOW_S, "panels": PANELS, "tables": TABLES, "ranges": ranges}
    )
