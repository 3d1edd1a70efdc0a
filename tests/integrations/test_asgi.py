"""The ASGI middleware: requests are hits, WebSocket sessions are events, and nothing else changes."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from http import HTTPStatus
from typing import Any

import pytest

import eventstorm
import eventstorm.testing
from eventstorm.context import common_fields
from eventstorm_integrations.asgi import EventstormMiddleware
from eventstorm_integrations.http import HttpSettings
from integrations.asgi_apps import START, body, hello, sending, served_by
from integrations.asgi_server import scope_of, serve
from integrations.recorded import Recorded


def test_a_scope_can_be_copied_and_pickled(recorded: Recorded) -> None:
    copies: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        copies.extend([copy.deepcopy(scope), copy.copy(scope), pickle.loads(pickle.dumps(scope))])
        await served_by_inner(copies[0], receive, send)

    served_by_inner = EventstormMiddleware(hello, HttpSettings(), source=recorded)
    served_by(recorded, app, scope_of(extensions={}))

    assert recorded.hit()["http"]["response"]["body"]["size"] == 5
    assert [each["path"] for each in copies] == ["/", "/", "/"]


def test_servers_are_returned_what_applications_return(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> Any:
        await hello(scope, receive, send)
        return "wrong, which is the server's to say"

    assert served_by(recorded, app).returned == "wrong, which is the server's to say"


def test_a_request_is_one_hit_with_the_names_of_opentelemetry(recorded: Recorded) -> None:
    scope = scope_of(
        method="POST",
        path="/shop/item/7",
        query_string=b"page=2",
        scheme="https",
        http_version="2",
        headers=[(b"host", b"shop.example"), (b"user-agent", b"curl/8.0"), (b"content-length", b"11")],
    )

    served = served_by(recorded, hello, scope)
    hit = recorded.hit()

    assert served.body == b"hello"
    assert hit.pop("duration") >= hit.pop("time_to_first_byte") > 0
    assert len(hit.pop("trace_id")) == 32
    assert len(hit.pop("span_id")) == 16
    assert hit == {
        "http": {
            "request": {"method": "POST", "body": {"size": 11}},
            "response": {"status_code": 200, "body": {"size": 5}},
        },
        "url": {"path": "/shop/item/7", "query": "page=2", "scheme": "https"},
        "server": {"address": "shop.example", "port": 443},
        "network": {"protocol": {"version": "2"}},
        "client": {"address": "192.0.2.7"},
        "user_agent": {"original": "curl/8.0"},
    }


def test_events_go_to_the_sdk_by_default() -> None:
    with eventstorm.testing.capture_events() as events:
        serve(EventstormMiddleware(hello))

    assert [hit["http"]["response"]["status_code"] for hit in events.of("http.hit")] == [200]


def test_a_stream_is_counted_to_its_end(recorded: Recorded) -> None:
    app = sending(START, body(b"", True), body(b"ab", True), body(b"cde", True), body(b""))

    assert served_by(recorded, app).body == b"abcde"
    assert recorded.hit()["http"]["response"]["body"]["size"] == 5


def test_a_request_without_length_is_counted_as_it_is_read(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    parts = [{"type": "http.request", "body": b"x" * 10, "more_body": more} for more in (True, True, False)]
    served_by(recorded, app, incoming=parts)

    assert recorded.hit()["http"]["request"]["body"]["size"] == 30


def test_work_in_the_background_is_not_part_of_the_duration(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        await asyncio.sleep(0.05)  # what takes time in the background

    began = time.time()
    served_by(recorded, app)
    hit = recorded.hit()

    assert hit["background"]["duration"] >= 0.045
    assert hit["duration"] + hit["background"]["duration"] <= time.time() - began
    assert recorded.events[0][2] <= time.time() - 0.045, "the event is of the response's end"


def test_trailers_end_the_response(recorded: Recorded) -> None:
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    app = sending({**START, "trailers": True}, body(b"abc"), {**trailers, "more_trailers": True}, trailers)

    served = served_by(recorded, app)

    assert served.error is None
    assert [each["type"] for each in served.messages][2:] == ["http.response.trailers"] * 2
    assert "error" not in recorded.hit()
    assert recorded.hit()["http"]["response"]["body"]["size"] == 3


def test_a_path_that_the_server_sends_has_the_announced_length(recorded: Recorded) -> None:
    start = {**START, "headers": [(b"Content-Length", b"7")]}
    path = {"type": "http.response.pathsend", "path": "/srv/file"}

    served = served_by(recorded, sending(start, path))

    assert served.messages == [start, path]
    assert served.messages[1] is path
    assert recorded.hit()["http"]["response"]["body"]["size"] == 7
    assert "error" not in recorded.hit()


TRAILERS = {"type": "http.response.trailers", "headers": []}


@pytest.mark.parametrize(
    "messages",
    [
        [body(b"abc")],
        [{"type": "http.response.pathsend", "path": "/srv/file"}],
        [{"type": "http.response.zerocopysend", "file": 3, "count": 3}],
        [body(b"abc"), {**TRAILERS, "more_trailers": True}],
    ],
)
def test_a_response_is_not_over_before_its_last_trailers(messages: list[Any], recorded: Recorded) -> None:
    served_by(recorded, sending({**START, "trailers": True}, *messages))

    assert recorded.hit()["error"] == {"type": "incomplete_response"}


def test_a_file_that_the_server_copies_by_itself_is_counted(recorded: Recorded) -> None:
    copy = {"type": "http.response.zerocopysend", "file": 3, "count": 5}

    served_by(recorded, sending(START, {**copy, "more_body": True}, copy))

    assert recorded.hit()["http"]["response"]["body"]["size"] == 10
    assert "error" not in recorded.hit()


def test_a_scope_changed_by_the_application_is_recorded_as_it_came(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path"], scope["client"] = "/there", ("203.0.113.9", 5)
        await hello(scope, receive, send)

    served_by(recorded, app, scope_of(path="/mounted/there"))

    assert recorded.hit()["url"]["path"] == "/mounted/there"
    assert recorded.hit()["client"]["address"] == "192.0.2.7"


def test_early_hints_and_unknown_messages_pass(recorded: Recorded) -> None:
    hint = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]}

    served = served_by(recorded, sending(hint, START, body(b"x")))

    assert served.messages[0]["type"] == "http.response.early_hint"
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 1}}


def test_the_body_of_a_head_request_is_not_sent(recorded: Recorded) -> None:
    served_by(recorded, hello, scope_of(method="HEAD"))

    assert recorded.hit()["http"]["response"]["body"]["size"] == 0


@pytest.mark.parametrize("kind", ["lifespan", "telegram", None])
def test_other_scopes_are_left_alone(kind: str | None, recorded: Recorded) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([dict(scope), receive, send])

    async def main() -> None:
        scope: dict[str, Any] = {"asgi": {}} if kind is None else {"type": kind}
        await EventstormMiddleware(app, HttpSettings(), source=recorded)(scope, receive, send)
        assert seen == [scope, receive, send]

    async def receive() -> dict[str, Any]:
        return {}

    async def send(message: Any) -> None: ...

    asyncio.run(main())

    assert not recorded.events


def test_server_and_client_may_be_unknown(recorded: Recorded) -> None:
    served_by(recorded, hello, scope_of(client=None, server=None, headers=[]))
    served_by(recorded, hello, {**scope_of(headers=[]), "client": None, "server": None})
    served_by(recorded, hello, scope_of(client=["", 0], server=["/run/app.sock", None], headers=[]))

    assert all("client" not in hit for hit in recorded.of("http.hit"))
    assert recorded.of("http.hit")[2]["server"]["address"] == "/run/app.sock"


def test_only_what_the_standard_asks_for_is_needed(recorded: Recorded) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}

    assert served_by(recorded, hello, scope).body == b"hello"
    assert recorded.hit()["http"]["response"]["status_code"] == 200


@pytest.mark.parametrize("path", ["/caf\u00e9", "/\udcff\udcfe", "/" + "x" * 100_000, "/a\0b"])
def test_a_path_of_any_bytes_is_a_text(path: str, recorded: Recorded) -> None:
    served_by(recorded, hello, scope_of(path=path))

    assert recorded.hit()["url"]["path"] == path.replace("\udcff\udcfe", "\ufffd\ufffd")[:4096]


def test_headers_of_any_bytes_and_size_do_no_harm(recorded: Recorded) -> None:
    names = (b"host", b"user-agent", b"traceparent", b"content-length", b"\xff")
    scope = scope_of(query_string=b"\xff=%zz&" * 10_000, headers=[(name, b"\xff\0" * 50_000) for name in names])

    assert served_by(recorded, hello, scope).body == b"hello"
    assert recorded.hit()["url"]["query"].startswith("\ufffd=%zz")


def test_headers_that_can_be_read_once_are_left_to_the_application(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert list(scope["headers"]) == [(b"host", b"shop.example")]
        await hello(scope, receive, send)

    assert served_by(recorded, app, scope_of(headers=iter([(b"host", b"shop.example")]))).error is None
    assert recorded.hit()["server"]["address"] == "127.0.0.1"


def test_a_mounted_application_is_part_of_the_same_request(recorded: Recorded) -> None:
    inner = Recorded()
    mounted = EventstormMiddleware(hello, HttpSettings(), source=inner)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await mounted({**scope, "root_path": "/mounted"}, receive, send)

    served_by(recorded, app, scope_of(path="/mounted/there"))

    assert recorded.hit()["url"]["path"] == "/mounted/there"
    assert not inner.events


def test_what_the_application_writes_into_the_scope_is_seen_outside(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["endpoint"] = "found"
        await hello(scope, receive, send)

    scope = scope_of()
    served_by(recorded, app, scope)

    assert scope["endpoint"] == "found"


def test_a_scope_that_is_served_again_is_another_request(recorded: Recorded) -> None:
    scope = scope_of()

    served_by(recorded, hello, scope)
    served_by(recorded, hello, scope)

    assert len({hit["trace_id"] for hit in recorded.of("http.hit")}) == 2


@pytest.mark.parametrize(("status", "code"), [(HTTPStatus.NOT_FOUND, 404), (10**30, None), (-1, None), ("200", None)])
def test_a_status_is_a_number_that_a_status_can_be(status: Any, code: int | None, recorded: Recorded) -> None:
    served_by(recorded, sending({**START, "status": status}, body(b"x")))

    assert recorded.hit()["http"]["response"].get("status_code") == code


def test_nothing_is_built_that_nobody_listens_to_and_the_trace_is_there() -> None:
    deaf, seen = Recorded(wanted=False), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(common_fields.get())
        await hello(scope, receive, send)

    assert served_by(deaf, app).body == b"hello"
    assert not deaf.events
    assert seen[0] is not None
    assert set(seen[0]) == {"trace_id", "span_id"}
