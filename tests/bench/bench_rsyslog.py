"""From ZeroMQ into MongoDB: `eventstorm sink` against rsyslog with imczmq and ommongodb, into the same server.

The server is mongo-java-server with its data in a file; it needs a JDK and Maven, see ``nox -s servers``. rsyslog needs
``apt-get install rsyslog rsyslog-czmq rsyslog-mongodb``. Both get the same events: rsyslog as JSON, an event a message,
which is what it reads, over PUSH and PULL, which lose nothing; the sink as sources send them. rsyslog has its defaults:
four threads for the action were not faster, as the server takes one command at a time.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import bson
import zmq
from pymongo import MongoClient
from pymongo.collection import Collection

from eventstorm.wire import Header, encode_event, encode_message
from harness import COMMAND, FIELDS, TOPIC, Result, free_port, process, until

EVENTS_IN_MESSAGE = 250  # about 64 KiB, where a source sends
NOW_MS = 1_700_000_000_000
_CONFIGURATION = """
global(workDirectory="{folder}")
module(load="imczmq")
module(load="mmjsonparse")
module(load="ommongodb")
template(name="event" type="subtree" subtree="$!")
ruleset(name="events") {{
  action(type="mmjsonparse" cookie="")
  action(type="ommongodb" uristr="{server}" db="bench" collection="rsyslog" template="event")
}}
input(type="imczmq" endpoints="@{endpoint}" socktype="PULL" ruleset="events")
action(type="omfile" file="{folder}/rsyslog.log")
"""

Send = Callable[[int], None]


def run(quick: bool) -> list[Result]:
    """Measure all ways in turn, and return medians."""
    if missing := _missing():
        print(f"rsyslog IS LEFT OUT: {missing}", file=sys.stderr)
        return []
    rounds, events = (2, 2_000) if quick else (5, 10_000)
    rates: dict[str, list[float]] = {"sink": [], "rsyslog": []}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(_server(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        client = stack.enter_context(MongoClient[dict[str, Any]](url))
        context = stack.enter_context(zmq.Context())
        sends = {
            "sink": stack.enter_context(_sink(context, url, events)),
            "rsyslog": stack.enter_context(_rsyslog(context, url, events)),
        }
        for number in range(rounds + 1):
            for name in sorted(sends, reverse=bool(number % 2)):
                seconds = _measure(partial(sends[name], number * events), client.bench[name], (number + 1) * events)
                if number:  # the first round warms the server up
                    rates[name].append(events / seconds)
    ratio = median(ours / theirs for ours, theirs in zip(rates["sink"], rates["rsyslog"], strict=True))
    return [
        Result("ZeroMQ → MongoDB, `eventstorm sink`", median(rates["sink"]), "events/s", detail="mongo-java-server"),
        Result("ZeroMQ → MongoDB, rsyslog: imczmq → ommongodb", median(rates["rsyslog"]), "events/s"),
        Result("`eventstorm sink` / rsyslog", ratio, "x", at_least=1.0),
    ]


def _missing() -> str:
    """Return what is not installed and what to do; empty when all is there."""
    if not (shutil.which("java") and shutil.which("mvn")):
        return "no Java and Maven here: apt-get install default-jdk-headless maven"
    modules = ("imczmq", "ommongodb", "mmjsonparse")
    there = {path.stem for path in Path("/usr/lib").glob("*/rsyslog/*.so")}
    if not shutil.which("rsyslogd") or not there.issuperset(modules):
        return "no rsyslogd with these modules here: apt-get install rsyslog rsyslog-czmq rsyslog-mongodb"
    return ""


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    sys.path.append(str(Path(__file__).parent.parent))
    from servers.mongodb_server import MongoServer

    server = MongoServer(folder)
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


@contextlib.contextmanager
def _sink(context: zmq.Context[Any], url: str, events: int) -> Iterator[Send]:
    """Run a sink with a router in it, and yield what sends it events."""
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    options = ("--embed-router", "--ingress", ingress, "--egress", egress, "--topic", TOPIC)
    with (
        process(COMMAND, "sink", f"{url}/bench.sink", *options, ready=ingress),
        context.socket(zmq.XPUB) as socket,
    ):
        socket.sndhwm = socket.linger = 0
        socket.connect(ingress)
        socket.recv()  # the sink's subscription
        source = bson.ObjectId().binary
        payloads = [encode_event(NOW_MS + number, bson.encode(each)) for number, each in enumerate(_events(events))]

        def send(first_seq: int) -> None:
            for at in range(0, events, EVENTS_IN_MESSAGE):
                header = Header(source, 0, first_seq + at, EVENTS_IN_MESSAGE, 0, NOW_MS, "host", "bench", 1)
                socket.send_multipart(encode_message(TOPIC, header, b"".join(payloads[at : at + EVENTS_IN_MESSAGE])))

        yield send


@contextlib.contextmanager
def _rsyslog(context: zmq.Context[Any], url: str, events: int) -> Iterator[Send]:
    """Run rsyslog, and yield what sends it events."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    messages = [
        json.dumps({"ts": {"$date": NOW_MS}, "topic": TOPIC, "data": each}).encode() for each in _events(events)
    ]
    with tempfile.TemporaryDirectory() as folder, context.socket(zmq.PUSH) as socket:
        configuration, log = Path(folder, "rsyslog.conf"), Path(folder, "rsyslog.log")
        configuration.write_text(_CONFIGURATION.format(folder=folder, server=url, endpoint=endpoint))
        command = ["rsyslogd", "-n", "-f", str(configuration), "-i", f"{folder}/pid"]
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        socket.sndhwm = socket.linger = 0
        socket.connect(endpoint)

        def send(_first_seq: int) -> None:
            assert running.poll() is None, log.read_text()
            for message in messages:
                socket.send(message)

        try:
            yield send
        finally:
            running.kill()
            running.wait()


def _events(count: int) -> Iterator[dict[str, Any]]:
    """Yield so many events, with values that vary as they do in life."""
    for number in range(count):
        yield {**FIELDS, "path": f"/shop/{number % 5000}", "size": number % 99_991}


def _measure(send: Callable[[], None], collection: Collection[dict[str, Any]], total: int) -> float:
    """Return the seconds from the first event that is sent until all are in the collection."""
    began_s = time.perf_counter()
    send()
    # Asked seldom, since the server answers one question at a time.
    until(lambda: collection.estimated_document_count() >= total, 120, pause_s=0.05)
    return time.perf_counter() - began_s
