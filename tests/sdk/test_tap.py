"""``eventstorm tap`` prints events as they pass, and nothing of them can act upon the terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import bson
import pytest
import zmq

from eventstorm.commands._lines import text_line
from eventstorm.wire import Header, decode_message, encode_event, encode_message

PROGRAM = str(Path(sys.executable).with_name("eventstorm"))


def _message(topic, *documents, host="web-1"):
    payload = b"".join(encode_event(1_700_000_000_123, each) for each in map(_encode, documents))
    return encode_message(topic, Header(b"s" * 12, 0, 0, len(documents), 0, 0, host, "shop", 1), payload)


def _encode(document):
    return document if isinstance(document, bytes) else bson.encode(document)


def _line(document, **names):
    message = decode_message(_message("a.b", document, **names))
    return text_line(message, next(iter(message.events())), colour=False)


@pytest.fixture
def source():
    """A socket in a router's place, and its endpoint."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as source:
        source.linger = 0
        source.rcvtimeo = 10_000
        yield source, f"tcp://127.0.0.1:{source.bind_to_random_port('tcp://127.0.0.1')}"


@pytest.fixture
def tap(source):
    """Return a function that starts tapping and waits until it has subscribed."""
    started = []

    def tap(*arguments):
        command = [PROGRAM, "tap", "--egress", source[1], *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert source[0].recv()[:1] == b"\x01"
        return process

    yield tap
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_a_line_has_time_topic_source_and_fields():
    line = _line({"total": 42.5, "http": {"route": "/x", "status": 200}, "list": [1, "a"], "none": None, "ok": True})
    time_, _, rest = line.partition(" ")
    assert len(time_) == len("12:34:56.123")
    assert time_.endswith(".123")
    assert rest == 'a.b shop@web-1 total=42.5 http.route=/x http.status=200 list=[1,"a"] none=null ok=true'


@pytest.mark.parametrize(
    "text", ["\x1b[31mred", "a\nb", "\x07", "\x9b31m", "\u202eabc", "\u2028", "a b", "", '"', "=", "\x7f"]
)
def test_hostile_text_stays_text(text):
    for line in (
        _line({"k": text}),
        _line({"k" + text.replace("\0", ""): 1}),
        _line({}, host=text),
        _line({"k": [text]}),
    ):
        assert line.isprintable()
        assert "\x1b" not in line


def test_events_come_as_json_of_their_own(source, tap):
    process = tap("--json", "--count", "2")
    source[0].send_multipart(_message("a.b", {"x": bson.Int64(1), "when": bson.DatetimeMS(0)}, {"x": "\x1b"}, {"x": 3}))
    output, _ = process.communicate(timeout=60)
    first, second = map(json.loads, output.splitlines())
    assert first == {
        "_id": (b"s" * 12).hex() + "0" * 24,
        "ts": {"$date": "2023-11-14T22:13:20.123Z"},
        "topic": "a.b",
        "source": {"id": (b"s" * 12).hex(), "host": "web-1", "service": "shop", "pid": 1},
        "data": {"x": 1, "when": {"$date": "1970-01-01T00:00:00Z"}},
    }
    assert second["data"] == {"x": "\x1b"}
    assert "\x1b" not in output
    assert process.returncode == 0


def test_what_is_malformed_is_counted_and_left_out(source, tap):
    process = tap("--count", "1")
    bad = bson.encode({"a": 1}).replace(b"\x10a", b"\x42a")
    for frames in ([b"x"], [b"x"] * 10, _message("a", bad), _message("a", {"fine": 1})):
        source[0].send_multipart(frames)
    output, said = process.communicate(timeout=60)
    assert output.endswith("fine=1\n")
    assert "left out 3 malformed" in said


def test_ctrl_c_ends_it_with_130_and_no_traceback(source, tap):
    process = tap()
    source[0].send_multipart(_message("a", {"x": 1}))
    assert process.stdout.readline().endswith("x=1\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == ""


def test_a_reader_that_goes_away_ends_it_quietly(source, tap):
    process = tap()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        source[0].send_multipart(_message("a", {"x": 1}))
        time.sleep(0.02)
    assert process.returncode == 0
    assert process.stderr.read() == ""


def test_topics_are_subscribed_to_as_written(source, tap):
    tap("http.", "shop.order")
    # The other one; `tap` took the first.
    assert source[0].recv() in (b"\x01http.", b"\x01shop.order\0")


def test_where_no_router_is_a_hint_comes(tmp_path):
    command = [PROGRAM, "tap", "--egress", f"ipc://{tmp_path}/none", "--seconds", "3.3"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == f"eventstorm tap: nothing yet from ipc://{tmp_path}/none; is a router running there?\n"


@pytest.mark.parametrize("arguments", [["Bad"], ["--count", "0"], ["--seconds", "x"], ["--egress", "nowhere"]])
def test_wrong_usage_ends_it_with_2(arguments):
    ended = subprocess.run([PROGRAM, "tap", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
