"""The WSGI middleware and requests of all kinds: odd environs, paths, headers and lengths, and what is kept of them."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import eventstorm
import eventstorm.testing
from eventstorm.context import common_fields
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.wsgi import EventstormMiddleware
from integrations.recorded import Recorded
from integrations.wsgi_apps import HEADERS, Closable, hello, served_by
from integrations.wsgi_server import Served, environ_of, serve


def test_an_environ_that_is_served_again_is_another_request(recorded: Recorded) -> None:
    environ = environ_of()

    served_by(recorded, hello, environ=environ)
    served_by(recorded, hello, environ=environ)

    assert len({hit["trace_id"] for hit in recorded.of("http.hit")}) == 2


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


def test_a_port_may_be_a_number_and_an_environ_may_be_copied_deeply(recorded: Recorded) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        text = {name: value for name, value in environ.items() if not name.startswith("wsgi.")}
        return EventstormMiddleware(hello, HttpSettings(), source=recorded)(copy.deepcopy(text), start_response)

    served_by(recorded, app, environ=environ_of(HTTP_HOST=None, SERVER_NAME="shop.example", SERVER_PORT=8080))

    assert recorded.hit()["server"] == {"address": "shop.example", "port": 8080}


def test_an_environ_that_is_no_dictionary_is_served(expected_faults: set[str], recorded: Recorded) -> None:
    expected_faults.add("http.fault")

    class Odd(dict):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[str]:
            return super().__iter__()

        def keys(self) -> Any:
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
