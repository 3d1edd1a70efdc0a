"""The ASGI middleware and what goes wrong: in the application, in the background, at the server and at the client."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from eventstorm_integrations.asgi import EventstormMiddleware
from eventstorm_integrations.http import HttpSettings
from integrations.asgi_apps import START, body, hello, sending, served_by
from integrations.asgi_server import scope_of
from integrations.recorded import Recorded


def test_an_exception_in_the_background_is_one_of_the_background(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        raise LookupError("mail")

    assert isinstance(served_by(recorded, app).error, LookupError)
    assert recorded.hit()["background"]["error"] == {"type": "LookupError"}
    assert "error" not in recorded.hit()


def test_an_exception_that_a_framework_has_answered_with_a_500_is_the_responses(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send(body(b"sorry"))
        raise LookupError("no view")

    assert isinstance(served_by(recorded, app).error, LookupError)
    assert recorded.hit()["error"] == {"type": "LookupError"}
    assert "background" not in recorded.hit()


def test_an_exception_before_the_response_is_a_500(recorded: Recorded) -> None:
    error = LookupError("no view")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    assert served_by(recorded, app).error is error
    assert recorded.hit()["error"] == {"type": "LookupError"}
    assert recorded.hit()["http"]["response"]["status_code"] == 500


def test_an_exception_amid_the_body_leaves_the_status_that_was_sent(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"abc", True))
        raise LookupError("no more")

    assert isinstance(served_by(recorded, app).error, LookupError)
    assert recorded.hit()["error"] == {"type": "LookupError"}
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 3}}


def test_cancellation_passes_through_and_is_told(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await asyncio.Event().wait()

    async def main() -> None:
        middleware = EventstormMiddleware(app, HttpSettings(), source=recorded)
        started = asyncio.Event()

        async def send(message: Any) -> None:
            started.set()

        task = asyncio.create_task(middleware(scope_of(), asyncio.Event().wait, send))  # type: ignore[arg-type]
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert recorded.hit()["error"]["type"].endswith("CancelledError")
    assert recorded.hit()["http"]["response"]["status_code"] == 200


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_passes_through(kind: type[BaseException], recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise kind

    assert type(served_by(recorded, app).error) is kind
    assert recorded.hit()["error"] == {"type": kind.__name__}
    assert "status_code" not in recorded.hit()["http"]["response"], "nobody knows what the server sends then"


def test_a_client_that_disconnects_before_the_end_is_told(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"abc", True))
        while (await receive())["type"] != "http.disconnect":
            pass

    served_by(recorded, app)

    assert recorded.hit()["error"] == {"type": "http.disconnect"}
    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 3}}


def test_a_disconnect_after_the_end_is_none(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        while (await receive())["type"] != "http.disconnect":
            pass

    served_by(recorded, app)

    assert "error" not in recorded.hit()


def test_a_server_that_cannot_send_is_told(recorded: Recorded) -> None:
    error = OSError("the client is gone")

    served = served_by(recorded, hello, send_error=error, sends=1)

    assert served.error is error
    assert recorded.hit()["error"] == {"type": "OSError"}
    assert recorded.hit()["http"]["response"]["body"]["size"] == 0


def test_no_response_at_all_is_what_servers_make_of_it(recorded: Recorded) -> None:
    served_by(recorded, sending())

    assert recorded.hit()["error"] == {"type": "no_response"}
    assert recorded.hit()["http"]["response"]["status_code"] == 500


def test_an_incomplete_response_is_told(recorded: Recorded) -> None:
    served_by(recorded, sending(START, body(b"a", True)))

    assert recorded.hit()["error"] == {"type": "incomplete_response"}


def test_what_the_server_refuses_is_not_told(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for wrong in (body(b"too early", True), START, {**START, "status": 500}):
            with contextlib.suppress(RuntimeError):
                await send(wrong)
        await send(body(b"abc"))
        with contextlib.suppress(RuntimeError):
            await send(body(b"too late"))

    served_by(recorded, app)

    assert recorded.hit()["http"]["response"] == {"status_code": 200, "body": {"size": 3}}


def test_what_comes_after_the_end_does_not_count_though_a_server_lets_it_pass(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, body(b"abc"), body(b"more")):
            await send(message)

    async def send(message: Any) -> None: ...

    asyncio.run(EventstormMiddleware(app, HttpSettings(), source=recorded)(scope_of(), asyncio.Event().wait, send))  # type: ignore[arg-type]

    assert recorded.hit()["http"]["response"]["body"]["size"] == 3


def test_of_headers_those_are_recorded_that_are_pairs_of_bytes(recorded: Recorded) -> None:
    headers = [(b"one",), (b"host", b"shop.example"), ("user-agent", "curl"), 7]

    assert served_by(recorded, hello, scope_of(headers=headers)).body == b"hello"
    assert recorded.hit()["server"]["address"] == "shop.example"
    assert "user_agent" not in recorded.hit()


def test_a_fault_of_our_own_reaches_nobody(expected_faults: set[str]) -> None:
    expected_faults.add("http.fault")

    class Failing(Recorded):
        def emit_encoded(self, topic: str, data: bytes, ts_s: float | None = None, /) -> bool:
            raise RuntimeError("not emitted")

    assert served_by(Failing(), hello).body == b"hello"
