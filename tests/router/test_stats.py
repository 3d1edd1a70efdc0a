"""A router tells what passes through it, as a source like any other."""

from __future__ import annotations

import bson
import zmq

from eventstorm.wire import decode_message


def _messages(sink, until):
    found = []
    while not until(found):
        found.append(decode_message(sink.recv_multipart()))
    return found


def test_statistics_are_numbered_events_after_a_heartbeat(start_router, connect):
    router = start_router("--stats-s", "0.1")
    sink = connect(zmq.SUB, router.egress, b"eventstorm.stats\0")
    found = _messages(sink, lambda found: sum(each.header.n for each in found) == 3)
    assert {each.topic for each in found} == {"eventstorm.stats"}
    assert {(each.header.service, each.header.pid) for each in found} == {("eventstorm-router", router.process.pid)}
    assert (found[0].header.seq, found[0].header.n) == (0, 0)
    numbers = [event.seq for each in found for event in each.events()]
    assert numbers == [0, 1, 2]
    expected = 0
    for each in found:
        assert each.header.seq == expected
        expected += each.header.n


def test_statistics_count_frames_and_bytes_of_both_directions(start_router, connect):
    router = start_router("--stats-s", "0.1")
    source, sink = connect(zmq.XPUB, router.ingress), connect(zmq.SUB, router.egress, b"t\0", b"eventstorm.stats\0")
    assert {source.recv(), source.recv()} == {b"\x01t\0", b"\x01eventstorm.stats\0"}
    for _ in range(10):
        source.send_multipart([b"t\0", b"header", b"payload"])
    for _ in range(10):
        while sink.recv_multipart()[0] != b"t\0":
            pass
    found = _messages(sink, lambda found: sum(each.header.n for each in found) == 2)
    data = [bson.decode(event.data) for each in found for event in each.events()][-1]
    assert data["ingress"] == router.ingress
    assert data["egress"] == router.egress
    assert data["upstream"] == []
    assert data["uptime"] > 0
    assert data["events"]["received"]["frames"] >= 30
    assert data["events"]["received"]["bytes"] >= 10 * len("t0headerpayload")
    assert data["events"]["sent"] == data["events"]["received"]
    assert data["interest"]["received"]["frames"] >= 2
    assert data["interest"]["sent"]["frames"] >= 2


def test_nobody_listening_means_no_statistics_and_no_gap_afterwards(start_router, connect):
    router = start_router("--stats-s", "0.1")
    sink = connect(zmq.SUB, router.egress, b"eventstorm.")
    before = _messages(sink, lambda found: sum(each.header.n for each in found) == 2)
    source = connect(zmq.XPUB, router.ingress)
    assert source.recv() == b"\x01eventstorm."
    sink.close()
    assert source.recv() == b"\x00eventstorm."
    again = connect(zmq.SUB, router.egress, b"eventstorm.")
    after = _messages(again, lambda found: len(found) == 1)
    assert after[0].header.source_id == before[0].header.source_id
    assert after[0].header.seq - before[-1].header.seq <= 2


def test_a_stopping_router_says_goodbye(start_router, connect):
    router = start_router("--stats-s", "0.1")
    sink = connect(zmq.SUB, router.egress, b"eventstorm.")
    _messages(sink, len)
    router.process.terminate()
    assert _messages(sink, lambda found: found and found[-1].header.bye)
