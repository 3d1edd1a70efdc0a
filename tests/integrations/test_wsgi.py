"""The WSGI middleware: every request becomes one hit with what was really sent, and nothing else changes."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
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
from integrations.wsgi_server import Served, environ_of, serve

HEADERS = [("Content-Type", "text/plain")]


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [*HEADERS, ("Content-Length", "5")])
    return [b"hello"]


def answering(result: Any, status: str = "200 OK") -> Callable[..., Any]:
    """Return an application that answers with `result`, or with what it returns."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, HEADERS)
        return result() if callable(result) else result

    return app


class Closable:
    """An iterable that counts how often it is closed."""

    def __init__(self, chunks: Iterable[bytes] = (b"ab", b"cde"), error: BaseException | None = None) -> None:
        self.chunks, self.error, self.closed, self.iterated = chunks, error, 0, 0

    def __iter__(self) -> Iterator[bytes]:
        self.iterated += 1
        return iter(self.chunks)

    def close(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


def served_by(recorded: Recorded, app: Callable[..., Any], **arguments: Any) -> Served:
    return serve(EventstormMiddleware(app, HttpSettings(), source=recorded), **arguments)


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


def test_an_exception_in_close_passes_through_and_is_told(recorded: Recorded) -> None:
    error = ValueError("in close")

    served = served_by(recorded, answering(Closable(error=error)))

    assert served.closings == [(ValueError, "in close")]
    assert recorded.hit()["error"] == {"type": "ValueError"}
    assert recorded.hit()["http"]["response"]["status_code"] == 200


def test_an_exception_in_close_leaves_the_status_of_an_empty_body(recorded: Recorded) -> None:
    served_by(recorded, answering(Closable([], error=ValueError("in close"))))

    assert recorded.hit()["error"] == {"type": "ValueError"}
    assert recorded.hit()["http"]["response"]["status_code"] == 200, "servers send the header at the end of the body"


def test_the_first_error_is_told(recorded: Recorded) -> None:
    class Failing(Closable):
        def __iter__(self) -> Iterator[bytes]:
            raise LookupError

    served_by(recorded, answering(Failing(error=ValueError())))

    assert recorded.hit()["error"] == {"type": "LookupError"}


def test_what_the_server_makes_of_an_error_is_not_told_in_its_place(recorded: Recorded) -> None:
    def chunks() -> Iterator[bytes]:
        raise LookupError
        yield b""

    body = EventstormMiddleware(answering(chunks), HttpSettings(), source=recorded)(environ_of(), lambda *_: print)
    with contextlib.suppress(ConnectionError):
        try:
            list(body)
        except LookupError:
            try:
                raise ConnectionError from None
            finally:
                body.close()  # type: ignore[attr-defined]

    assert recorded.hit()["error"] == {"type": "LookupError"}


@pytest.mark.parametrize("result", [lambda: [b"ab"], lambda: iter([b"ab"])])
def test_a_body_that_was_taken_to_its_end_has_no_error_whatever_else_the_server_handles(
    result: Callable[[], Any], recorded: Recorded
) -> None:
    body = EventstormMiddleware(answering(result), HttpSettings(), source=recorded)(environ_of(), lambda *_: print)
    try:
        raise OSError("of another connection")
    except OSError:
        assert list(body) == [b"ab"]
        body.close()  # type: ignore[attr-defined]

    assert "error" not in recorded.hit()


@pytest.mark.parametrize("result", [[], [b""], (b"", b"")])
def test_where_no_byte_was_sent_none_was_the_first(result: Any, recorded: Recorded) -> None:
    served_by(recorded, answering(result))

    assert "time_to_first_byte" not in recorded.hit()


@pytest.mark.parametrize("result", [[b"ab", 7], (None,), iter([7])])
def test_wrong_chunks_reach_the_server_and_do_no_harm(result: Any, recorded: Recorded) -> None:
    served = served_by(recorded, answering(result))

    assert served.error is None
    assert served.closings == []
    assert recorded.hit()["http"]["response"]["status_code"] == 200


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


def test_an_exception_before_the_response_is_a_500(recorded: Recorded) -> None:
    error = LookupError("no view")

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise error

    served = served_by(recorded, app)

    assert served.error is error
    assert recorded.hit()["error"] == {"type": "LookupError"}
    assert recorded.hit()["http"]["response"] == {"status_code": 500, "body": {"size": 0}}


def test_an_exception_after_start_response_and_before_any_byte_is_a_500(recorded: Recorded) -> None:
    def chunks() -> Iterator[bytes]:
        raise LookupError("no data")
        yield b""

    assert isinstance(served_by(recorded, answering(chunks)).error, LookupError)
    assert recorded.hit()["http"]["response"]["status_code"] == 500


def test_an_exception_amid_the_body_leaves_the_status_that_was_sent(recorded: Recorded) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"abc"
        raise LookupError("no more")

    served = served_by(recorded, answering(chunks))

    assert str(served.error) == "'no more'" or str(served.error) == "no more"
    assert recorded.hit()["error"] == {"type": "LookupError"}
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 3}}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_ends_a_program_passes_through(kind: type[BaseException], recorded: Recorded) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise kind

    assert type(served_by(recorded, app).error) is kind
    assert recorded.hit()["error"] == {"type": kind.__name__}
    assert "status_code" not in recorded.hit()["http"]["response"], "nobody knows what the server sends then"


def test_a_response_that_is_replaced_with_exc_info_counts(recorded: Recorded) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", HEADERS)
        try:
            raise ValueError
        except ValueError:
            start_response("503 Service Unavailable", HEADERS, sys.exc_info())
        return [b"sorry"]

    served_by(recorded, app)

    assert recorded.hit()["http"]["response"]["status_code"] == 503


def test_exc_info_after_the_first_byte_raises_what_it_holds(recorded: Recorded) -> None:
    error = ValueError("late")

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        yield b"begun"
        try:
            raise error
        except ValueError:
            start_response("500 Error", HEADERS, sys.exc_info())

    served = served_by(recorded, app)

    assert served.error is error
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 5}}


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


@pytest.mark.parametrize("result", [lambda: [b"ab", b"cd", b"ef"], lambda: iter([b"ab", b"cd", b"ef"])])
def test_a_client_that_goes_away_amid_the_body_is_told(result: Callable[[], Any], recorded: Recorded) -> None:
    served = served_by(recorded, answering(result), take=1)

    assert isinstance(served.error, BrokenPipeError)
    assert recorded.hit()["error"] == {"type": "BrokenPipeError"}
    # The second was taken from the application when the first turned out to be the last that was sent.
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 4}}


@pytest.mark.parametrize("result", [lambda: [b"ab"], lambda: (b"ab",), lambda: iter([b"ab"])])
def test_a_client_that_goes_away_at_the_last_chunk_is_told(result: Callable[[], Any], recorded: Recorded) -> None:
    served_by(recorded, answering(result), take=0)

    assert recorded.hit()["error"] == {"type": "BrokenPipeError"}


@pytest.mark.parametrize("result", [list, tuple, lambda: [b"ab"], lambda: (b"ab",), lambda: iter([b"ab"])])
def test_a_request_that_is_served_while_an_exception_is_handled_has_no_error(
    result: Callable[[], Any], recorded: Recorded
) -> None:
    try:
        raise LookupError("of somebody else")
    except LookupError:
        served_by(recorded, answering(result))

    assert "error" not in recorded.hit()


@pytest.mark.parametrize("result", [None, b"bytes", "text"])
def test_a_wrong_result_reaches_the_server_as_it_is(result: Any, recorded: Recorded) -> None:
    served = served_by(recorded, answering(result))

    assert served.result is result
    assert recorded.hit()["http"]["response"]["status_code"] == 200


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


def test_an_environ_that_is_served_again_is_another_request(recorded: Recorded) -> None:
    environ = environ_of()

    served_by(recorded, hello, environ=environ)
    served_by(recorded, hello, environ=environ)

    assert len({hit["trace_id"] for hit in recorded.of("http.hit")}) == 2


def test_nothing_is_built_that_nobody_listens_to_and_the_trace_is_there() -> None:
    deaf, seen = Recorded(wanted=False), []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(common_fields.get())
        return hello(environ, start_response)

    assert served_by(deaf, app).body == b"hello"
    assert not deaf.events
    assert seen[0] is not None
    assert set(seen[0]) == {"trace_id", "span_id"}


def test_events_of_the_request_carry_its_trace_while_it_is_served_and_sent(recorded: Recorded) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        eventstorm.emit("shop.view")
        start_response("200 OK", HEADERS)

        def chunks() -> Iterator[bytes]:
            try:
                eventstorm.emit("shop.first")
                yield b"x"
                eventstorm.emit("shop.second")
                yield b"y"
            finally:
                eventstorm.emit("shop.closing")

        return chunks()

    with eventstorm.testing.capture_events() as events:
        body = EventstormMiddleware(app, HttpSettings())(environ_of(), lambda *_: print)
        steps = iter(body)
        next(steps)
        eventstorm.emit("server.between")
        next(steps)
        body.close()  # type: ignore[attr-defined]
        eventstorm.emit("server.after")
        trace = events.of("http.hit")[0]["trace_id"]

    for topic in ("shop.view", "shop.first", "shop.second", "shop.closing"):
        assert events.of(topic)[0]["trace_id"] == trace
    assert events.of("server.between") == events.of("server.after") == [{}]


def test_what_the_application_adds_to_its_context_stays_for_its_body(recorded: Recorded) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        common_fields.set({**(common_fields.get() or {}), "tenant": "acme"})
        start_response("200 OK", HEADERS)
        return (str((common_fields.get() or {}).get("tenant")).encode() for _ in range(2))

    assert served_by(recorded, app).chunks == [b"acme", b"acme"]
    assert common_fields.get() is None


def test_requests_in_threads_do_not_mix(recorded: Recorded) -> None:
    together = threading.Barrier(4)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        for _ in range(3):
            together.wait(10)
            fields = common_fields.get()
            assert fields is not None
            yield f"{environ['PATH_INFO']}{fields['trace_id']}".encode()

    middleware = EventstormMiddleware(app, HttpSettings(), source=recorded)
    served: list[Served] = []

    def request(index: int) -> None:
        served.append(serve(middleware, environ_of(PATH_INFO=f"/{index}")))

    threads = [threading.Thread(target=request, args=(index,)) for index in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)

    hits = {hit["url"]["path"] + hit["trace_id"] for hit in recorded.of("http.hit")}
    assert len(hits) == 4
    assert {chunk.decode() for each in served for chunk in each.chunks} == hits


def test_an_environ_changed_by_the_application_is_recorded_as_it_came(recorded: Recorded) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/mounted", "/"
        environ["REMOTE_ADDR"] = "203.0.113.9"
        return hello(environ, start_response)

    served_by(recorded, app, environ=environ_of(PATH_INFO="/mounted/there"))

    assert recorded.hit()["url"]["path"] == "/mounted/there"
    assert recorded.hit()["client"]["address"] == "192.0.2.7"


def test_a_chunked_request_has_no_size(recorded: Recorded) -> None:
    served_by(recorded, hello, environ=environ_of(HTTP_TRANSFER_ENCODING="chunked"))

    assert "body" not in recorded.hit()["http"]["request"]


@pytest.mark.parametrize("length", ["", "many", "-1", "9" * 50, "\u0665"])
def test_a_length_that_is_none_is_none(length: str, recorded: Recorded) -> None:
    served_by(recorded, hello, environ=environ_of(CONTENT_LENGTH=length))

    assert recorded.hit()["http"]["request"]["body"]["size"] == 0


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/caf\u00c3\u00a9", "/café"),
        ("/\u00ff\u00fe", "/\ufffd\ufffd"),
        ("/\udcff\ud800", "/\ufffd\ufffd"),
        ("/\u20ac", "/€"),
        ("/a\0b", "/a\0b"),
        ("/" + "x" * 10_000, "/" + "x" * 4095),
    ],
)
def test_a_path_of_any_bytes_is_a_text(path: str, text: str, recorded: Recorded) -> None:
    served_by(recorded, hello, environ=environ_of(PATH_INFO=path, SCRIPT_NAME=""))

    assert recorded.hit()["url"]["path"] == text


def test_headers_of_any_bytes_and_size_do_no_harm(recorded: Recorded) -> None:
    environ = environ_of(
        HTTP_USER_AGENT="\u00ff" * 100_000,
        HTTP_HOST="\u00fe:" + "9" * 50_000,
        HTTP_TRACEPARENT="0" * 100_000,
        QUERY_STRING="\u00ff=\u00ff&" * 50_000,
        SERVER_PROTOCOL="\u00ff",
        REQUEST_METHOD="\u00ff" * 1000,
    )

    assert served_by(recorded, hello, environ=environ).body == b"hello"
    assert recorded.hit()["http"]["request"]["method"] == "_OTHER"
    assert recorded.hit()["http"]["request"]["method_original"] == "\u00ff" * 40


def test_an_environ_that_lacks_nearly_everything_is_served(recorded: Recorded) -> None:
    assert served_by(recorded, hello, environ={"wsgi.url_scheme": "http"}).body == b"hello"
    assert recorded.hit()["http"]["response"]["status_code"] == 200


def test_a_fault_of_our_own_reaches_nobody(recorded: Recorded, expected_faults: set[str]) -> None:
    expected_faults.add("http.fault")
    served = served_by(recorded, hello, environ=environ_of(PATH_INFO=7))

    assert served.body == b"hello"
    assert not recorded.events


def test_a_port_may_be_a_number_and_an_environ_may_be_copied_deeply(recorded: Recorded) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        text = {name: value for name, value in environ.items() if not name.startswith("wsgi.")}
        return EventstormMiddleware(hello, HttpSettings(), source=recorded)(copy.deepcopy(text), start_response)

    served_by(recorded, app, environ=environ_of(HTTP_HOST=None, SERVER_NAME="shop.example", SERVER_PORT=8080))

    assert recorded.hit()["server"] == {"address": "shop.example", "port": 8080}


def test_an_environ_that_is_no_dictionary_is_served(expected_faults: set[str], recorded: Recorded) -> None:
    expected_faults.add("http.fault")

    class Odd(dict):  # type: ignore[type-arg]
        def copy(self) -> Any:
            raise RuntimeError("not copied")

    assert served_by(recorded, hello, environ=Odd(environ_of())).body == b"hello"


def test_neither_application_nor_body_is_kept_alive(recorded: Recorded) -> None:
    class App:
        def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Closable:
            start_response("200 OK", HEADERS)
            body = Closable()
            body.environ = environ  # type: ignore[attr-defined]
            bodies.append(weakref.ref(body))
            return body

    bodies: list[weakref.ref[Closable]] = []
    app = App()
    gone = weakref.ref(app)
    environ = environ_of()
    gc.disable()  # no cycle is made that only the collector would free
    try:
        served_by(recorded, app, environ=environ).result = None
        del app

        assert gone() is None
        environ.clear()
        assert bodies[0]() is None
    finally:
        gc.enable()


def test_what_an_environ_held_is_let_go_when_the_request_is_over(recorded: Recorded) -> None:
    class Thing:
        pass

    environ = environ_of(thing=Thing())
    gone = weakref.ref(environ["thing"])
    served_by(recorded, hello, environ=environ)
    del environ["thing"]

    assert gone() is None, "though the environ itself is still there"


def test_a_server_whose_start_response_returns_nothing_is_served(recorded: Recorded) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(start_response("200 OK", HEADERS))
        return []

    EventstormMiddleware(app, HttpSettings(), source=recorded)(environ_of(), lambda *_: None).close()  # type: ignore

    assert seen == [None]
    assert recorded.hit()["http"]["response"]["status_code"] == 200
