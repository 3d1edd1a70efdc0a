"""The WSGI middleware and what goes wrong: in the application, in its body, at the server and at the client."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.wsgi import EventstormMiddleware
from integrations.recorded import Recorded
from integrations.wsgi_apps import HEADERS, Closable, answering, hello, served_by
from integrations.wsgi_server import environ_of


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


@pytest.mark.parametrize("result", [[b"ab", 7], (None,), iter([7])])
def test_wrong_chunks_reach_the_server_and_do_no_harm(result: Any, recorded: Recorded) -> None:
    served = served_by(recorded, answering(result))

    assert served.error is None
    assert served.closings == []
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


def test_a_fault_of_our_own_reaches_nobody(expected_faults: set[str]) -> None:
    expected_faults.add("http.fault")

    class Failing(Recorded):
        def emit_encoded(self, topic: str, data: bytes, ts_s: float | None = None, /) -> bool:
            raise RuntimeError("not emitted")

    assert served_by(Failing(), hello).body == b"hello"
