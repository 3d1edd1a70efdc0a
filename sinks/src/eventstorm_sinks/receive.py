"""Receive: one thread takes messages off the router's egress, enters them in the ledger and hands them on."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from eventstorm.errors import WireError
from eventstorm.topics import subscription, wire_topic
from eventstorm.wire import Message, decode_message, encode_message
from eventstorm_sinks._bounded_log import BoundedLog
from eventstorm_sinks.batch import Source
from eventstorm_sinks.ledger import Ledger, Observation
from eventstorm_sinks.own_events import LOSS_TOPIC, MAX_LOSSES_A_SECOND, STATS_TOPIC, Loss, LossLog, OwnSource
from eventstorm_sinks.router_link import RouterLink
from eventstorm_sinks.share import WHOLE, Share
from eventstorm_sinks.write import Writer

__all__ = ["Listener", "Receiver"]

log = logging.getLogger(__name__)

Listener = Callable[[Message, Observation], None]
"""Called on the receiving thread with each valid message: it must be quick. What it raises is logged, no more."""

MAX_MESSAGE_BYTES = 64 * 2**20
# Batches of 64 KiB at most by default, so this holds 128 MiB of a fast source while this process does not get to run.
HIGH_WATER_MARK = 2000
# As the router's: a peer whose host vanished is noticed, so that the connection is made anew.
HEARTBEAT_INTERVAL_MS, HEARTBEAT_TIMEOUT_MS = 5_000, 15_000
RECONNECT_MS, RECONNECT_MAX_MS = 100, 2_000
# How long a stop goes unnoticed, and how often the time is looked at while nothing arrives.
POLL_MS = 100
# After so many messages the clock is looked at, however many wait.
MESSAGES_A_ROUND = 200
TICK_S = 1.0
STATS_S = 10.0
# A router that is started anew is back sooner.
AWAY_S = 3.0
# When the sink leaves, sources hear of it within a round trip; what they sent before arrives meanwhile.
DRAIN_QUIET_MS, DRAIN_S = 100, 3.0


class Receiver:
    """Receives from `start` until `stop`.

    Args:
        endpoint: of a router's egress.
        topics: patterns of `eventstorm.topics.subscription`.
        ledger: observed into by this object's thread alone.
        writers: each gets every valid message that has something new.
        ingress: of the same router, if known: there the sink's own events are published, for others to see.
        share: what other sinks store is left out, as if it had not come.
        silent: neither publish nor enter events of its own: for who only looks on.
    """

    def __init__(
        self,
        endpoint: str,
        topics: Sequence[str],
        ledger: Ledger,
        writers: Sequence[Writer],
        ingress: str | None = None,
        share: Share = WHOLE,
        *,
        silent: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._ingress = ingress
        self._publisher: zmq.Socket[bytes] | None = None
        self._prefixes = sorted({subscription(topic) for topic in topics})
        self._ledger = ledger
        self._writers = writers
        self._listeners: tuple[Listener, ...] = ()
        self._malformed: Counter[str] = Counter()
        self._log = BoundedLog(log)
        self._losses = LossLog()
        self._own = OwnSource(share)
        self._share, self._silent = share, silent
        self._link: RouterLink | None = None
        self._received_events = self._received_messages = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eventstorm-receive", daemon=True)

    def problems(self) -> list[str]:
        """Return why nothing is received now; empty when something is. Safe from any thread."""
        if not self._thread.is_alive():
            return ["nothing is received: it is starting or stopping, or its log tells more"]
        if self._link and self._link.away_s > AWAY_S:
            return [f"nothing is received: no router answers at {self.endpoint}; it is tried again all the time"]
        return []

    @property
    def malformed(self) -> dict[str, int]:
        """How many messages were not of the wire, by reason; ``contradiction`` for those that cannot be true."""
        return dict(self._malformed)

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` with every valid message from now on."""
        self._listeners += (listener,)

    def start(self) -> None:
        """Connect and begin to receive."""
        self._thread.start()

    def stop(self) -> None:
        """Leave: take back the subscriptions, receive what is under way, and end, within 4 seconds."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # XSUB in place of SUB, since it still gives what is under way after its subscriptions have been taken back.
        subscriber = context.socket(zmq.XSUB)
        try:
            subscriber.linger = 0
            subscriber.rcvhwm = HIGH_WATER_MARK
            subscriber.maxmsgsize = MAX_MESSAGE_BYTES
            subscriber.heartbeat_ivl = HEARTBEAT_INTERVAL_MS
            subscriber.heartbeat_timeout = subscriber.heartbeat_ttl = HEARTBEAT_TIMEOUT_MS
            subscriber.reconnect_ivl, subscriber.reconnect_ivl_max = RECONNECT_MS, RECONNECT_MAX_MS
            subscriber.ipv6 = self.endpoint.startswith("tcp://[")
            self._link = RouterLink(subscriber)
            subscriber.connect(self.endpoint)
            if self._ingress:
                # What nobody subscribes to, or what a slow router has no room for, is dropped: here it is stored.
                self._publisher = context.socket(zmq.PUB)
                self._publisher.linger = DRAIN_QUIET_MS
                self._publisher.sndhwm = MESSAGES_A_ROUND
                self._publisher.ipv6 = self._ingress.startswith("tcp://[")
                self._publisher.connect(self._ingress)
            for prefix in self._prefixes:
                subscriber.send(b"\x01" + prefix)
            self._loop(subscriber, self._link)
            for prefix in self._prefixes:
                subscriber.send(b"\x00" + prefix)
            drained_by_s = time.monotonic() + DRAIN_S
            while time.monotonic() < drained_by_s and self._receive_round(subscriber, DRAIN_QUIET_MS):
                pass
            self._tick()
            for message in self._own.goodbyes(_now_ms()):
                self._take_own(message)
        finally:
            if self._link:
                self._link.close()
            subscriber.close()
            if self._publisher:
                self._publisher.close()
            context.term()

    def _loop(self, subscriber: zmq.Socket[bytes], link: RouterLink) -> None:
        tick_at_s = time.monotonic() + TICK_S
        stats_at_s = time.monotonic() + STATS_S
        while not self._stopping.is_set():
            self._receive_round(subscriber, POLL_MS)
            now_s = time.monotonic()
            if now_s >= tick_at_s:
                tick_at_s = now_s + TICK_S
                self._tick()
                link.look()
            if now_s >= stats_at_s:
                stats_at_s = now_s + STATS_S
                self._take_own(self._own.message(STATS_TOPIC, [self._stats()], _now_ms()))

    def _receive_round(self, subscriber: zmq.Socket[bytes], wait_ms: int) -> bool:
        """Receive what is there, waiting for the first; tell whether anything came."""
        if not subscriber.poll(wait_ms):
            return False
        for _ in range(MESSAGES_A_ROUND):
            try:
                frames = subscriber.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if not self._share.takes_message(frames):
                continue
            try:
                message = decode_message(frames)
            except WireError as error:
                self._malformed[error.reason] += 1
                self._log.warning(error.reason, "a malformed message: %s", error)
            else:
                if message.header.source_id != self._own.source.id:  # else it comes back, and was taken already
                    self._take(message)
        return True

    def _take(self, message: Message) -> None:
        header = message.header
        observation = self._ledger.observe(message, time.time())
        if observation.contradiction:
            self._malformed["contradiction"] += 1
            self._log.warning("contradiction", "a message that cannot be true: %s", observation.contradiction)
            return
        self._received_messages += 1
        self._received_events += observation.new
        if (observation.lost_source or observation.lost_way) and header.source_id != self._own.source.id:
            source = Source(header.source_id, header.host, header.service, header.pid)
            if observation.lost_source:
                self._losses.add(Loss(message.topic, source, "source", "dropped"), observation.lost_source)
            if observation.lost_way:
                self._losses.add(Loss(message.topic, source, "way", "gap"), observation.lost_way)
        if observation.news:
            for writer in self._writers:
                writer.put(message)
        for listener in self._listeners:
            try:
                listener(message, observation)
            except Exception:
                self._log.warning("listener", "a listener failed on %s", message.topic)
                log.debug("the listener's error", exc_info=True)

    def _take_own(self, message: Message) -> None:
        """Publish a message of the sink's own, and enter it as if received, if its topic is subscribed to."""
        if self._silent:
            return
        if self._publisher:
            with contextlib.suppress(zmq.ZMQError):
                self._publisher.send_multipart(
                    encode_message(message.topic, message.header, message.payload), zmq.NOBLOCK
                )
        frame = wire_topic(message.topic)
        if any(frame.startswith(prefix) for prefix in self._prefixes):
            self._take(message)

    def _tick(self) -> None:
        for writer in self._writers:
            for loss, count in writer.take_losses():
                # A loss of the sink's own events is counted, but no event tells of it: that one would be lost in the
                # same place, and so on for ever.
                if loss.source.id != self._own.source.id:
                    self._losses.add(loss, count)
        if losses := self._losses.take(MAX_LOSSES_A_SECOND):
            documents = [loss.document(count) for loss, count in losses]
            self._take_own(self._own.message(LOSS_TOPIC, documents, _now_ms()))

    def _stats(self) -> dict[str, Any]:
        return {
            "received": {"messages": self._received_messages, "events": self._received_events},
            "malformed": dict(self._malformed),
            "stores": [
                {
                    "store": stats.url,
                    "queue_bytes": stats.queue_bytes,
                    "pending": stats.pending,
                    "stored": stats.stored,
                    "refused": stats.refused,
                    "overflowed": stats.overflowed,
                }
                for stats in (writer.stats() for writer in self._writers)
            ],
        }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
