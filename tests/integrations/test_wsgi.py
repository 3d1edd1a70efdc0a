"""The WSGI middleware: every request becomes one hit with what was really sent, and nothing else changes."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest

import eventstorm
import eventstorm.testing
from eventstorm.context import common_fields
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.wsgi import EventstormMiddleware
from integrations.recorded import Recorded
from integrations.wsgi_apps import HEADERS, Closable, answering, hello, served_by
from integrations.wsgi_server import environ_of, serve


def test_a_request_is_one_hit_with_the_names_of_opentelemetry(recorded: Recorded) -> None:
    environ = environ_of(
        REQUEST_METHOD="POST",
        SCRIPT_NAME="/shop",
        PATH_INFO="/item/7",
        QUERY_STRING="page=2",
        CONTENT_LENGTH="11",
        HTTP_HOST="shop.example:8080",
        HTTP_USER_AGENT="curl/8.0",
        SERVER_PROTOCOL="HTTP/1.1",
    )

    served = served_by(recorded, hello, environ=environ)
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
        "url": {"path": "/shop/item/7", "query": "page=2", "scheme": "http"},
        "server": {"address": "shop.example", "port": 8080},
        "network": {"protocol": {"version": "1.1"}},
        "client": {"address": "192.0.2.7"},
        "user_agent": {"original": "curl/8.0"},
    }


def test_events_go_to_the_sdk_by_default() -> None:
    with eventstorm.testing.capture_events() as events:
        serve(EventstormMiddleware(hello))

    assert [hit["http"]["response"]["status_code"] for hit in events.of("http.hit")] == [200]


def test_the_hit_comes_when_the_body_has_been_closed_and_not_when_the_view_returns(recorded: Recorded) -> None:
    seen: list[int] = []

    def chunks() -> Iterator[bytes]:
        yield b"one"
        seen.append(len(recorded.events))
        yield b"two"

    body = EventstormMiddleware(answering(chunks), HttpSettings(), source=recorded)(environ_of(), lambda *_: print)
    assert list(body) == [b"one", b"two"]
    seen.append(len(recorded.events))
    body.close()  # type: ignore[attr-defined]

    assert seen == [0, 0]
    assert recorded.hit()["http"]["response"]["body"]["size"] == 6


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(lambda: [b"ab", b"cde"], id="list"),
        pytest.param(lambda: (b"ab", b"", b"cde"), id="tuple"),
        pytest.param(lambda: iter([b"ab", b"cde"]), id="iterator"),
        pytest.param(lambda: (each for each in (b"ab", b"cde")), id="generator"),
        pytest.param(Closable, id="closable"),
    ],
)
def test_bytes_are_counted_however_the_body_comes(result: Callable[[], Any], recorded: Recorded) -> None:
    served = served_by(recorded, answering(result))

    assert served.body == b"abcde"
    assert recorded.hit()["http"]["response"]["body"]["size"] == 5


def test_what_write_sends_is_counted_too(recorded: Recorded) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response("200 OK", HEADERS)
        write(b"abc")
        return [b"de"]

    assert served_by(recorded, app).body == b"abcde"
    assert recorded.hit()["http"]["response"]["body"]["size"] == 5


def test_a_body_is_closed_once_also_if_it_was_never_iterated(recorded: Recorded) -> None:
    body = Closable()

    served_by(recorded, answering(body), iterate=False)

    assert (body.closed, body.iterated) == (1, 0)
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 0}}
    assert "time_to_first_byte" not in recorded.hit()


def test_a_generator_that_is_never_iterated_is_closed(recorded: Recorded) -> None:
    ran: list[str] = []

    def chunks() -> Iterator[bytes]:
        ran.append("body")
        yield b"x"

    served_by(recorded, answering(chunks), iterate=False)

    assert not ran
    assert recorded.hit()["http"]["response"]["body"]["size"] == 0


def test_a_server_that_forgets_to_close_gets_its_hit_nevertheless(recorded: Recorded) -> None:
    body = Closable()

    def forget() -> None:
        served_by(recorded, answering(body), close=0)

    forget()
    gc.collect()

    assert body.closed == 0, "as it would be without the middleware"
    assert recorded.hit()["http"]["response"]["body"]["size"] == 5


def test_a_body_that_is_closed_twice_is_one_hit(recorded: Recorded) -> None:
    body = Closable()

    served_by(recorded, answering(body), close=2)

    assert body.closed == 2, "as it would be without the middleware"
    assert len(recorded.of("http.hit")) == 1


def test_an_iterator_that_a_server_drops_is_finalized_before_the_iterable_is_closed(recorded: Recorded) -> None:
    ended: list[str] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                ended.append("iterator")

        def close(self) -> None:
            ended.append("iterable")

    served_by(recorded, answering(Chunks), take=1)

    assert ended == ["iterator", "iterable"], "as it would be without the middleware"


@pytest.mark.parametrize("result", [[], [b""], (b"", b"")])
def test_where_no_byte_was_sent_none_was_the_first(result: Any, recorded: Recorded) -> None:
    served_by(recorded, answering(result))

    assert "time_to_first_byte" not in recorded.hit()


def test_a_file_with_a_close_of_its_own_keeps_it(recorded: Recorded) -> None:
    closed: list[str] = []

    def close() -> None:
        closed.append("own")

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> FileWrapper:
        start_response("200 OK", HEADERS)
        file = FileWrapper(io.BytesIO(b"content"))
        file.close = close  # type: ignore[method-assign]
        return file

    served = served_by(recorded, app, close=2)

    assert closed == ["own", "own"], "as it would be without the middleware"
    assert served.result.close is close
    assert len(recorded.of("http.hit")) == 1


def test_a_length_is_there_where_it_was(recorded: Recorded) -> None:
    assert served_by(recorded, answering([b"only"])).length == 1
    assert served_by(recorded, answering(iter([b"only"]))).length is TypeError


def test_attributes_of_the_body_are_there(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with (tmp_path / "file").open("rb") as file:
        served = served_by(recorded, answering(file), close=0)

        assert served.file == file.fileno()


def test_a_file_wrapper_reaches_the_server_as_it_is(recorded: Recorded) -> None:
    file = io.BytesIO(b"content")
    made: list[FileWrapper] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> FileWrapper:
        start_response("200 OK", [*HEADERS, ("Content-Length", "7")])
        made.append(environ["wsgi.file_wrapper"](file, 4))
        return made[-1]

    served = served_by(recorded, app)

    assert served.result is made[0]
    assert served.is_file
    assert file.closed
    assert recorded.hit()["http"]["response"]["body"]["size"] == 7


def test_a_function_as_file_wrapper_works_too(recorded: Recorded) -> None:
    # uWSGI's: it looks for the object that it returned.
    given: list[object] = []

    def file_wrapper(file: io.BytesIO, size: int = 4096) -> io.BytesIO:
        given.append(file)
        return file

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [("Content-Length", "7")])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"content"))

    served = served_by(recorded, app, environ=environ_of(**{"wsgi.file_wrapper": file_wrapper}))

    assert served.result is given[0]
    assert recorded.hit()["http"]["response"]["body"]["size"] == 7


def test_a_file_that_cannot_be_watched_is_recorded_when_it_is_handed_over(recorded: Recorded) -> None:
    class Slotted:
        __slots__ = ()

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None: ...

    environ = environ_of(**{"wsgi.file_wrapper": Slotted})

    served = served_by(recorded, answering(Slotted()), environ=environ)

    assert isinstance(served.result, Slotted)
    assert recorded.hit()["http"]["response"]["status_code"] == 200


@pytest.mark.parametrize(("status", "code"), [("204", 204), ("404 ", 404), ("299 No\u00a0Reason", 299)])
def test_a_status_needs_no_reason_phrase(status: str, code: int, recorded: Recorded) -> None:
    served_by(recorded, answering([], status))

    assert recorded.hit()["http"]["response"]["status_code"] == code


@pytest.mark.parametrize("status", ["", "OK", "2x0 Odd", "\u0662\u0660\u0660 OK", None, 200.5])
def test_a_status_that_is_none_is_left_out_or_read(status: Any, recorded: Recorded) -> None:
    served_by(recorded, answering([], status))

    assert recorded.hit()["http"]["response"].get("status_code") in (None, 200)


def test_the_body_of_a_head_request_is_not_sent(recorded: Recorded) -> None:
    served_by(recorded, hello, environ=environ_of(REQUEST_METHOD="HEAD"))

    assert recorded.hit()["http"]["request"]["method"] == "HEAD"
    assert recorded.hit()["http"]["response"]["body"]["size"] == 0


def test_the_iterable_can_be_iterated_twice_as_it_could(recorded: Recorded) -> None:
    app = EventstormMiddleware(answering(Closable), HttpSettings(), source=recorded)
    body = app(environ_of(), lambda *_: print)

    assert [b"".join(body), b"".join(body)] == [b"abcde", b"abcde"]


def test_the_standard_holds_on_both_sides(recorded: Recorded) -> None:
    # The validator raises AssertionError for whatever is not as PEP 3333 has it.
    inner = validator(answering(lambda: [b"abc"]))
    app = validator(EventstormMiddleware(inner, HttpSettings(), source=recorded))

    served = serve(app)

    assert served.error is None
    assert served.body == b"abc"
    assert recorded.hit()["http"]["response"]["body"]["size"] == 3


def test_a_middleware_inside_of_another_records_nothing_more(recorded: Recorded) -> None:
    inner = Recorded()
    app = EventstormMiddleware(hello, HttpSettings(), source=inner)

    served_by(recorded, app)

    assert len(recorded.of("http.hit")) == 1
    assert not inner.events


def test_nothing_is_built_that_nobody_listens_to_and_the_trace_is_there() -> None:
    deaf, seen = Recorded(wanted=False), []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(common_fields.get())
        return hello(environ, start_response)

    assert served_by(deaf, app).body == b"hello"
    assert not deaf.events
    assert seen[0] is not None
    assert set(seen[0]) == {"trace_id", "span_id"}
