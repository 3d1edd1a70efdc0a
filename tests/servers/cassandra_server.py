"""Apache Cassandra as processes: the real server, made of jars of Maven Central, one node or several on loopback."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cassandra import ConsistencyLevel, DriverException, InvalidRequest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import WhiteListRoundRobinPolicy

from ports import free_port
from servers.maven import fetched

VERSION = "5.0.8"
# A node that starts, on a machine with far more to do than it can.
DEADLINE_S = 300.0
KEYSTORE_PASSWORD = "eventstorm"
_EXPORTS = [
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.management/com.sun.jmx.remote.security",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
]
_OPENS = [
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/java.nio",
    "java.base/java.io",
    "java.base/sun.nio.ch",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
]
_FLAGS = [f"--add-exports={each}=ALL-UNNAMED" for each in _EXPORTS]
_FLAGS += [f"--add-opens={each}=ALL-UNNAMED" for each in _OPENS]
# Small, quick to start, and without the waits of nodes that join a ring of strangers. Two compiler stages: the tests
# are over before the last one would pay.
_OPTIONS = [
    "-Xms384m",
    "-Xmx384m",
    "-XX:MaxDirectMemorySize=128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xss512k",
    "-XX:-UsePerfData",
    "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dchronicle.analytics.disable=true",
    "-Dcassandra-foreground=yes",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    # Also of how often it is tried, so long as nodes are away.
    "-Dcassandra.superuser_setup_delay_ms=200",
]
# What ``commitlog_sync: periodic`` asks for too.
_PERIOD = "\ncommitlog_sync_period: 10000ms"
# How long a node that starts waits for what another one tells of the ring; the first one has nobody to wait for.
_RING_DELAY_S = 30

_YAML = """
cluster_name: eventstorm
num_tokens: 1
initial_token: {token}
auto_bootstrap: false
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: GossipingPropertyFileSnitch
listen_address: {address}
rpc_address: {address}
storage_port: {storage_port}
native_transport_port: {port}
authenticator: {authenticator}
authorizer: {authorizer}
client_encryption_options: {{enabled: {is_encrypted}, keystore: {keystore}, keystore_password: {password}}}
seed_provider: [{{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{{seeds: 127.0.0.1}}]}}]
data_file_directories: [{folder}/data]
commitlog_directory: {folder}/commitlog
hints_directory: {folder}/hints
saved_caches_directory: {folder}/saved_caches
cdc_raw_directory: {folder}/cdc
commitlog_sync: {commitlog_sync}
commitlog_segment_size: 32MiB
commitlog_total_space: 256MiB
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
memtable_allocation_type: heap_buffers
key_cache_size: 8MiB
file_cache_size: 16MiB
networking_cache_size: 16MiB
# A busy machine's nodes need longer than the 2 s that they have by default; whoever asks has limits of its own.
write_request_timeout: 8s
cas_contention_timeout: 8s
read_request_timeout: 8s
concurrent_reads: 8
concurrent_writes: 16
concurrent_compactors: 1
hinted_handoff_enabled: true
materialized_views_enabled: false
"""
_LOGBACK = """<configuration><appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%d %p %c - %m%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="out"/></root></configuration>
"""


def _make_certificate(keystore: Path, certificate: Path) -> None:
    """Make a key and its certificate, for 127.0.0.1, as a server and as its clients read them."""
    common = ["-alias", "node", "-keystore", str(keystore), "-storepass", KEYSTORE_PASSWORD]
    name = ["-dname", "CN=eventstorm tests", "-ext", "san=ip:127.0.0.1", "-keyalg", "RSA", "-storetype", "PKCS12"]
    for command in (["-genkeypair", *name], ["-exportcert", "-rfc", "-file", str(certificate)]):
        subprocess.run(["keytool", *command, *common], check=True, capture_output=True)


def jars() -> Path:
    """Return the folder with the server's jars; fetched once for all runs."""
    return fetched("org.apache.cassandra", "cassandra-all", VERSION)


class CassandraNode:
    """One node of a cluster, which can be killed, started again, and paused."""

    def __init__(
        self,
        folder: Path,
        address: str,
        port: int,
        storage_port: int,
        token: int,
        *,
        center: str,
        guarded: bool,
        keystore: Path | None,
        commitlog_sync: str,
    ) -> None:
        self.address, self._port = address, port
        self._admin_port = free_port()
        self._folder = folder
        folder.mkdir()
        by = ("Password", "Cassandra") if guarded else ("AllowAll", "AllowAll")
        (folder / "cassandra.yaml").write_text(
            _YAML.format(
                address=address,
                port=port,
                storage_port=storage_port,
                token=token,
                folder=folder,
                authenticator=f"{by[0]}Authenticator",
                authorizer=f"{by[1]}Authorizer",
                is_encrypted="true" if keystore else "false",
                keystore=keystore or "none",
                password=KEYSTORE_PASSWORD,
                commitlog_sync=commitlog_sync + (_PERIOD if commitlog_sync == "periodic" else ""),
            )
        )
        (folder / "rackdc").write_text(f"dc={center}\nrack=rack1\n")
        (folder / "logback.xml").write_text(_LOGBACK)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        [jamm] = jars().glob("jamm-*.jar")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "java",
                    f"-javaagent:{jamm}",
                    *_FLAGS,
                    *_OPTIONS,
                    f"-Dcassandra.config=file://{self._folder}/cassandra.yaml",
                    f"-Dcassandra-rackdc.properties=file://{self._folder}/rackdc",
                    f"-Dcassandra.storagedir={self._folder}",
                    f"-Dlogback.configurationFile={self._folder}/logback.xml",
                    f"-Djava.io.tmpdir={self._folder}",
                    f"-Dcassandra.ring_delay_ms={0 if self.address == '127.0.0.1' else _RING_DELAY_S * 1000}",
                    f"-Dcassandra.jmx.local.port={self._admin_port}",
                    "-cp",
                    f"{jars()}/*",
                    "org.apache.cassandra.service.CassandraDaemon",
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )

    def wait(self) -> None:
        """Wait until it takes connections."""
        give_up_s = time.monotonic() + DEADLINE_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                raise AssertionError("Cassandra does not start:\n" + (self._folder / "log").read_text()[-3000:])
            with contextlib.suppress(OSError), socket.create_connection((self.address, self._port), 1):
                return
            time.sleep(0.1)  # as often as is worth the look

    def kill(self) -> None:
        """End it without a warning."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def mend(self) -> None:
        """Have it there again, whatever was done to it."""
        if self._process is None:
            self.start()
            self.wait()
        else:
            self.go_on()

    def pause(self) -> None:
        """Stop it where it is."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def repair(self, keyspace: str) -> None:
        """Have all replicas of what it holds compared, and each get what it lacks: ``nodetool repair``."""
        options = [*_FLAGS, "-XX:TieredStopAtLevel=1", f"-Duser.home={self._folder}", "-cp", f"{jars()}/*"]
        tool = ["org.apache.cassandra.tools.NodeTool", "-p", str(self._admin_port), "repair", "--full", keyspace]
        done = subprocess.run(
            ["java", *options, *tool], capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )
        assert done.returncode == 0, done.stdout + done.stderr


class CassandraServer:
    """A cluster of `nodes` nodes at 127.0.0.1, 127.0.0.2, …, with one port.

    Args:
        folder: for its files.
        nodes: how many.
        guarded: whether it asks for passwords; who may do all is ``cassandra``, with that password.
        encrypted: whether it speaks TLS alone, as `certificate` says.
        centers: the data centers that the nodes are in, in turn.
        commitlog_sync: what a node's acknowledgement says: with ``batch``, that it still knows when it was killed; not
            with ``periodic``, which is Cassandra's default.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 1,
        *,
        guarded: bool = False,
        encrypted: bool = False,
        centers: Sequence[str] = ("datacenter1",),
        commitlog_sync: str = "batch",
    ) -> None:
        addresses = [f"127.0.0.{number + 1}" for number in range(nodes)]
        self.port, storage_port = free_port(*addresses), free_port(*addresses)
        self._is_guarded = guarded
        self._replicas = nodes // len(centers)
        self.certificate = folder / "node.pem" if encrypted else None
        keystore = folder / "node.p12" if encrypted else None
        if keystore and self.certificate:
            _make_certificate(keystore, self.certificate)
        self.url = f"cassandra://{','.join(addresses)}:{self.port}"
        self.nodes = [
            CassandraNode(
                folder / f"node-{number}",
                address,
                self.port,
                storage_port,
                -(2**63) + (2**64 // nodes) * number,
                center=centers[number % len(centers)],
                guarded=guarded,
                keystore=keystore,
                commitlog_sync=commitlog_sync,
            )
            for number, address in enumerate(addresses)
        ]

    def start(self) -> None:
        """Start the nodes, one after the other: on a small machine that is faster than all at once."""
        for node in self.nodes:
            node.start()
            node.wait()
        self._wait_for(lambda: self._all_say("SELECT peer FROM system.peers", len(self.nodes) - 1), "the ring")
        if not self._is_guarded:
            with self.session() as session:
                replication = f"{{'class': 'NetworkTopologyStrategy', 'replication_factor': {self._replicas}}}"
                session.execute(f"CREATE KEYSPACE IF NOT EXISTS tests WITH replication = {replication}")
            # A node that is taken for one that is away, as one may be that has just come, is told later.
            asked = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = 'tests'"
            self._wait_for(lambda: self._all_say(asked, 1), "the keyspace")

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        give_up_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up_s, f"not all nodes know {what}, or their first user"
            time.sleep(0.1)  # as often as is worth the question

    def _all_say(self, asked: str, rows: int) -> bool:
        """Tell whether each node, asked alone, has so many rows to say."""
        try:
            for node in self.nodes:
                with self.session(ConsistencyLevel.ONE, [node.address]) as session:
                    if len(session.execute(asked).all()) != rows:
                        return False
        except (DriverException, NoHostAvailable):
            return False
        return True

    def mend(self) -> None:
        """Have all nodes there again."""
        for node in self.nodes:
            node.mend()
        self._wait_for(self._all_answer, "each other again")

    def _all_answer(self) -> bool:
        """Tell whether each node reaches all replicas: one may know of another that it is back before a third does."""
        try:
            for node in self.nodes:
                with self.session(addresses=[node.address]) as session:
                    session.execute("SELECT * FROM tests.faults_books LIMIT 1")
        except InvalidRequest:  # there is no such table
            return True
        except (DriverException, NoHostAvailable):
            return False
        return True

    @contextlib.contextmanager
    def session(
        self, consistency: int = ConsistencyLevel.ALL, addresses: Sequence[str] | None = None
    ) -> Iterator[Session]:
        """Connect as somebody else than the store; who sees all replicas and asks any node, if nothing else is said."""
        addresses = addresses or [node.address for node in self.nodes]
        policy = WhiteListRoundRobinPolicy(addresses)
        profile = ExecutionProfile(policy, consistency_level=consistency, request_timeout=30)
        profiles = {EXEC_PROFILE_DEFAULT: profile}
        provider = PlainTextAuthProvider("cassandra", "cassandra") if self._is_guarded else None
        context = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        cluster = Cluster(
            addresses,
            port=self.port,
            protocol_version=5,
            execution_profiles=profiles,
            auth_provider=provider,
            ssl_context=context,
        )
        try:
            yield cluster.connect()
        finally:
            cluster.shutdown()

    def empty_table(self, name: str = "tests.events") -> str:
        """Return the URL of a table without events: made anew each time, a cluster would be busy with that alone."""
        keyspace, _, table = name.partition(".")
        with self.session() as session:
            asked = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s"
            if table in {each.table_name for each in session.execute(asked, [keyspace])}:
                ms = "blobAsBigint(timestampAsBlob(bucket))"
                for topic, bucket_ms, shards in session.execute(f"SELECT topic, {ms}, shards FROM {name}_buckets"):
                    where = "topic = %s AND bucket = %s AND shard IN ({})"
                    numbers = ", ".join(map(str, range(shards)))
                    session.execute(f"DELETE FROM {name} WHERE {where.format(numbers)}", (topic, bucket_ms))
                for each in session.execute(f"SELECT DISTINCT topic FROM {name}_buckets"):
                    session.execute(f"DELETE FROM {name}_buckets WHERE topic = %s", each)
                for each in session.execute(f"SELECT DISTINCT sink FROM {name}_books"):
                    session.execute(f"DELETE FROM {name}_books WHERE sink = %s", each)
        return f"{self.url}/{name}"

    def kill(self) -> None:
        """End all nodes without a warning."""
        for node in self.nodes:
            node.kill()
