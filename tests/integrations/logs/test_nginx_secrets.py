"""Secrets in what nginx logs are told no more than those that the middlewares see."""

from __future__ import annotations

import json
from typing import Any

import bson
import pytest

from eventstorm_integrations.logs.nginx import NginxParser
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.stream import Stream
from integrations.recorded import Recorded

AT = "[24/Nov/2026:10:00:00 +0000]"
LINE = f'a - - {AT} "GET /reset?page=1&token=hunter2 HTTP/1.1" 200 5 "https://a/?code=hunter2&b=1" "curl/8.1"'
ERROR = "2026/11/24 10:00:00 [error] 7#7: *1 "
CONTEXT = ', client: 192.0.2.7, server: shop, request: "GET /?sig=hunter2 HTTP/1.1", upstream: "http://u/?sig=hunter2"'


def events(line: str, **settings: Any) -> list[dict[str, Any]]:
    """Return what a line tells, by the quick way and by the other one."""
    parser = NginxParser(LogsSettings(timezone="UTC", **settings))
    encoded = parser.encode(line, 7.0) if settings.get("format") != "json" else None
    quick = [bson.decode(encoded[1])] if encoded else []
    return [*quick, *(dict(event.data) for event in parser.feed(line, 7.0))]


def test_values_of_parameters_are_left_out_by_their_names() -> None:
    quick, slow = events(LINE)
    for data in (quick, slow):
        assert data["url"] == {"path": "/reset", "query": "page=1&token=[redacted]"}
        assert data["http"]["request"]["header"] == {"referer": "https://a/?code=[redacted]&b=1"}


def test_all_can_be_shown() -> None:
    for data in events(LINE, reveal=("*",)):
        assert data["url"]["query"] == "page=1&token=hunter2"
        assert data["http"]["request"]["header"] == {"referer": "https://a/?code=hunter2&b=1"}


def test_more_names_can_be_secret() -> None:
    for data in events(LINE, redact=("page",)):
        assert data["url"]["query"] == "page=[redacted]&token=[redacted]"


@pytest.mark.parametrize(
    ("format", "line"),
    [
        ('"$request" $status', '"GET http://a/?token=hunter2 HTTP/1.1" 200'),
        ('"$request" $status', '"GET /ä?token=hunter2 HTTP/1.1" 200'),
        ('"$request" $status', '"GET /a b?token=hunter2 x y" 400'),
        ("$request_uri $status", "/?next=%3Ftoken%3Dhunter2 200"),
        ("$uri $args", "/ token=hunter2"),
        ("$arg_token $status", "hunter2 200"),
        ("$http_x_api_key $status", "hunter2 200"),
        ('"$http_cookie" $cookie_sid "$sent_http_set_cookie"', '"sid=hunter2" hunter2 "sid=hunter2"'),
        ('"$upstream_http_set_cookie" "$sent_http_location"', '"a=hunter2" "/?code=hunter2"'),
        ("json", json.dumps({"request": "GET /?token=hunter2 HTTP/1.1", "http_authorization": "hunter2"})),
        ("json", json.dumps({"request_uri": "/?token=hunter2", "args": "token=hunter2", "cookie_sid": "hunter2"})),
        ("combined", f"{ERROR}open() failed{CONTEXT}"),
        ("combined", f'{ERROR}invalid URL "/?token=hunter2"{CONTEXT}, referrer: "https://a/?code=hunter2"'),
    ],
)
def test_no_field_tells_a_secret(format: str, line: str) -> None:
    told = events(line, format=format)
    assert told
    assert "hunter2" not in repr(told)
    assert "[redacted]" in repr(told)
    assert "hunter2" in repr(events(line, format=format, reveal=("*",)))


def test_samples_of_lines_that_cannot_be_read_have_none() -> None:
    settings, recorded = LogsSettings(format="$status"), Recorded()
    stream = Stream("access.log", NginxParser(settings), recorded, settings)
    stream.feed(["200"], 7.0)
    stream.feed(['2026/11/24 10:00:00 "GET /?token=hunter2 HTTP/1.1"'], 7.0)
    stream.tell(7.0, all=True)
    (sample,) = recorded.of("log.unparsed")
    assert sample["line"] == '2026/11/24 10:00:00 "GET /?token=[redacted]'
