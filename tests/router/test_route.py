"""A router passes events to sinks and interest to sources, unchanged and in order."""

from __future__ import annotations

import subprocess
import sys

import zmq

SINK = """
import sys, zmq
sub = zmq.Context().socket(zmq.SUB)
sub.subscribe(b"load")
sub.connect(sys.argv[1])
print("ready", flush=True)
while True:
    sub.recv_multipart()
"""


def test_content_and_order_are_kept(start_router, connect):
    # All are sent before any is read, so all must be allowed to wait.
    router = start_router("--hwm", "100000")
    # Not everything: the router's own statistics would be among the messages that are counted here.
    sink = connect(zmq.SUB, router.egress, b"t\0")
    sources = [connect(zmq.XPUB, router.ingress) for _ in range(2)]
    for source in sources:
        assert source.recv() == b"\x01t\0"
    sent = [[[b"t\0", b"%d" % i, bytes(range(256)) * (i % 7)] for i in range(j, 2000, 2)] for j in range(2)]
    for first, second in zip(*sent, strict=True):
        sources[0].send_multipart(first)
        sources[1].send_multipart(second)
    received = [sink.recv_multipart() for _ in range(2000)]
    assert [each for each in received if int(each[1]) % 2 == 0] == sent[0]
    assert [each for each in received if int(each[1]) % 2 == 1] == sent[1]


def test_interest_reaches_sources_and_leaves_with_the_last_sink(start_router, connect):
    router = start_router()
    source = connect(zmq.XPUB, router.ingress)
    first, second = connect(zmq.SUB, router.egress, b"debug."), connect(zmq.SUB, router.egress, b"debug.")
    assert source.recv() == b"\x01debug."
    source.send_multipart([b"debug.x\0", b"", b""])
    assert first.recv_multipart()
    assert second.recv_multipart()
    first.close()
    assert not source.poll(200)
    second.close()
    assert source.recv() == b"\x00debug."


def test_a_source_that_comes_late_hears_what_is_wanted_already(start_router, connect):
    router = start_router()
    early = connect(zmq.XPUB, router.ingress)
    connect(zmq.SUB, router.egress, b"a\0", b"b.")
    assert {early.recv(), early.recv()} == {b"\x01a\0", b"\x01b."}
    late = connect(zmq.XPUB, router.ingress)
    assert {late.recv(), late.recv()} == {b"\x01a\0", b"\x01b."}


def test_a_topic_gets_only_to_those_who_want_it(start_router, connect):
    router = start_router()
    source = connect(zmq.XPUB, router.ingress)
    one, tree = connect(zmq.SUB, router.egress, b"http.hit\0"), connect(zmq.SUB, router.egress, b"http.")
    assert {source.recv(), source.recv()} == {b"\x01http.hit\0", b"\x01http."}
    for topic in (b"http.hits\0", b"https\0", b"http.hit\0"):
        source.send_multipart([topic, b"", b""])
    assert [tree.recv_multipart()[0] for _ in range(2)] == [b"http.hits\0", b"http.hit\0"]
    assert one.recv_multipart()[0] == b"http.hit\0"


def test_three_routers_chain(start_router, connect):
    top = start_router()
    middle = start_router("--upstream", top.ingress)
    bottom = start_router("--upstream", middle.ingress)
    source = connect(zmq.XPUB, bottom.ingress)
    far = connect(zmq.SUB, top.egress, b"t\0")
    assert source.recv() == b"\x01t\0"
    near = connect(zmq.SUB, bottom.egress, b"t\0", b"near\0")
    assert source.recv() == b"\x01near\0"
    for i in range(500):
        source.send_multipart([b"t\0", b"%d" % i, b"x"])
    source.send_multipart([b"near\0", b"", b""])
    assert [far.recv_multipart()[1] for _ in range(500)] == [b"%d" % i for i in range(500)]
    assert [near.recv_multipart()[1] for _ in range(500)] == [b"%d" % i for i in range(500)]
    assert near.recv_multipart()[0] == b"near\0"
    near.close()
    assert source.recv() == b"\x00near\0"
    far.close()
    assert source.recv() == b"\x00t\0"


def test_one_router_feeds_two(start_router, connect):
    uppers = [start_router(), start_router()]
    lower = start_router("--upstream", uppers[0].ingress, "--upstream", uppers[1].ingress)
    source = connect(zmq.XPUB, lower.ingress)
    sinks = [connect(zmq.SUB, upper.egress, b"%d\0" % i) for i, upper in enumerate(uppers)]
    assert {source.recv(), source.recv()} == {b"\x010\0", b"\x011\0"}
    for i in range(2):
        source.send_multipart([b"%d\0" % i, b"", b""])
    assert [sink.recv_multipart()[0] for sink in sinks] == [b"0\0", b"1\0"]


def test_sources_and_sinks_find_a_restarted_router(start_router, connect):
    router = start_router()
    source, sink = connect(zmq.XPUB, router.ingress), connect(zmq.SUB, router.egress, b"t\0")
    assert source.recv() == b"\x01t\0"
    router.process.kill()
    router.process.wait()
    start_router(ingress=router.ingress, egress=router.egress)
    # The source's own socket still knows the subscription, so ask the other end until it is back.
    for number in range(1000):
        source.send_multipart([b"t\0", b"%d" % number, b""])
        if sink.poll(20):
            break
    assert sink.recv_multipart()[0] == b"t\0"


def test_a_sink_that_stands_still_slows_nobody_and_costs_bounded_memory(start_router, connect, request):
    router = start_router("--hwm", "20")
    stuck = subprocess.Popen([sys.executable, "-c", SINK, router.egress], stdout=subprocess.PIPE, text=True)
    request.addfinalizer(lambda: (stuck.kill(), stuck.wait(), stuck.stdout.close()))
    assert stuck.stdout.readline() == "ready\n"
    source = connect(zmq.XPUB, router.ingress)
    assert source.recv() == b"\x01load"
    stuck.send_signal(19)  # SIGSTOP
    sink = connect(zmq.SUB, router.egress, b"load", b"only-here")
    assert source.recv() == b"\x01only-here"
    payload = bytes(64 * 1024)
    before = router.rss_bytes()
    for number in range(1500):  # 100 MB
        source.send_multipart([b"load\0", b"%d" % number, payload])
        # The quick one is asked for each, so that the source is never ahead of the router's short queues.
        assert sink.recv_multipart()[1] == b"%d" % number
    assert router.rss_bytes() - before < 16 * 2**20
