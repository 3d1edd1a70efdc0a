"""Which trace a request belongs to: the same for WSGI and ASGI."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.http.trace import identify, parse_traceparent
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from integrations.asgi_apps import hello as asgi_hello
from integrations.asgi_server import scope_of
from integrations.asgi_server import serve as serve_asgi
from integrations.recorded import Recorded
from integrations.wsgi_apps import hello
from integrations.wsgi_server import environ_of, serve

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "value",
    [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f" 00-{TRACE}-{SPAN}-ff\t", f"cc-{TRACE}-{SPAN}-01-what-ever"],
)
def test_a_traceparent_gives_both_identities(value: str) -> None:
    assert parse_traceparent(value) == (TRACE, SPAN)
    assert identify(value) == {"trace_id": TRACE, "span_id": SPAN}


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "00",
            f"00-{TRACE}-{SPAN}",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}-01-more",
            f"ff-{TRACE}-{SPAN}-01",
        ),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01"),
        *(f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", f"0x-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01x", "0" * 10**6),
    ],
)
def test_a_malformed_traceparent_gives_new_identities(value: str) -> None:
    first = identify(value)
    trace, span = first["trace_id"], first["span_id"]

    assert parse_traceparent(value) is None
    assert (len(trace), len(span)) == (32, 16)
    assert trace != TRACE
    assert first != identify(value)


def test_a_traceparent_is_read_from_either_side(recorded: Recorded) -> None:
    header = f"00-{TRACE}-{SPAN}-01"

    serve(WsgiMiddleware(hello, HttpSettings(), source=recorded), environ_of(HTTP_TRACEPARENT=header))
    scope = scope_of(headers=[(b"traceparent", header.encode())])
    serve_asgi(AsgiMiddleware(asgi_hello, HttpSettings(), source=recorded), scope)

    assert [(hit["trace_id"], hit["span_id"]) for hit in recorded.of("http.hit")] == [(TRACE, SPAN)] * 2


def test_a_current_span_of_opentelemetry_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    class Span:
        trace_id, span_id, is_valid = int(TRACE, 16), int(SPAN, 16), True

        def get_span_context(self) -> Span:
            return self

    module = types.ModuleType("opentelemetry.trace")
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", module)
    given_id, given = f"00-{'1' * 32}-{'2' * 16}-01", {"trace_id": "1" * 32, "span_id": "2" * 16}
    assert identify(given_id) == given, "as long as it is being imported"

    module.get_current_span = Span  # type: ignore[attr-defined]
    assert identify(given_id) == {"trace_id": TRACE, "span_id": SPAN}
    Span.is_valid = False
    assert identify(given_id) == given


def test_opentelemetry_is_never_imported() -> None:
    program = """
import sys
from eventstorm_integrations import asgi, wsgi
from integrations import asgi_apps, asgi_server, wsgi_apps, wsgi_server
asgi_server.serve(asgi.EventstormMiddleware(asgi_apps.hello))
wsgi_server.serve(wsgi.EventstormMiddleware(wsgi_apps.hello))
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "EVENTSTORM_ENDPOINT": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)

    assert done.returncode == 0, done.stderr
