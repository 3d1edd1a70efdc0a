"""What a peer sends can neither stop a router nor make it grow, and the others go on."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import subprocess
import time

import pytest
import zmq

from router.conftest import PROGRAM, wait_until

# ZMTP 3.1 without security, as far as the peer's answer.
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL" + bytes(48)


def _ready(kind):
    return b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03" + kind


def _address(endpoint):
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def _still_routes(router, connect):
    source, sink = connect(zmq.XPUB, router.ingress), connect(zmq.SUB, router.egress, b"alive\0")
    wanted = []
    while b"\x01alive\0" not in wanted:
        wanted.append(source.recv())
    source.send_multipart([b"alive\0", b"h", b"p"])
    assert sink.recv_multipart() == [b"alive\0", b"h", b"p"]
    assert router.process.poll() is None


@pytest.mark.parametrize("side", ["ingress", "egress"])
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(100_000),
        GREETING + b"\xff" * 1000,
        # A frame that says it has 2^63 - 1 bytes.
        GREETING + _ready(b"PUB") + b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff",
    ],
    ids=["http", "random", "greeting", "endless-frame"],
)
def test_garbage(start_router, connect, side, garbage):
    router = start_router()
    for _ in range(5):
        peer = socket.create_connection(_address(getattr(router, side)), timeout=5)
        with contextlib.suppress(OSError), peer:  # the router may hang up
            peer.sendall(garbage)
    _still_routes(router, connect)


def test_messages_of_other_shapes(start_router, connect):
    router = start_router()
    source, sink = connect(zmq.XPUB, router.ingress), connect(zmq.SUB, router.egress, b"")
    assert source.recv() == b"\x01"
    shapes = [[b""], [b"no nul"], [b"x"] * 10, [b"t\0", b"", b""], [bytes(1_000_000)] * 3]
    for frames in shapes:
        source.send_multipart(frames)
    # The router's own statistics may come in between.
    others = (each for each in iter(sink.recv_multipart, None) if not each[0].startswith(b"eventstorm."))
    assert list(itertools.islice(others, len(shapes))) == shapes
    _still_routes(router, connect)


def test_a_message_over_the_limit_ends_that_connection_only(start_router, connect):
    router = start_router()
    hostile, sink = connect(zmq.XPUB, router.ingress), connect(zmq.SUB, router.egress, b"t\0")
    assert hostile.recv() == b"\x01t\0"
    hostile.send_multipart([b"t\0", bytes(65 * 2**20)])
    sink.rcvtimeo = 300
    with pytest.raises(zmq.Again):
        sink.recv_multipart()
    hostile.close()
    _still_routes(router, connect)
    assert router.rss_bytes() < 100 * 2**20


def test_what_sinks_send_that_is_no_subscription(start_router, connect):
    router = start_router()
    hostile = connect(zmq.XSUB, router.egress)
    for frames in ([b"\x02what"], [b""], [b"x"] * 10, [b"\x01"], [b"\0never subscribed"]):
        hostile.send_multipart(frames)
    _still_routes(router, connect)


def test_a_subscription_longer_than_any_topic_is_refused(start_router, connect):
    router = start_router()
    before = router.rss_bytes()
    # By hand: libzmq keeps a subscriber's own subscriptions in the same trie, and overflows the stack when it frees
    # this one. The router must not come to that.
    with socket.create_connection(_address(router.egress), timeout=5) as hostile:
        hostile.sendall(GREETING + _ready(b"SUB"))
        with contextlib.suppress(OSError):  # the router hangs up
            hostile.sendall(b"\x02" + (4 * 2**20 + 1).to_bytes(8, "big") + b"\x01" + bytes(4 * 2**20))
            while hostile.recv(4096):
                pass
    _still_routes(router, connect)
    assert router.rss_bytes() - before < 8 * 2**20


def test_many_subscriptions_go_when_their_sink_does(start_router, connect):
    router = start_router()
    source, hostile = connect(zmq.XPUB, router.ingress), connect(zmq.XSUB, router.egress)
    source.rcvhwm = 0
    for number in range(20_000):
        hostile.send(b"\x01flood.%d\0" % number)
    for _ in range(20_000):
        assert source.recv()[:1] == b"\x01"
    hostile.close()
    for _ in range(20_000):
        assert source.recv()[:1] == b"\x00"
    _still_routes(router, connect)


def test_more_connections_than_open_files_allow(connect, request):
    soft, hard = 64, 64
    process = subprocess.Popen(
        [PROGRAM, "--ingress", "tcp://127.0.0.1:0", "--egress", "tcp://127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    request.addfinalizer(lambda: (process.kill(), process.wait(), process.stderr.close()))
    words = process.stderr.readline().replace(",", "").split()
    ingress, egress = words[5], words[8]
    peers = [socket.create_connection(_address(ingress), timeout=5) for _ in range(100)]
    time.sleep(0.2)  # let it try to accept them all; there is nothing to see from outside
    assert process.poll() is None
    for peer in peers:
        peer.close()
    source, sink = connect(zmq.XPUB, ingress), connect(zmq.SUB, egress, b"t")
    wait_until(lambda: source.poll(100), "the router takes connections again")
    assert source.recv() == b"\x01t"
    source.send(b"t")
    assert sink.recv() == b"t"
