"""Servers that say of a request what is no text, no valid text, or a very long one: the hit is recorded without it."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.http import hit as module
from eventstorm_integrations.http.text import MAX_TEXT
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from integrations import asgi_apps, asgi_server, wsgi_apps, wsgi_server
from integrations.recorded import Recorded

# What hits tell of what a server says: where, and by which key of the environ or the scope.
WSGI = [
    ("url.scheme", "wsgi.url_scheme"),
    ("network.protocol.version", "SERVER_PROTOCOL"),
    ("client.address", "REMOTE_ADDR"),
]
ASGI = [("url.scheme", "scheme"), ("network.protocol.version", "http_version"), ("client.address", "client")]
SERVED = [
    *(pytest.param("wsgi", field, key, id=f"wsgi {key}") for field, key in WSGI),
    *(pytest.param("asgi", field, key, id=f"asgi {key}") for field, key in ASGI),
]
NO_TEXTS = [7, 2**80, 1.1, b"http", ["http"], ("http",), {"http": 1}, {"http"}, object(), type]

# Set, so that each part of the code looks at what it is given.
THOROUGH = HttpSettings(
    excluded_urls=("^/never$",),
    trusted_proxies=("192.0.2.0/24", "unix"),
    request_headers=("x-request", "accept"),
    response_headers=("content-type",),
)


def kind_of(value: object) -> str:
    return type(value).__name__


def hit_of(interface: str, changed: dict[str, Any], settings: HttpSettings | None = None) -> dict[str, Any]:
    """Serve one request of which a server says so; return its hit."""
    recorded = Recorded()
    if interface == "wsgi":
        wsgi = WsgiMiddleware(wsgi_apps.hello, settings or HttpSettings(), source=recorded)
        wsgi_served = wsgi_server.serve(wsgi, {**wsgi_server.environ_of(), **changed})
        assert (wsgi_served.error, wsgi_served.body) == (None, b"hello")
    else:
        asgi = AsgiMiddleware(asgi_apps.hello, settings or HttpSettings(), source=recorded)
        asgi_served = asgi_server.serve(asgi, {**asgi_server.scope_of(), **changed})
        assert (asgi_served.error, asgi_served.body) == (None, b"hello")
    return recorded.hit()


def said(key: str, value: Any) -> dict[str, Any]:
    return {key: (value, 4711) if key == "client" else value}


def without(hit: dict[str, Any], *fields: str) -> dict[str, Any]:
    """Return what a hit has beside these fields and those of each request's own, each by its dotted name."""
    flat: dict[str, Any] = {}

    def flatten(document: dict[str, Any], place: str) -> None:
        for name, value in document.items():
            if isinstance(value, dict):
                flatten(value, f"{place}{name}.")
            else:
                flat[place + name] = value

    flatten(hit, "")
    own = ("duration", "time_to_first_byte", "trace_id", "span_id")
    return {name: value for name, value in flat.items() if name not in (*own, *fields)}


@pytest.mark.parametrize("value", NO_TEXTS, ids=kind_of)
@pytest.mark.parametrize(("interface", "field", "key"), SERVED)
def test_what_is_no_text_is_left_out(interface: str, field: str, key: str, value: Any) -> None:
    # Without a scheme, nothing tells the usual port.
    others = without(hit_of(interface, {}), field, *(["server.port"] if field == "url.scheme" else []))
    for _ in range(2):  # made, then perhaps kept
        hit = hit_of(interface, said(key, value))

        assert without(hit) == others


@pytest.mark.parametrize(("interface", "field", "key"), SERVED)
def test_lone_surrogates_are_replaced(interface: str, field: str, key: str) -> None:
    for _ in range(2):
        hit = hit_of(interface, said(key, "a\udcff\ud800é"))

        assert functools.reduce(lambda document, name: document[name], field.split("."), hit) == "a\ufffd\ufffdé"


@pytest.mark.parametrize(("interface", "field", "key"), SERVED)
def test_what_is_absurdly_long_is_cut(interface: str, field: str, key: str) -> None:
    for character in "xé\udc80":
        hit = hit_of(interface, said(key, character * 10**6))

        assert len(functools.reduce(lambda document, name: document[name], field.split("."), hit)) == MAX_TEXT


@pytest.mark.parametrize("client", [7, "192.0.2.7", {"host": 1}, (), ("",), object()], ids=kind_of)
def test_a_client_that_is_no_pair_is_left_out(client: Any) -> None:
    assert "client" not in hit_of("asgi", {"client": client})


@pytest.mark.parametrize(
    "server", [7, "shop", {"host": 1}, ("shop",), (b"shop", "80"), (7, 2**80), object()], ids=kind_of
)
def test_a_server_that_is_no_pair_is_as_none(server: Any) -> None:
    assert hit_of("asgi", {"server": server, "headers": []})["server"] == {"address": "", "port": 80}


def test_of_a_scheme_that_is_not_known_no_port_is_concluded() -> None:
    assert hit_of("asgi", {"scheme": b"https"})["server"] == {"address": "shop.example"}
    assert hit_of("asgi", {"scheme": b"https", "headers": [(b"host", b"x:81")]})["server"]["port"] == 81


def test_a_proxy_is_not_taken_for_one_by_an_address_that_is_no_text() -> None:
    forwarded = {"HTTP_X_FORWARDED_FOR": "198.51.100.1"}

    assert "client" not in hit_of("wsgi", {**forwarded, "REMOTE_ADDR": 7}, THOROUGH)
    assert (
        hit_of("wsgi", {**forwarded, "REMOTE_ADDR": "192.0.2.\ud800"}, THOROUGH)["client"]["address"]
        == "192.0.2.\ufffd"
    )


class Thing:
    """What a server might say instead of a text; it must not stay alive."""


def test_what_a_server_says_is_not_kept_alive() -> None:
    gone = []
    for interface, _, key in [
        (interface, *each) for interface, keys in (("wsgi", WSGI), ("asgi", ASGI)) for each in keys
    ]:
        for thing in (Thing(), type("Text", (str,), {})("x" * 10_000)):
            gone.append(weakref.ref(thing))
            hit_of(interface, said(key, thing))
            del thing

    assert [each() for each in gone] == [None] * len(gone)


def test_numbers_fill_no_memory() -> None:
    for digits in range(100):
        hit_of("wsgi", {"SERVER_PROTOCOL": 10**100_000 + digits, "REMOTE_ADDR": 10**100_000 + digits})

    kept = [
        part
        for key in itertools.chain(module._heads, module._clients)
        for part in (key if type(key) is tuple else (key,))
    ]
    assert not [each for each in kept if isinstance(each, int) and each.bit_length() > 10_000]


odd = st.one_of(
    st.none()
    | st.integers()
    | st.floats()
    | st.binary(max_size=20)
    | st.text(st.characters(exclude_categories=[]), max_size=20),
    st.lists(st.text(max_size=3) | st.integers(), max_size=3).flatmap(
        lambda each: st.sampled_from([each, tuple(each)])
    ),
    st.sampled_from(["x" * 100_000, "\ud800" * 5000, b"\xff" * 100_000, {}, {"a": 1}, object(), Thing]),
)
ENVIRON_KEYS = (
    *(
        "wsgi.url_scheme",
        "SERVER_PROTOCOL",
        "REMOTE_ADDR",
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "PATH_INFO",
        "QUERY_STRING",
    ),
    *(
        "SERVER_NAME",
        "SERVER_PORT",
        "CONTENT_LENGTH",
        "HTTP_HOST",
        "HTTP_USER_AGENT",
        "HTTP_TRACEPARENT",
        "HTTP_ACCEPT",
    ),
    *("HTTP_X_FORWARDED_FOR", "HTTP_X_REQUEST", "wsgi.file_wrapper"),
)
SCOPE_KEYS = ("scheme", "http_version", "client", "server", "method", "path", "root_path", "query_string", "headers")
HEADER_NAMES = st.sampled_from(
    [b"host", b"user-agent", b"traceparent", b"content-length", b"x-forwarded-for", b"x-request"]
)


@given(st.dictionaries(st.sampled_from(ENVIRON_KEYS), odd), st.sampled_from([HttpSettings(), THOROUGH]))
def test_any_environ_is_recorded_and_raises_nothing(changed: dict[str, Any], settings: HttpSettings) -> None:
    check_all(hit_of("wsgi", changed, settings))


@given(
    st.dictionaries(st.sampled_from(SCOPE_KEYS), odd | st.tuples(odd, odd)),
    st.none() | st.lists(odd | st.tuples(HEADER_NAMES | odd, odd), max_size=5),
    st.sampled_from([HttpSettings(), THOROUGH]),
)
def test_any_scope_is_recorded_and_raises_nothing(
    changed: dict[str, Any], headers: list[Any] | None, settings: HttpSettings
) -> None:
    check_all(hit_of("asgi", changed if headers is None else {**changed, "headers": headers}, settings))


@given(st.dictionaries(st.sampled_from(SCOPE_KEYS), odd | st.tuples(odd, odd)), odd, odd)
def test_any_session_is_recorded_and_raises_nothing(changed: dict[str, Any], subprotocol: Any, code: Any) -> None:
    recorded = Recorded()
    app: Callable[..., Any] = asgi_apps.sending(
        {"type": "websocket.accept", "subprotocol": subprotocol}, {"type": "websocket.close", "code": code}
    )
    served = asgi_server.serve(
        AsgiMiddleware(app, THOROUGH, source=recorded), {**asgi_server.socket_of(), **changed, "type": "websocket"}
    )

    assert served.error is None
    (session,) = recorded.of("websocket.session")
    check_all(session)


def check_all(document: dict[str, Any]) -> None:
    """Check that texts are cut, and that each field that is there has its type."""
    flat = without(document)
    texts = ("url.scheme", "url.path", "url.query", "network.protocol.version", "client.address", "server.address")
    assert all(isinstance(flat.get(name, ""), str) for name in (*texts, "user_agent.original", "http.request.method"))
    assert all(
        type(flat.get(name, 0)) is int for name in ("server.port", "http.request.body.size", "websocket.close.code")
    )
    assert all(len(value) <= MAX_TEXT for value in flat.values() if isinstance(value, str))
