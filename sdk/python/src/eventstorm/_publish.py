"""The publisher: the one thread of the SDK, which owns its one socket.

It reads the subscriptions off the socket, so that `emit` knows what is heard; takes the events from the buffer, numbers
and batches them, and sends the batches without ever blocking on a full socket; and sends heartbeats.

How libzmq behaves here (4.3.5; ``src/xpub.cpp``, ``src/session_base.cpp``):

- The socket's one pipe outlives a lost connection, with its subscriptions and what is queued in it. A new router sends
  its subscriptions anew (seen thanks to XPUB_VERBOSE); those that it does not repeat are forgotten after a grace. What
  it gets before its own subscribers are back, it drops; so nothing is sent from the loss of a router until then.
- XPUB drops what its pipe has no room for, unless XPUB_NODROP makes it refuse with EAGAIN. Then the batch waits here,
  where the bound on bytes counts it. The queue inside holds at most SNDHWM messages, the newest; one more may be on
  its way into the kernel. Their sizes are counted against the bound too.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import time
from collections import deque
from typing import TYPE_CHECKING

import zmq

from eventstorm._batch import Batcher, Outgoing, Stream
from eventstorm._emit import EVENT_OVERHEAD_BYTES, NEVER, Emitter
from eventstorm._interest import NOTHING, Interest
from eventstorm.settings import SdkSettings

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["Publisher"]

# Messages that may wait inside libzmq: few, since what waits there cannot be counted exactly; enough to keep the
# connection busy while this thread waits for the interpreter's lock.
_SEND_HIGH_WATER_MARK = 4
# A router sends its subscriptions right after the handshake, one message each: time for the first of them to come in,
# which a busy router needs, and one that has none is given too; and then for all the others.
_FIRST_GRACE_S, _OTHERS_GRACE_S = 0.5, 0.1
# After a router's restart its sinks must find it again first; they try ten times a second.
_RESTART_GRACE_S = 1.0
# A hostile router could subscribe to ever more; past this, everything is taken as heard.
_MAX_SUBSCRIPTIONS = 10_000
_MOST_TAKE_BYTES = 2**20
# To be woken costs a program that computes more than to send what has come: it must give its lock away at once. So
# where this thread looks again so soon by itself, a full batch does not wake it.
_SOON_S = 0.05
_RETRY_FIRST_S, _RETRY_LAST_S = 0.001, 0.05
_LOG_EVERY_S = 60.0
_LONGEST_ROUND_S = 0.1
_LONGEST_WAIT_S = 10.0
_monitor_event = struct.Struct("=HI")


class Publisher:
    """Publishes what an `Emitter` collects. `run` is the publisher's thread.

    Other threads read the public attributes, and set `flush_requested` and `close_deadline`, then wake the thread.
    """

    def __init__(
        self,
        emitter: Emitter,
        settings: SdkSettings,
        source_id: bytes,
        host: str,
        service: str,
        wake_fd: int,
        log: Logger,
    ) -> None:
        self._log = log
        self._emitter = emitter
        self._settings = settings
        self._on = settings.enabled and bool(settings.endpoint)
        # Part of the buffer at a time, so that what is taken and what is inside libzmq leave room for more.
        self._take_bytes = min(_MOST_TAKE_BYTES, settings.buffer_bytes // 16)
        self._wake_bytes = max(settings.batch_bytes, self._take_bytes if settings.linger_s <= _SOON_S else 0)
        self._wake_fd = wake_fd
        self._batcher = Batcher(source_id, host, service, os.getpid(), settings.heartbeat_s)
        self._outbox: deque[Outgoing] = deque()
        self._inside: deque[int] = deque(maxlen=_SEND_HIGH_WATER_MARK + 1)
        self._taken = 0
        self._retry_s = _RETRY_FIRST_S
        self._tick_at = 0.0
        self._said_goodbye = False
        self._subscriptions: set[bytes] = set()
        self._stale: set[bytes] = set()
        self._settle_at: float | None = None
        self._logged: dict[str, tuple[float, int]] = {}
        self.connected = False
        self.busy = False
        self.unsent = 0
        self.flush_requested = False
        self.close_deadline: float | None = None
        self._set_room()

    @property
    def streams(self) -> dict[int, Stream]:
        """The topics that events were sent of, by their index. For reading only."""
        return self._batcher.streams

    def waiting(self) -> dict[int, int]:
        """Return how many events wait in front of a full socket, by the index of their topic."""
        waiting: dict[int, int] = {}
        for outgoing in list(self._outbox):
            index = outgoing.stream.topic.index
            waiting[index] = waiting.get(index, 0) + outgoing.events
        return waiting

    def run(self) -> None:
        """Publish until `close_deadline` is set and all is sent, or that time has come."""
        context = zmq.Context(io_threads=1)
        socket = context.socket(zmq.XPUB)
        monitor: zmq.Socket[bytes] | None = None
        try:
            self._configure(socket)
            monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
            if self._on:
                socket.connect(self._settings.endpoint)
            else:
                self._emitter.set_interest(NOTHING)
            self._loop(socket, monitor)
        finally:
            self._report(time.monotonic())
            self._account_unsent()
            # What is queued inside gets the rest of the time to leave.
            left_s = max(0.0, (self.close_deadline or 0.0) - time.monotonic()) if self.connected else 0.0
            if monitor is not None:
                socket.disable_monitor()
                monitor.close(linger=0)
            socket.close(linger=int(left_s * 1000))
            context.term()

    def _configure(self, socket: zmq.Socket[bytes]) -> None:
        socket.linger = 0
        socket.sndhwm = _SEND_HIGH_WATER_MARK
        socket.rcvhwm = _MAX_SUBSCRIPTIONS
        socket.maxmsgsize = 64 * 1024  # of what the router sends: subscriptions
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        socket.setsockopt(zmq.IPV6, 1)
        # Notices a router that vanished without a word, whose connection would otherwise look alive for hours.
        socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)

    def _loop(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        poller.register(self._wake_fd, zmq.POLLIN)
        emitter, settings = self._emitter, self._settings
        first_event_at: float | None = None
        # Each call into ZeroMQ gives the interpreter's lock away, and a program that computes keeps it for 5 ms then:
        # no call is made that is known to bring nothing.
        ready: list[object] = []
        while True:
            now_s = time.monotonic()
            if monitor in ready:
                self._read_monitor(monitor, now_s)
            # What came since the poll counts too where it is about to be settled what is not heard.
            if socket in ready or self._settle_at is not None:
                self._read_subscriptions(socket, now_s)
            self._settle_interest(now_s)
            closing = self.close_deadline is not None
            may_send = self._may_send()
            if not may_send:
                first_event_at = None
            elif emitter.queue and first_event_at is None:
                first_event_at = now_s
            enough = emitter.added - self._taken >= settings.batch_bytes
            if first_event_at is not None and (
                enough or closing or self.flush_requested or now_s >= first_event_at + settings.linger_s
            ):
                # More is expected where something came: its first event then need not wake this thread.
                first_event_at = now_s if emitter.queue else None
                if emitter.queue:
                    self._publish(socket, now_s)
                    self._tick_at = min(self._tick_at, now_s + settings.heartbeat_s)
            elif self._outbox and may_send:
                self._send(socket)
                self.busy = bool(self._outbox)
            if self.flush_requested and not emitter.queue and not self.busy:
                self.flush_requested = False
            if now_s >= self._tick_at:
                self._tick(socket, now_s)
            if self.close_deadline is not None and (
                now_s >= self.close_deadline or (emitter.interest.known and not emitter.queue and not self._outbox)
            ):
                if self._said_goodbye or not may_send or now_s >= self.close_deadline:
                    return
                self._say_goodbye(socket, now_s)
                if not self._outbox:
                    return
            ready = self._sleep(poller, now_s, first_event_at)

    # The router

    def _may_send(self) -> bool:
        """Tell whether a router is there that knows its subscribers.

        A router that has just been restarted does not, and drops what comes before their subscriptions: so events are
        held until all the old ones were repeated, or had the time for it.
        """
        return self._emitter.interest.known and (not self._on or (self.connected and not self._stale))

    def _read_monitor(self, monitor: zmq.Socket[bytes], now_s: float) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                event, _ = _monitor_event.unpack(monitor.recv_multipart(zmq.NOBLOCK)[0])
                if event == zmq.EVENT_DISCONNECTED:
                    self.connected = False
                    self._stale = set(self._subscriptions)
                    self._settle_at = None
                elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self.connected = True
                    first_grace_s = _OTHERS_GRACE_S if self._subscriptions else _FIRST_GRACE_S
                    self._settle_at = now_s + (_RESTART_GRACE_S if self._emitter.interest.known else first_grace_s)

    def _read_subscriptions(self, socket: zmq.Socket[bytes], now_s: float) -> None:
        changed = False
        with contextlib.suppress(zmq.Again):
            while True:
                message = socket.recv(zmq.NOBLOCK)
                kind, prefix = message[:1], message[1:]
                if kind == b"\1":
                    self._stale.discard(prefix)
                    if len(self._subscriptions) < _MAX_SUBSCRIPTIONS:
                        self._subscriptions.add(prefix)
                    else:
                        self._subscriptions.add(b"")
                elif kind == b"\0":
                    self._subscriptions.discard(prefix)
                    self._stale.discard(prefix)
                changed = True
        if not changed:
            return
        if self._emitter.interest.known or b"" in self._subscriptions:
            self._emitter.set_interest(Interest(self._subscriptions))
        elif self._settle_at is not None:
            self._settle_at = min(self._settle_at, now_s + _OTHERS_GRACE_S)

    def _settle_interest(self, now_s: float) -> None:
        """Once a router had its time to subscribe: what it did not ask for is not heard."""
        if self._settle_at is not None and now_s >= self._settle_at:
            self._settle_at = None
            self._subscriptions -= self._stale
            self._stale = set()
            self._emitter.set_interest(Interest(self._subscriptions))

    # Events

    def _publish(self, socket: zmq.Socket[bytes], now_s: float) -> None:
        """Send from the buffer until it is empty, the socket is full, or the loop is due again."""
        queue, emitter = self._emitter.queue, self._emitter
        emitter.set_wake_at(NEVER)
        self.busy = True  # before the events leave the queue, for whoever waits until both are done
        if self._outbox:
            self._send(socket)
        # Looking at the router and the clock in between would give the interpreter's lock away more often than sending.
        until_s = time.monotonic() + _LONGEST_ROUND_S
        while queue and not self._outbox and time.monotonic() < until_s:
            self._take(socket, now_s)
        self.busy = bool(self._outbox)

    def _take(self, socket: zmq.Socket[bytes], now_s: float) -> None:
        """Take events, about so many bytes that a full buffer is not in memory twice, and send them."""
        queue, emitter = self._emitter.queue, self._emitter
        waiting = emitter.added - self._taken
        average = max(1, waiting // len(queue))
        # About every other send loses the interpreter's lock, for 5 ms if the application computes. So where more waits
        # than two batches, it goes in one, which is what catches up.
        batch_bytes = self._settings.batch_bytes
        if waiting > 2 * batch_bytes:
            batch_bytes = max(batch_bytes, self._take_bytes)
        take = queue.popleft
        events = [take() for _ in range(min(len(queue), max(1, self._take_bytes // average)))]
        heard_cost = 0
        for outgoing in self._batcher.pack(emitter.topic, events, batch_bytes, now_s, int(time.time() * 1000)):
            self._outbox.append(outgoing)
            heard_cost += outgoing.cost
        # Unheard events leave no message that could give their room back.
        self._taken += self._cost(events) - heard_cost
        self._send(socket)

    @staticmethod
    def _cost(events: list[tuple[int, float, bytes]]) -> int:
        return sum([len(event[2]) for event in events]) + EVENT_OVERHEAD_BYTES * len(events)

    def _send(self, socket: zmq.Socket[bytes]) -> None:
        """Send what is in the outbox, as far as the socket takes it."""
        outbox = self._outbox
        while outbox:
            outgoing = outbox[0]
            if not self._try_send(socket, outgoing):
                self._retry_s = min(self._retry_s * 2, _RETRY_LAST_S)
                break
            outbox.popleft()
            self._retry_s = _RETRY_FIRST_S
            outgoing.stream.sent += outgoing.events
            self._taken += outgoing.cost
        self._set_room()

    def _try_send(self, socket: zmq.Socket[bytes], outgoing: Outgoing) -> bool:
        try:
            socket.send_multipart(outgoing.frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._inside.append(outgoing.size)
        return True

    def _set_room(self) -> None:
        emitter = self._emitter
        if not emitter.queue and not self._outbox:
            self._taken = emitter.added  # makes up for additions that threads took from each other
        bound = self._settings.buffer_bytes
        # A quarter at least: what is said to be inside may have left long ago, and would shut a small buffer for good.
        emitter.set_room(self._taken + max(bound - sum(self._inside), bound // 4))

    def _tick(self, socket: zmq.Socket[bytes], now_s: float) -> None:
        """Send the heartbeats that are due, log what was dropped, and see when to do so next."""
        self._report(now_s)
        streams = [stream for stream in self._batcher.streams.values() if stream.topic.heard]
        if self._may_send() and not self._outbox:  # a heartbeat must not overtake the events that it counts
            for stream in streams:
                if now_s >= self._batcher.due_at(stream):
                    stream.count_drops()
                    self._outbox.append(self._batcher.heartbeat(stream, now_s, int(time.time() * 1000)))
            self._send(socket)
        # With very many topics, not at each one's own moment: a few rounds in each interval are enough.
        soonest = min(map(self._batcher.due_at, streams), default=now_s + _LONGEST_WAIT_S)
        self._tick_at = min(max(soonest, now_s + self._settings.heartbeat_s / 4), now_s + _LONGEST_WAIT_S)

    def _say_goodbye(self, socket: zmq.Socket[bytes], now_s: float) -> None:
        self._said_goodbye = True
        for stream in self._batcher.streams.values():
            if stream.topic.heard:
                stream.count_drops()
                self._outbox.append(self._batcher.heartbeat(stream, now_s, int(time.time() * 1000), bye=True))
        self._send(socket)

    # Waiting and telling

    def _sleep(self, poller: zmq.Poller, now_s: float, first_event_at: float | None) -> list[object]:
        """Wait for the router, for enough events, or for the next thing to do; return what is to be read."""
        emitter = self._emitter
        wake_at = NEVER
        until = now_s + _LONGEST_WAIT_S
        if not self._may_send():
            pass  # what the router says wakes
        elif self._outbox:
            until = now_s + self._retry_s
        elif first_event_at is not None:
            until = first_event_at + self._settings.linger_s
            wake_at = self._taken + self._wake_bytes
        else:
            wake_at = self._taken
        until = min(until, self._tick_at)
        if self._settle_at is not None:
            until = min(until, self._settle_at)
        if self.close_deadline is not None:
            until = min(until, self.close_deadline)
        emitter.set_wake_at(wake_at)
        timeout_s = max(0.0, until - time.monotonic())
        if emitter.added > wake_at and emitter.queue:
            timeout_s = 0.0  # came in while nobody would have woken this thread
        ready = [each for each, _ in poller.poll(math.ceil(timeout_s * 1000))]
        if self._wake_fd in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_fd, 4096)
        return ready

    def _account_unsent(self) -> None:
        emitter = self._emitter
        self.unsent = sum(outgoing.events for outgoing in self._outbox) + len(emitter.queue)
        if self.unsent:
            where = self._settings.endpoint
            state = "was too slow" if self.connected else "did not answer"
            plural = "" if self.unsent == 1 else "s"
            self._log.warning("%d event%s not sent: the router at %s %s in time", self.unsent, plural, where, state)

    def _report(self, now_s: float) -> None:
        """Log what was dropped: one line a reason and minute."""
        counts = {reason: counter.value() for reason, counter in list(self._emitter.refused.items())}
        overflowed = sum(topic.overflowed.value() for topic in list(self._emitter.by_index.values()))
        counts["buffer_full"] = overflowed
        counts["fault"] = self._emitter.faults.value()
        for reason, count in counts.items():
            logged_at, logged = self._logged.get(reason, (-_LOG_EVERY_S, 0))
            if count > logged and now_s >= logged_at + _LOG_EVERY_S:
                self._logged[reason] = now_s, count
                example = self._emitter.examples.get(reason, "")
                plural = "" if count - logged == 1 else "s"
                last = f" (the last one: {example})" if example else ""
                self._log.warning("%d event%s dropped: %s%s", count - logged, plural, reason, last)
