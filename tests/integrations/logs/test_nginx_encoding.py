"""What goes to the wire of an access log's usual lines is what a dictionary of them would be encoded as."""

from __future__ import annotations

import contextlib

import bson
from hypothesis import example, given
from hypothesis import strategies as st

from eventstorm_integrations.logs.event import Unparsed
from eventstorm_integrations.logs.nginx import NginxParser
from eventstorm_integrations.logs.settings import LogsSettings

VARIABLES = {
    "remote_addr": ["192.0.2.7", "2001:db8::1", "unix:"],
    "remote_user": ["-", "ann", "a b"],
    "time_local": ["24/Nov/2026:10:00:00 +0000", "31/Feb/2026:10:00:00 +0000", "-"],
    "msec": ["1790000000.123", "nan", "1e400"],
    "request": [
        *("GET / HTTP/1.1", "GET /a?b=c HTTP/2.0", "POST /a? HTTP/1.0", "GET /? HTTP/3.0", "HEAD //?? HTTP/1.1"),
        *("-", "", "GET", "- /a HTTP/1.1", "BREW /pot HTTP/1.1", "GET http://a:80/b?c HTTP/1.1", "GET / HTTP/9.9"),
        *(f"GET /{'a' * 9_998} HTTP/1.1", f"GET /?{'a' * 10_000} HTTP/1.1"),
        *("GET  HTTP/1.1", "OPTIONS * HTTP/1.1", "GET /a b HTTP/1.1", "GET /\\x22 HTTP/1.1", "GET /ä HTTP/1.1"),
    ],
    "status": ["200", "404", "-", "000", "2147483648", "x", "-1"],
    "body_bytes_sent": ["0", "5120", "-", "2147483647", "2147483648", "9223372036854775808", "9" * 30, "1_0", ""],
    "request_length": ["0", "300", "-"],
    "request_time": ["0.000", "12.5", "-", "nan"],
    "http_referer": ["-", "https://shop.example/", "", "a\tb"],
    "http_user_agent": ["-", "curl/8.1", "x" * 600, "ü", "a\\x5cb", "Ding [1.0]"],
    "http_x_forwarded_for": ["-", "192.0.2.9, 192.0.2.10"],
    "http_cookie": ["-", "session=1"],
    "scheme": ["http", "https", "-"],
    "host": ["shop.example", "-"],
    "server_port": ["80", "443", "-"],
    "server_protocol": ["HTTP/1.1", "-"],
    "upstream_addr": ["-", "10.0.0.1:80, 10.0.0.2:80"],
    "args": ["-", "a=b"],
    "realip_remote_addr": ["192.0.2.8", "-"],
    "geoip_city": ["Köln", "-", "Bern"],
}


@st.composite
def logs(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return a format and lines of it."""
    names = draw(st.lists(st.sampled_from(sorted(VARIABLES)), min_size=1, max_size=8))
    lines = [
        " ".join(f'"{draw(st.sampled_from(VARIABLES[name]))}"' for name in names)
        for _ in range(draw(st.integers(1, 5)))
    ]
    return " ".join(f'"${name}"' for name in names), lines


@given(logs())
@example(('"$status"', ['"-"', '"200"', '"-"']))
@example(('"$request" "$status"', ['"GET / HTTP/1.1" "200"']))
def test_a_line_of_any_format_is_the_same_event_with_and_without_a_dictionary(log: tuple[str, list[str]]) -> None:
    format, lines = log
    encoding, plain = (NginxParser(LogsSettings(format=format, timezone="UTC")) for _ in range(2))
    for line in lines:
        encoded = encoding.encode(line, 7.0)
        if encoded is None:
            with contextlib.suppress(Unparsed):
                assert [bson.encode(event.data) for event in plain.feed(line, 7.0)]
            continue
        (event,) = plain.feed(line, 7.0)
        topic, data, ts_s = encoded
        assert (topic, repr(ts_s)) == (event.topic, repr(event.ts_s))
        assert repr(sorted_keys(bson.decode(data))) == repr(sorted_keys(bson.decode(bson.encode(event.data))))


def sorted_keys(value: object) -> object:
    """Return a document of which only the order of the fields is another."""
    return {key: sorted_keys(each) for key, each in sorted(value.items())} if isinstance(value, dict) else value


@given(st.text())
def test_no_text_at_all_is_more_than_not_usual(line: str) -> None:
    parser = NginxParser(LogsSettings(timezone="UTC"))
    encoded = parser.encode(line, 7.0)
    if encoded is not None:
        assert [event.data for event in parser.feed(line, 7.0)] == [bson.decode(encoded[1])]


def test_the_usual_line_needs_no_dictionary() -> None:
    line = '192.0.2.7 - - [24/Nov/2026:10:00:00 +0000] "GET /shop?item=7 HTTP/1.1" 200 5120 "-" "curl/8.1"'
    encoded = NginxParser(LogsSettings(timezone="UTC")).encode(line, 7.0)
    assert encoded is not None
    topic, data, ts_s = encoded
    assert (topic, ts_s) == ("http.hit", 1_795_514_400.0)
    assert bson.decode(data) == {
        "client": {"address": "192.0.2.7"},
        "http": {"request": {"method": "GET"}, "response": {"status_code": 200, "body": {"size": 5120}}},
        "network": {"protocol": {"version": "1.1"}},
        "url": {"path": "/shop", "query": "item=7"},
        "user_agent": {"original": "curl/8.1"},
    }


def test_a_parser_that_sees_ever_new_visitors_does_not_grow() -> None:
    import tracemalloc

    parser = NginxParser(LogsSettings(timezone="UTC"))

    def visit(first: int) -> None:
        for number in range(first, first + 10_000):
            agent = f"Visitor {number}".ljust(300)
            parser.encode(f'a - - [24/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "{agent}"', 7.0)

    visit(0)
    tracemalloc.start()
    try:
        visit(10_000)
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()
