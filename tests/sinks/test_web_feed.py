"""The page's WebSocket: one frame a second at most, never a queue, and a seamless join with history."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from eventstorm_sinks.sink import Sink
from eventstorm_sinks.web import feed
from web_serving import DEADLINE_S, Publisher, ask, served, until, url_of


@contextlib.contextmanager
def watching(sink: Sink, **options: Any) -> Iterator[ClientConnection]:
    url = url_of(sink).replace("http", "ws") + "/feed"
    with connect(url, open_timeout=DEADLINE_S, max_size=None, proxy=None, **options) as client:
        assert receive(client)["kind"] == "hello"
        yield client


def receive(client: ClientConnection) -> Any:
    return json.loads(client.recv(timeout=DEADLINE_S))


def read_on(client: ClientConnection) -> None:
    """Read until the connection ends."""
    while True:
        receive(client)


def merge(counted: dict[int, float], frame: Any, topic: str) -> None:
    """Set the bins that a frame tells, as the page does."""
    for _, by, bins in frame["state"]["bins"]["events"]:
        if by == topic:
            counted.update(bins)


def test_counts_per_second_are_exact_across_history_load_and_restart(tmp_path: Path) -> None:
    sent: Counter[int] = Counter()

    def send(source: Publisher, ts_ms: int, n: int) -> None:
        source.send("shop.order", *[{}] * n, ts_ms=ts_ms)
        sent[ts_ms // 1000] += n

    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source:
        before = int(time.time())
        for back, n in ((200, 3), (20, 5), (2, 7)):
            send(source, (before - back) * 1000 + 250, n)
        send(source, before * 1000 + 999, 2)
        until(lambda: sink.writers[0].stats().stored >= 17)
    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source:
        started = int(time.time())
        for offset_ms, n in ((-1500, 4), (-500, 1), (10, 6), (999, 2), (1000, 8)):
            send(source, started * 1000 + offset_ms, n)
        with watching(sink) as client:
            frame = receive(client)
            since = frame["since_s"]
            live: dict[int, float] = {}
            merge(live, frame, "shop.order")
            for n in range(1, 4):
                send(source, int(time.time() * 1000), n)
                merge(live, receive(client), "shop.order")
            until(lambda: sink.writers[0].stats().stored >= 21 + 6)
            frame = receive(client)
            merge(live, frame, "shop.order")

        answer = ask(sink, f"/api/history?span=300&until={since}")

    [line] = [each for each in answer["panels"]["events"] if each["by"] == "shop.order"]
    assert all(second >= since for second in live)
    assert all(second < since for second, _ in line["steps"])
    assert {**dict(line["steps"]), **live} == sent


def test_history_by_seconds_and_live_make_all(tmp_path: Path) -> None:
    now = int(time.time())
    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source:
        for back in range(280, 0, -1):
            source.send("shop.order", *[{}] * (back % 7 + 1), ts_ms=(now - back) * 1000 + 5)
        source.send("shop.order", {}, {}, ts_ms=(now + 3) * 1000)
        until(lambda: sink.writers[0].stats().stored >= sum(back % 7 + 1 for back in range(280, 0, -1)) + 2)
        counted: dict[int, float] = {}
        with watching(sink) as client:
            while now + 3 not in counted:
                frame = receive(client)
                merge(counted, frame, "shop.order")
        fine = ask(sink, f"/api/history?span=300&until={frame['since_s']}")
        coarse = ask(sink, f"/api/history?span=3600&until={frame['since_s']}")

    expected = {now - back: back % 7 + 1 for back in range(280, 0, -1)} | {now + 3: 2}
    [line] = [each for each in fine["panels"]["events"] if each["by"] == "shop.order"]
    assert {**dict(line["steps"]), **counted} == expected
    assert not {at for at, _ in line["steps"]} & set(counted)
    [line] = [each for each in coarse["panels"]["events"] if each["by"] == "shop.order"]
    assert sum(value for _, value in [*line["steps"], *line["edge"]]) + sum(counted.values()) == sum(expected.values())
    assert all(at % 5 == 0 and at + 5 <= coarse["edge_s"] for at, _ in line["steps"])
    assert all(coarse["edge_s"] <= at < coarse["until_s"] for at, _ in line["edge"])


def test_a_flood_makes_one_frame_a_second_of_50_events_at_most(tmp_path: Path) -> None:
    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source, watching(sink) as client:
        receive(client)
        started_s = time.monotonic()
        frames = []
        while time.monotonic() - started_s < 1.5:
            for _ in range(20):
                source.send("busy.one", *[{"n": 1}] * 100)
            with contextlib.suppress(TimeoutError):
                frames.append(json.loads(client.recv(timeout=0.05)))

    assert 1 <= len(frames) <= 3
    assert all(len(each["events"]) <= 50 for each in frames)


def test_the_filter_holds_from_the_next_frame_on(tmp_path: Path) -> None:
    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source, watching(sink) as client:
        client.send(json.dumps({"topic": "shop.", "text": "gold"}))
        until(lambda: receive(client)["wanted"]["topic"] == "shop.")
        source.send("shop.order", {"metal": "Gold"}, {"metal": "iron"})
        source.send("farm.order", {"metal": "gold"})
        found = until(lambda: receive(client)["events"])

    assert [(each["topic"], json.loads(each["text"])) for each in found] == [("shop.order", {"metal": "Gold"})]


def test_a_new_filter_is_answered_with_what_came_before(tmp_path: Path) -> None:
    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source, watching(sink) as client:
        source.send("shop.order", {"metal": "gold"})
        until(lambda: receive(client)["events"])
        for _ in range(2):  # the same one again is asked for by who has forgotten the answer
            client.send(json.dumps({"topic": "shop."}))
            found = until(lambda: receive(client)["events"])
            assert [each["topic"] for each in found] == ["shop.order"]
            assert receive(client)["events"] == []


def test_a_client_that_does_not_read_gets_the_newest_state_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "FRAME_S", 0.02)
    filler = "x" * 4000
    with served(tmp_path) as sink, Publisher(sink.ingress or "") as source:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**18)
        host, _, port = url_of(sink).removeprefix("http://").partition(":")
        raw.connect((host, int(port)))
        # max_queue bounds what this client's own library reads ahead.
        with watching(sink, sock=raw, max_queue=1) as slow, watching(sink) as quick:
            receive(slow)
            size_bytes = frames = 0
            # More than the kernel's and the libraries' buffers hold between the two.
            while size_bytes < 6_000_000:
                source.send("busy.one", *[{"x": filler}] * 16)
                size_bytes += len(quick.recv(timeout=DEADLINE_S))
                frames += 1
            stopped = time.time()
            read = [receive(slow)]
            while read[-1]["now"] < stopped:
                read.append(receive(slow))

    in_between = [each for each in read if each["now"] < stopped]
    assert len(in_between) < frames * 0.9
    assert max(b["now"] - a["now"] for a, b in pairwise(read)) > 5 * max(feed.FRAME_S, 0.02)


def test_more_clients_than_allowed_are_told_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MAX_CLIENTS", 1)
    with served(tmp_path) as sink:
        with watching(sink):
            with (
                connect(url_of(sink).replace("http", "ws") + "/feed", proxy=None) as client,
                pytest.raises(ConnectionClosed) as refused,
            ):
                client.recv(timeout=DEADLINE_S)
            assert refused.value.rcvd is not None
            assert refused.value.rcvd.code == 1013

        def comes_in() -> bool:
            with contextlib.suppress(ConnectionClosed), watching(sink) as client:
                return receive(client)["kind"] == "frame"
            return False

        assert until(comes_in)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:1", "null"])
def test_another_sites_websocket_is_refused(tmp_path: Path, origin: str) -> None:
    with (
        served(tmp_path) as sink,
        pytest.raises(InvalidStatus) as refused,
        connect(url_of(sink).replace("http", "ws") + "/feed", additional_headers={"Origin": origin}, proxy=None),
    ):
        pass

    assert refused.value.response.status_code == 403


def test_what_is_no_filter_ends_the_connection(tmp_path: Path) -> None:
    with served(tmp_path) as sink, watching(sink) as client:
        client.send('{"topic": 5}')
        with pytest.raises(ConnectionClosed) as closed:
            read_on(client)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_it_stops_within_two_seconds_with_open_websockets(tmp_path: Path) -> None:
    with served(tmp_path) as sink, watching(sink) as client:
        assert sink.web is not None
        started_s = time.monotonic()
        sink.web.stop()
        elapsed_s = time.monotonic() - started_s
        with pytest.raises(ConnectionClosed):
            read_on(client)

    assert elapsed_s < 2.0
