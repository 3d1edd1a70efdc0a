"""Flask: each body reaches the server as it would without us, and what was sent of it is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Flask
from werkzeug.wsgi import ClosingIterator

from eventstorm.context import common_fields
from eventstorm_integrations import flask as integration
from eventstorm_integrations.http import HttpSettings
from integrations.recorded import Recorded
from integrations.wsgi_server import environ_of, serve

SETTINGS = HttpSettings()


@pytest.fixture
def everything(recorded: Recorded) -> Iterator[Recorded]:
    """All applications are recorded."""
    integration.instrument(SETTINGS, source=recorded)
    yield recorded
    integration.uninstrument()


def item() -> Flask:
    app = Flask(__name__)
    app.add_url_rule("/item/<int:number>", "item", lambda number: f"item {number}")
    return app


def answers() -> tuple[Flask, list[Any]]:
    """Return an application with all kinds of bodies, and what is noted when they are closed."""
    app = Flask(__name__)
    closed: list[Any] = []

    class Shouting(flask.Response):
        def iter_encoded(self) -> Iterator[bytes]:
            return (chunk.upper() for chunk in super().iter_encoded())

    class Doubled(flask.Response):
        def get_app_iter(self, environ: Any) -> Any:
            return [*super().get_app_iter(environ)] * 2

    def loud(self: flask.Response) -> Iterator[bytes]:
        return iter([b"patched"])

    def patched() -> flask.Response:
        response = flask.Response("text")
        response.iter_encoded = loud.__get__(response)  # type: ignore[method-assign]
        return response

    bodies: dict[str, Any] = {
        "text": lambda: "text",
        "empty": lambda: "",
        "parts": lambda: flask.Response(["a", "b"]),
        "one": lambda: flask.Response(["ä"]),
        "none": lambda: flask.Response("text", 204),
        "same": lambda: flask.Response("text", 304),
        "stream": lambda: flask.Response(iter(["s", "t"])),
        "direct": lambda: flask.Response([b"direct"], direct_passthrough=True),
        "shouting": lambda: Shouting("text"),
        "doubled": lambda: Doubled("text"),
        "patched": patched,
    }
    for name, body in bodies.items():
        app.add_url_rule(f"/{name}", name, body)

    @app.after_request
    def note(response: flask.Response) -> flask.Response:
        response.call_on_close(lambda: closed.append(common_fields.get()))
        return response

    return app, closed


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("take", [None, 0])
def test_each_body_is_sent_as_without_us_and_counted(method: str, take: int | None, recorded: Recorded) -> None:
    app, closed = answers()
    paths = [rule.rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"]
    environs = [environ_of(PATH_INFO=path, REQUEST_METHOD=method) for path in paths]
    bare = [serve(app, environ.copy(), take=take) for environ in environs]
    bare_closings = len(closed)
    integration.instrument(SETTINGS, source=recorded)
    try:
        seen = [serve(app, environ.copy(), take=take) for environ in environs]
    finally:
        integration.uninstrument()

    assert [each.log for each in seen] == [each.log for each in bare]
    assert len(closed) == 2 * bare_closings
    assert all(fields is not None and "trace_id" in fields for fields in closed[bare_closings:])
    sizes = [hit["http"]["response"]["body"]["size"] for hit in recorded.of("http.hit")]
    # What the server took counts as sent: of whom it took it for, only the server knows that they are gone.
    assert take == 0 or sizes == [0 if method == "HEAD" else len(each.body) for each in seen]
    errors = [hit.get("error", {}).get("type") for hit in recorded.of("http.hit")]
    assert errors == [None if each.error is None else "BrokenPipeError" for each in seen]


def test_what_middlewares_make_of_a_body_is_what_is_sent_and_counted(everything: Recorded) -> None:
    app = item()
    inner = app.wsgi_app

    def longer(environ: Any, start_response: Any) -> Any:
        body: Any = inner(environ, start_response)
        return ClosingIterator([*body, b" and more"], body.close)

    app.wsgi_app = longer  # type: ignore[method-assign,assignment]

    assert serve(app, environ_of(PATH_INFO="/item/7")).body == b"item 7 and more"
    assert everything.hit()["http"]["response"]["body"]["size"] == len("item 7 and more")


def test_a_body_of_one_text_is_an_iterator_as_without_us(everything: Recorded) -> None:
    result = serve(item(), environ_of(PATH_INFO="/item/7"), iterate=False, close=0).result

    assert next(result) == b"item 7"
    assert list(result) == list(result) == []
    assert result._callbacks  # an attribute of Werkzeug's
    result.close()
    assert everything.hit()["http"]["response"]["body"]["size"] == 6


def test_what_a_response_raises_as_it_is_closed_is_told(everything: Recorded) -> None:
    app = item()

    @app.after_request
    def break_later(response: flask.Response) -> flask.Response:
        response.call_on_close(lambda: [][0])
        return response

    assert serve(app, environ_of(PATH_INFO="/item/7")).closings == [(IndexError, "list index out of range")]
    assert everything.hit()["error"] == {"type": "IndexError"}
