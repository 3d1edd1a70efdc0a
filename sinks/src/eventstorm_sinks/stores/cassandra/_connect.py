"""The connection: what a URL says, the driver's session, and which of its errors pass by themselves."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cassandra import (
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    RequestExecutionException,
    UnresolvableContactPoints,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    TokenAwarePolicy,
)
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import ErrorMessage
from cassandra.query import tuple_factory

from eventstorm.errors import SettingError, StartError
from eventstorm.settings import nearest
from eventstorm_sinks.stores import StoreUnavailable, redacted

__all__ = ["Connection", "Place", "guarded", "may_be_at_fault"]

DEFAULT_KEYSPACE, DEFAULT_TABLE, DEFAULT_PORT = "eventstorm", "events", 9042
# Unquoted names, so that people need not quote them either. Beside a table lie others with longer names.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/@\s]+)(?::([0-9]{1,5}))?")
_DATACENTER = re.compile(r"[A-Za-z0-9_.-]+")
# Said, and not tried out from the highest: each attempt is a connection, and a warning in the log.
_PROTOCOLS = {"4": 4, "5": 5}
_COUNT = re.compile(r"[1-9][0-9]?")
_BOOLEANS = {"true": True, "false": False}
_COMPRESSIONS: dict[str, str | bool] = {"auto": True, "lz4": "lz4", "snappy": "snappy", "none": False}
_CONSISTENCIES = {
    "local_quorum": ConsistencyLevel.LOCAL_QUORUM,
    "quorum": ConsistencyLevel.QUORUM,
    "each_quorum": ConsistencyLevel.EACH_QUORUM,
    "all": ConsistencyLevel.ALL,
    "local_one": ConsistencyLevel.LOCAL_ONE,
    "one": ConsistencyLevel.ONE,
}
_OPTIONS = (
    "compression", "consistency", "local_dc", "protocol", "replication", "timeout_s",
    "tls", "tls_ca", "tls_cert", "tls_check_hostname", "tls_key",
)  # fmt: skip
# A node that does not answer within this is asked beside another. What it does later does no harm: see the journal.
_SPECULATE_S, _SPECULATIONS = 1.0, 2
# How soon a node that hangs is known to, and one that is back is used again.
_HEARTBEAT_S, _FIRST_RECONNECT_S, _LAST_RECONNECT_S = 5.0, 0.5, 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says: ``cassandra://user:password@host1,host2:9042/keyspace.table?options``."""

    name: str
    """The URL without its password."""
    hosts: tuple[str, ...]
    port: int
    keyspace: str
    table: str
    user: str
    password: str
    options: dict[str, str]

    @classmethod
    def of(cls, url: str) -> Place:
        """Read a URL.

        Raises:
            StartError: it is not understood; the message tells why, without the password.
        """
        name = redacted(url)

        def wrong(what: str) -> StartError:
            return StartError(f"{name}: {what}")

        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise wrong(str(error)) from None
        user, at, addresses = parts.netloc.rpartition("@")
        user, _, password = user.partition(":") if at else ("", "", "")
        found = [_HOST.fullmatch(each) for each in addresses.split(",")]
        if not all(found):
            raise wrong("write hosts as cassandra://host1,host2:9042/keyspace")
        ports = {int(each[2]) for each in found if each and each[2]} or {DEFAULT_PORT}
        if len(ports) > 1:
            raise wrong("all nodes have one port; write it once, after the last host")
        keyspace, _, table = parts.path.removeprefix("/").partition(".")
        keyspace, table = keyspace or DEFAULT_KEYSPACE, table or DEFAULT_TABLE
        for each in (keyspace, table):
            if not _NAME.fullmatch(each):
                raise wrong(f"{each!r} is no name of a keyspace or table: a-z, 0-9 and _, at most 40 of them")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        for each in options:
            if each not in _OPTIONS:
                raise wrong(f"unknown option {each!r}{nearest(each, list(_OPTIONS))}")
        hosts = tuple(each[1].strip("[]") for each in found if each)
        place = cls(name, hosts, ports.pop(), keyspace, table, unquote(user), unquote(password), options)
        try:
            place.check()
        except (OSError, SettingError, ValueError) as error:
            raise wrong(str(error)) from None
        return place

    def check(self) -> None:
        """Check the options.

        Raises:
            SettingError: one has a value that makes no sense.
            OSError: a file that one names cannot be read.
        """
        self.consistency()
        self.compression()
        self.protocol()
        self.replication(1)
        self.tls()
        self.timeout_s()

    def consistency(self) -> int:
        """Return how many replicas have to answer."""
        return int(self._one_of("consistency", _CONSISTENCIES, "local_quorum"))

    def serial_consistency(self) -> int:
        """Return among which replicas the books are agreed on: those of one data center if the events are."""
        is_local = self.consistency() in (ConsistencyLevel.LOCAL_ONE, ConsistencyLevel.LOCAL_QUORUM)
        return int(ConsistencyLevel.LOCAL_SERIAL if is_local else ConsistencyLevel.SERIAL)

    def compression(self) -> str | bool:
        """Return what the driver is to compress by; True for whatever library is installed."""
        found: str | bool = self._one_of("compression", _COMPRESSIONS, "auto")
        return found

    def protocol(self) -> int:
        """Return the version of the protocol: 5, which Cassandra 4.0 and newer speak, or 4."""
        return int(self._one_of("protocol", _PROTOCOLS, "5"))

    def replication(self, nodes: int) -> str:
        """Return how a new keyspace is replicated, in a cluster of `nodes` nodes."""
        text = self.options.get("replication", str(min(max(nodes, 1), 3)))
        counts = {"replication_factor": text}
        if ":" in text:
            counts = {name: count for name, _, count in (each.partition(":") for each in text.split(","))}
        if not all(_DATACENTER.fullmatch(name) and _COUNT.fullmatch(count) for name, count in counts.items()):
            raise SettingError(f"replication={text!r}: write replication=3, or replication=dc1:3,dc2:2")
        each = ", ".join(f"'{name}': {count}" for name, count in counts.items())
        return f"{{'class': 'NetworkTopologyStrategy', {each}}}"

    def timeout_s(self) -> float:
        """Return how long an answer is waited for."""
        text = self.options.get("timeout_s", "10")
        if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
            raise SettingError(f"timeout_s={text!r}: write seconds, as timeout_s=10")
        return float(text)

    def tls(self) -> ssl.SSLContext | None:
        """Return how connections are encrypted; None if they are not."""
        wanted = self._one_of("tls", _BOOLEANS, "false")
        given = [each for each in self.options if each.startswith("tls_")]
        if not wanted:
            if given:
                raise SettingError(f"{given[0]} without tls=true; add it, or leave out both")
            return None
        context = ssl.create_default_context(cafile=self.options.get("tls_ca"))
        context.check_hostname = self._one_of("tls_check_hostname", _BOOLEANS, "true")
        if "tls_cert" in self.options:
            context.load_cert_chain(self.options["tls_cert"], self.options.get("tls_key"))
        return context

    def _one_of(self, option: str, known: dict[str, Any], default: str) -> Any:
        text = self.options.get(option, default)
        if text not in known:
            raise SettingError(f"{option}={text!r} is none of {', '.join(known)}{nearest(text, list(known))}")
        return known[text]


class _AtHome(DCAwareRoundRobinPolicy):  # type: ignore[misc]  # the driver says nothing of its types
    """Asks the nodes of one data center: if none is named, that of the first host of the URL that the cluster knows.

    The driver's own takes that of whichever host it reaches first. A sink would then agree with others on the books
    once in one data center and once in the other, and neither knows of what only the other one has.
    """

    local_dc: str

    def populate(self, cluster: Any, hosts: Any) -> None:
        """Learn of the URL's hosts, of which it is not known yet where they are."""
        super().populate(cluster, hosts)
        self._candidates = [] if self.local_dc else list(cluster.endpoints_resolved)

    def on_up(self, host: Any) -> None:
        """Learn where a host is: one that is up, or that another one tells of."""
        if host.datacenter and host.endpoint in self._candidates:
            self.local_dc = host.datacenter
            del self._candidates[self._candidates.index(host.endpoint) :]
        super().on_up(host)


class Connection:
    """A cluster, as a URL names it. Nothing is sent before the first question. Safe from any thread.

    The driver's session has threads of its own; it is made in the process that uses it, after all forks.
    """

    def __init__(self, place: Place) -> None:
        # The driver tells of each failure with a traceback, while a cluster is away. What counts comes as errors.
        if (drivers := logging.getLogger("cassandra")).level == logging.NOTSET:
            drivers.setLevel(logging.CRITICAL)
        self.place, self.name = place, place.name
        self.stamp_us = 0
        """The time of the writer's writes, in microseconds since 1970: the later of two writes of a value wins."""
        self._lock = threading.Lock()
        self._cluster: Any = None
        self._session: Session | None = None
        self._home = _AtHome()
        self._is_closed = False

    def session(self) -> Session:
        """Return the session; connects if there is none.

        Raises:
            DriverException, NoHostAvailable: no node is there.
        """
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable(f"{self.name}: closed")
            if self._session is None:
                cluster = self._new_cluster()
                try:
                    self._session = cluster.connect()
                except BaseException:
                    cluster.shutdown()
                    raise
                self._cluster = cluster
            return self._session

    def give_up_if_lost(self) -> None:
        """Connect anew, next time, if no node is left: their names may lead elsewhere by then."""
        with self._lock:
            cluster = self._cluster
            if cluster is None or any(host.is_up for host in self._hosts()):
                return
            self._cluster = self._session = None
        cluster.shutdown()

    def nodes(self) -> int:
        """Return how many nodes the data center has whose nodes are asked."""
        return len(self._hosts())

    def _hosts(self) -> list[Any]:
        assert self._cluster is not None
        return [host for host in self._cluster.metadata.all_hosts() if host.datacenter == self._home.local_dc]

    def _new_cluster(self) -> Cluster:
        place = self.place
        self._home = _AtHome(place.options.get("local_dc", ""))
        profile = ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(self._home),
            consistency_level=place.consistency(),
            serial_consistency_level=place.serial_consistency(),
            request_timeout=place.timeout_s(),
            row_factory=tuple_factory,
            speculative_execution_policy=ConstantSpeculativeExecutionPolicy(_SPECULATE_S, _SPECULATIONS),
        )
        without_end: Any = {"max_attempts": None}
        reconnection = ExponentialReconnectionPolicy(_FIRST_RECONNECT_S, _LAST_RECONNECT_S, **without_end)
        # What the driver's own annotations, taken from its defaults, do not know.
        options: dict[str, Any] = {
            "compression": place.compression(),
            "idle_heartbeat_interval": _HEARTBEAT_S,
            "idle_heartbeat_timeout": _HEARTBEAT_S,
            "reconnection_policy": reconnection,
        }
        return Cluster(
            place.hosts,
            port=place.port,
            protocol_version=place.protocol(),
            auth_provider=PlainTextAuthProvider(place.user, place.password) if place.user else None,
            ssl_context=place.tls(),
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            timestamp_generator=lambda: self.stamp_us,
            application_name="eventstorm",
            **options,
        )

    def close(self) -> None:
        """Close the connections, for good. A second call does nothing."""
        with self._lock:
            self._is_closed = True
            cluster, self._cluster, self._session = self._cluster, None, None
        if cluster is not None:
            cluster.shutdown()


@contextlib.contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn the driver's errors into `StoreUnavailable`."""
    try:
        yield
    except (DriverException, NoHostAvailable, ConnectionException, NoConnectionsAvailable, ErrorMessage) as error:
        raise StoreUnavailable(f"{name}: {_text(error)}") from error


def may_be_at_fault(error: BaseException) -> bool:
    """Tell whether an error of an insertion may be about what is inserted, and not about the cluster."""
    if isinstance(error, (OperationTimedOut, RequestExecutionException, NoHostAvailable)):
        return False
    return isinstance(error, (InvalidRequest, ErrorMessage, ValueError))


def _text(error: BaseException) -> str:
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, list):
        return "no node of the data center that is asked (local_dc) takes connections"
    if isinstance(error, NoHostAvailable) and error.errors:
        # What each node said, once.
        said = dict.fromkeys(f"{type(each).__name__}: {each}" for each in error.errors.values())
        return "; ".join(said)[:300]
    if isinstance(error, UnresolvableContactPoints):
        return "no address is known for any of its hosts"
    return f"{type(error).__name__}: {error}"[:300]
