"""Route: events from sources to sinks, and the interest of sinks to sources, in libzmq's own proxy.

Python takes no part in it: one thread sits in ``zmq_proxy_steerable``, which looks into no message. A second thread
asks that proxy for its counters now and then and publishes them.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

import zmq

from eventstorm.endpoints import check_bind
from eventstorm.errors import StartError
from eventstorm_router.settings import RouterSettings
from eventstorm_router.stats import StatsSource, Traffic

__all__ = ["Router"]

# A source's largest event is 1 MiB by default, and a batch little more; who sends more than this is disconnected.
MAX_MESSAGE_BYTES = 64 * 2**20
# What arrives at the egress are subscriptions, at most a topic long. libzmq keeps each in a trie with a node for every
# byte and frees it recursively, so a long one would be expensive.
MAX_SUBSCRIPTION_BYTES = 1024
# A peer whose host vanished is noticed after this long; one that only stopped to read is not, and its queue stays full.
HEARTBEAT_INTERVAL_MS, HEARTBEAT_TIMEOUT_MS = 5_000, 15_000
# What goes out of the ingress are subscriptions, and one that was dropped would leave a source silent for good; but a
# source that has stopped to read must not be owed ever more of them.
MAX_WAITING_SUBSCRIPTIONS = 100_000
RECONNECT_MS, RECONNECT_MAX_MS = 100, 2_000
# The wire asks sources for a heartbeat a second.
TICK_S = 1.0
# The proxy answers within microseconds, after at most 1,000 messages of each direction.
REPLY_TIMEOUT_MS = 1_000
_CONTROL, _OWN_SOURCE = "inproc://control", "inproc://stats"


class Router:
    """A router in threads of its own, from `start` (or ``with``) until `stop`.

    Sources connect XPUB to `ingress`, sinks SUB to `egress`. With `RouterSettings.upstream` the egress also connects to
    the ingress of other routers, to each of which this one is then one more source: their sinks' interest comes down to
    the sources here, and the events go up. Routers that feed each other in a circle would pass events round for ever.
    """

    def __init__(self, settings: RouterSettings) -> None:
        """Check `settings`.

        Raises:
            SettingError: an endpoint is open to other machines, and `RouterSettings.insecure` is not set.
        """
        check_bind(settings.ingress, "router.ingress", insecure=settings.insecure)
        check_bind(settings.egress, "router.egress", insecure=settings.insecure)
        self.settings = settings
        self.ingress = settings.ingress
        """The endpoint that is bound; once started, with the port that the system chose where port 0 was asked for."""
        self.egress = settings.egress
        """As `ingress`, for sinks."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failure: str | None = None

    def start(self) -> None:
        """Bind and begin to route. A router starts once; make a new one to start again.

        Raises:
            StartError: an endpoint cannot be bound, or is in use.
        """
        bound: queue.Queue[StartError | None] = queue.Queue()
        self._start_thread("eventstorm-router", self._forward, bound)
        failed = bound.get()
        if failed:
            self.stop()
            raise failed
        self._start_thread("eventstorm-router-stats", self._report)

    def stop(self) -> None:
        """Stop routing and close all sockets, within a second or so; a second call does nothing."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._context.term()

    def __enter__(self) -> Router:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def failure(self) -> str | None:
        """Why the router stopped by itself, if it did; nothing is known to make it do so."""
        return self._failure

    def _start_thread(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _forward(self, bound: queue.Queue[StartError | None]) -> None:
        control = self._context.socket(zmq.PAIR)
        ingress, egress = self._context.socket(zmq.XSUB), self._context.socket(zmq.XPUB)
        try:
            control.bind(_CONTROL)
            ingress.maxmsgsize, egress.maxmsgsize = MAX_MESSAGE_BYTES, MAX_SUBSCRIPTION_BYTES
            self._set_options(ingress)
            self._set_options(egress)
            ingress.sndhwm = egress.rcvhwm = MAX_WAITING_SUBSCRIPTIONS
            try:
                self.ingress = _bind(ingress, self.settings.ingress, "router.ingress")
                self.egress = _bind(egress, self.settings.egress, "router.egress")
            except StartError as error:
                bound.put(error)
                return
            ingress.bind(_OWN_SOURCE)
            for endpoint in self.settings.upstream:
                egress.ipv6 = _is_ipv6(endpoint)
                egress.connect(endpoint)
            bound.put(None)
            zmq.proxy_steerable(ingress, egress, None, control)
            if not self._stopping.is_set():
                self._failure = "its proxy ended unasked"
        except zmq.ZMQError as error:
            self._failure = str(error)
            bound.put(StartError(f"the router cannot start: {error}"))  # read only while it starts
        finally:
            for each in (control, ingress, egress):
                each.close(linger=0)

    def _set_options(self, forwarding: zmq.Socket[bytes]) -> None:
        forwarding.linger = 0
        forwarding.sndhwm = forwarding.rcvhwm = self.settings.hwm
        forwarding.heartbeat_ivl = HEARTBEAT_INTERVAL_MS
        forwarding.heartbeat_timeout = forwarding.heartbeat_ttl = HEARTBEAT_TIMEOUT_MS
        forwarding.tcp_keepalive = 1
        forwarding.reconnect_ivl, forwarding.reconnect_ivl_max = RECONNECT_MS, RECONNECT_MAX_MS

    def _report(self) -> None:
        control, publisher = self._context.socket(zmq.PAIR), self._context.socket(zmq.XPUB)
        try:
            control.sndtimeo = REPLY_TIMEOUT_MS  # for a proxy that ended by itself
            control.linger = publisher.linger = 0
            control.connect(_CONTROL)
            publisher.connect(_OWN_SOURCE)
            self._publish_stats(control, StatsSource(publisher))
        finally:
            with contextlib.suppress(zmq.Again):
                control.send(b"TERMINATE")
            self._threads[0].join()  # libzmq may lose what was sent on a pair that is closed before it is read
            control.close()
            publisher.close()

    def _publish_stats(self, control: zmq.Socket[bytes], source: StatsSource) -> None:
        started = due = time.monotonic()
        while not self._stopping.wait(min(TICK_S, self.settings.stats_s)) and not self._failure:
            if not source.heard():
                continue
            source.heartbeat()
            now = time.monotonic()
            if now >= due and (traffic := _ask(control)):
                due = now + self.settings.stats_s
                about = {
                    "uptime": now - started,
                    "ingress": self.ingress,
                    "egress": self.egress,
                    "upstream": list(self.settings.upstream),
                }
                source.emit(about | traffic.document())
        if source.heard():
            source.heartbeat(bye=True)
            _ask(control)  # the proxy has taken up the farewell by the time that it answers


def _bind(forwarding: zmq.Socket[bytes], endpoint: str, place: str) -> str:
    forwarding.ipv6 = _is_ipv6(endpoint)
    try:
        _refuse_shared_path(endpoint)
        forwarding.bind(endpoint)
    except (zmq.ZMQError, OSError) as error:
        fix = "; stop what uses it, or choose another" if error.errno == zmq.EADDRINUSE else ""
        raise StartError(f"{place}: cannot bind {endpoint}: {zmq.strerror(error.errno or 0)}{fix}") from None
    return forwarding.getsockopt_string(zmq.LAST_ENDPOINT)


def _refuse_shared_path(endpoint: str) -> None:
    """Raise OSError if a process listens at an ``ipc://`` path: libzmq would take it away from it without a word."""
    if not endpoint.startswith("ipc://"):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(endpoint.removeprefix("ipc://"))
        except (FileNotFoundError, ConnectionRefusedError):
            return
    raise OSError(zmq.EADDRINUSE, "in use")


def _is_ipv6(endpoint: str) -> bool:
    return endpoint.startswith("tcp://[")


def _ask(control: zmq.Socket[bytes]) -> Traffic | None:
    control.send(b"STATISTICS")
    return Traffic.from_reply(control.recv_multipart()) if control.poll(REPLY_TIMEOUT_MS) else None
