"""The ASGI middleware and WebSocket sessions."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from integrations.asgi_apps import sending, served_by
from integrations.asgi_server import socket_of
from integrations.recorded import Recorded


def test_a_websocket_session_is_one_event(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": "chat"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": f"echo: {message.get('text')}"})
        assert message["code"] == 1001

    incoming = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "h\u00e9"},
        {"type": "websocket.receive", "bytes": b"1234"},
        {"type": "websocket.disconnect", "code": 1001},
    ]
    served = served_by(recorded, app, socket_of(path="/chat"), incoming=incoming)
    (event,) = recorded.of("websocket.session")

    assert served.error is None
    assert event["websocket"] == {
        "received": {"messages": 2, "bytes": 7},
        "sent": {"messages": 2, "bytes": len("echo: h\u00e9".encode()) + len("echo: None")},
        "close": {"by": "client", "code": 1001},
        "subprotocol": "chat",
    }
    assert event["http"] == {"request": {}, "response": {"status_code": 101}}
    assert event["url"] == {"path": "/chat", "scheme": "ws"}
    assert event["duration"] > 0
    assert not recorded.of("http.hit")


def test_a_websocket_that_the_application_closes_is_told(recorded: Recorded) -> None:
    app = sending({"type": "websocket.accept"}, {"type": "websocket.close", "code": 4000})

    served_by(recorded, app, socket_of())

    assert recorded.of("websocket.session")[0]["websocket"]["close"] == {"by": "server", "code": 4000}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "websocket.close"}], 403),
        ([{"type": "websocket.http.response.start", "status": 401, "headers": []}], 401),
    ],
)
def test_a_refused_websocket_has_its_status(messages: list[Any], status: int, recorded: Recorded) -> None:
    served_by(recorded, sending(*messages), socket_of())
    (event,) = recorded.of("websocket.session")

    assert event["http"]["response"]["status_code"] == status
    assert "close" not in event["websocket"]


@pytest.mark.parametrize(
    ("closed", "left", "told"),
    [
        ({"type": "websocket.close"}, {"type": "websocket.disconnect", "code": 1006}, {"by": "server", "code": 1000}),
        (None, {"type": "websocket.disconnect"}, {"by": "client", "code": 1005}),
        (None, {"type": "websocket.disconnect", "code": 1001}, {"by": "client", "code": 1001}),
    ],
)
def test_who_closes_a_websocket_first_is_told(closed: Any, left: Any, told: Any, recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        if closed is not None:
            await send(closed)
        await receive()
        with contextlib.suppress(RuntimeError):
            await send({"type": "websocket.close", "code": 4000})

    served_by(recorded, app, socket_of(), incoming=[left])

    assert recorded.of("websocket.session")[0]["websocket"]["close"] == told


def test_a_text_that_is_not_whole_is_counted_nevertheless(recorded: Recorded) -> None:
    served_by(
        recorded, sending({"type": "websocket.accept"}, {"type": "websocket.send", "text": "\ud800"}), socket_of()
    )

    assert recorded.of("websocket.session")[0]["websocket"]["sent"] == {"messages": 1, "bytes": 3}


def test_an_exception_in_a_session_passes_through_and_is_told(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise LookupError("no room")

    assert isinstance(served_by(recorded, app, socket_of()).error, LookupError)
    assert recorded.of("websocket.session")[0]["error"] == {"type": "LookupError"}
    assert recorded.of("websocket.session")[0]["http"]["response"]["status_code"] == 101
