"""What a router and a sink cost by message and event, in CPU time of their own process: what `eventstorm plan` goes by.

CPU time says what one core can do, also where sender, router and sink have to share two cores; the ratio of two workers
to one is of time that has passed, and on a machine with two cores is held down by the sender and the router.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median

import bson
import psutil
import zmq

from eventstorm.wire import Header, encode_event, encode_message
from eventstorm_sinks.share import Share
from harness import COMMAND, FIELDS, TOPIC, Result, free_port, process, until

EVENTS_A_MESSAGE = 250
_ROUTER = (COMMAND, "router", "--hwm", "1000000")


def run(quick: bool) -> list[Result]:
    """Measure in turn."""
    rounds, messages = (1, 2_000) if quick else (3, 20_000)
    small, large, fanned, one, two, other, page = ([] for _ in range(7))  # type: ignore[var-annotated]
    for _ in range(rounds):
        small.append(_router(messages * 5, 1, 1))
        large.append(_router(messages, EVENTS_A_MESSAGE, 1))
        fanned.append(_router(messages, EVENTS_A_MESSAGE, 2))
        one.append(_sink(messages // 10, 1))
        two.append(_sink(messages // 10, 2))
        other.append(_sink(messages, 1, foreign=True))
        page.append(_page(messages // 5))
    cpu_us = 1e6 * median(large)
    events_s = median(rate for rate, _ in one)
    return [
        Result("router: CPU of a message of one event, one sink", 1e6 * median(small), "µs"),
        Result(f"router: CPU of a message of {EVENTS_A_MESSAGE} events, one sink", cpu_us, "µs"),
        Result(
            "router: messages a second of one core", 1 / median(large), "/s", detail=f"{EVENTS_A_MESSAGE} events each"
        ),
        Result("router: a second sink / one sink", median(fanned) / median(large), "x"),
        Result("sink: CPU of an event into JSON lines", 1e6 * median(cpu for _, cpu in one), "µs"),
        Result("sink: two workers / one", median(rate for rate, _ in two) / events_s, "x", detail=f"{events_s:,.0f}/s"),
        Result("sink: CPU of a message of another's share", 1e6 * EVENTS_A_MESSAGE * median(c for _, c in other), "µs"),
        Result("page over all sinks: CPU of an event, nobody looking", 1e6 * median(page), "µs"),
    ]


def _router(messages: int, events: int, sinks: int) -> float:
    """Return the router's CPU seconds for a message."""
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    frames = _message(bson.ObjectId().binary, 0, events)
    with (
        process(
            COMMAND, "router", "--ingress", ingress, "--egress", egress, "--hwm", "1000000", ready=ingress
        ) as router,
        zmq.Context() as context,
        contextlib.ExitStack() as stack,
    ):
        receivers = [stack.enter_context(context.socket(zmq.SUB)) for _ in range(sinks)]
        for receiver in receivers:
            receiver.rcvhwm = 0
            receiver.subscribe(b"")
            receiver.connect(egress)
        threads = [threading.Thread(target=_receive, args=(each, messages)) for each in receivers]
        source = stack.enter_context(context.socket(zmq.XPUB))
        source.sndhwm = source.linger = 0
        source.connect(ingress)
        source.recv()
        time.sleep(0.5)  # for the second sink's subscription, of which the source hears nothing
        before_s = _cpu_s(router.pid)
        for thread in threads:
            thread.start()
        for _ in range(messages):
            source.send_multipart(frames, copy=False)
        for thread in threads:
            thread.join()
        return (_cpu_s(router.pid) - before_s) / messages


def _receive(receiver: zmq.Socket[bytes], messages: int) -> None:
    receiver.rcvtimeo = 20_000
    for _ in range(messages):
        receiver.recv_multipart(copy=False)


def _sink(messages: int, workers: int, *, foreign: bool = False) -> tuple[float, float]:
    """Return events a second, and CPU seconds of an event in all processes of the sink; or what skipping it takes."""
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    sources = [share.new_source_id() for share in (Share(1, 2), Share(2, 2))]
    share = ["--share", "1/2"] if foreign else []
    with (
        tempfile.TemporaryDirectory() as folder,
        process(*_ROUTER, "--ingress", ingress, "--egress", egress, ready=ingress),
        process(
            *(COMMAND, "sink", f"jsonl:{folder}/events.jsonl", "--egress", egress, "--workers", str(workers), *share),
            ready="ready",
            environment={"EVENTSTORM_SINK_QUEUE_BYTES": str(2**30)},
        ) as sink,
        zmq.Context() as context,
        context.socket(zmq.XPUB) as source,
    ):
        source.sndhwm = source.linger = 0
        source.connect(ingress)
        source.recv()
        time.sleep(0.5)
        processes = [sink.pid, *(each.pid for each in psutil.Process(sink.pid).children())]
        before_s, began_s = sum(map(_cpu_s, processes)), time.perf_counter()
        sent = 0
        for number in range(messages):
            source_id = sources[1] if foreign else sources[number % 2]
            seq = (number if foreign else number // 2) * EVENTS_A_MESSAGE
            source.send_multipart(_message(source_id, seq, EVENTS_A_MESSAGE), copy=False)
            sent += EVENTS_A_MESSAGE
        last = [sources[0]] if foreign else sources
        for source_id in last:  # what tells that all before it has been dealt with
            source.send_multipart(_message(source_id, 2**40, 1))
        until(lambda: _has(folder, len(last)), 120, pause_s=0.02)
        elapsed_s = time.perf_counter() - began_s
        return sent / elapsed_s, (sum(map(_cpu_s, processes)) - before_s) / sent


def _page(messages: int) -> float:
    """Return the CPU seconds that an event takes of a page over all sinks, whose store is away."""
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    url = f"http://127.0.0.1:{free_port()}"
    with (
        process(*_ROUTER, "--ingress", ingress, "--egress", egress, ready=ingress),
        process(
            *(COMMAND, "page", "mongodb://127.0.0.1:1/x", "--egress", egress, "--http", url.removeprefix("http://")),
            ready="ready",
        ) as page,
        zmq.Context() as context,
        context.socket(zmq.XPUB) as source,
    ):
        source.sndhwm = source.linger = 0
        source.connect(ingress)
        source.recv()
        before_s, source_id = _cpu_s(page.pid), bson.ObjectId().binary
        for number in range(messages):
            source.send_multipart(_message(source_id, number * EVENTS_A_MESSAGE, EVENTS_A_MESSAGE), copy=False)
        until(lambda: _received(url) >= messages * EVENTS_A_MESSAGE, 120, pause_s=0.5)
        return (_cpu_s(page.pid) - before_s) / (messages * EVENTS_A_MESSAGE)


def _received(url: str) -> int:
    with urllib.request.urlopen(f"{url}/api/ledger", timeout=10) as answer:
        return sum(stream["received"] for stream in json.load(answer)["streams"])


def _has(folder: str, count: int) -> bool:
    """Tell whether so many books have come to the last number."""
    wanted = f'"next_seq":{2**40 + 1},'
    return sum(path.read_text("utf-8").count(wanted) for path in Path(folder).glob("*.books")) >= count


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _message(source_id: bytes, seq: int, events: int) -> list[bytes]:
    header = Header(source_id, 0, seq, events, 0, 0, "host", "bench", 1)
    return encode_message(TOPIC, header, _EVENT * events)


_EVENT = encode_event(1_700_000_000_000, bson.encode(FIELDS))
