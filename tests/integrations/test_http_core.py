"""What is recorded of a request is the user's choice: URLs, sampling, headers, secrets, addresses, traces, a hook."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventstorm_integrations
from eventstorm.errors import SettingError
from eventstorm.settings import build, load
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.http.client import TrustedProxies
from eventstorm_integrations.http.redact import REDACTED, Redaction
from eventstorm_integrations.http.text import MAX_TEXT, from_bytes, from_latin1, number, valid
from eventstorm_integrations.http.trace import draw, identify, parse_traceparent
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from integrations.asgi_server import scope_of
from integrations.asgi_server import serve as serve_asgi
from integrations.recorded import Recorded
from integrations.test_asgi import START, body, sending
from integrations.test_asgi import EventstormMiddleware as AsgiMiddleware
from integrations.test_asgi import hello as asgi_hello
from integrations.test_wsgi import answering, hello
from integrations.wsgi_server import environ_of, serve

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def hits_of(recorded: Recorded, settings: HttpSettings, hook: Any = None, **variables: Any) -> list[dict[str, Any]]:
    serve(WsgiMiddleware(hello, settings, hook=hook, source=recorded), environ_of(**variables))
    return recorded.of("http.hit")


# Which requests


@pytest.mark.parametrize(
    ("expression", "excluded"),
    [
        ("^/health$", True),
        ("(?i)/HEALTH", True),
        (r"(h)ealt\1", True),
        (r"^http://shop\.example/", True),
        ("probe=1", True),
        ("^/$", False),
        ("health/deep", False),
    ],
)
def test_excluded_urls_are_looked_for_in_the_path_and_in_the_full_url(
    expression: str, excluded: bool, recorded: Recorded
) -> None:
    settings = HttpSettings(excluded_urls=("^/never$", expression))

    hits = hits_of(recorded, settings, PATH_INFO="/health", QUERY_STRING="probe=1")

    assert hits == [] if excluded else len(hits) == 1


def test_an_excluded_request_is_counted(recorded: Recorded) -> None:
    before = eventstorm_integrations.stats().get("http.excluded", 0)

    hits_of(recorded, HttpSettings(excluded_urls=("/",)))

    assert eventstorm_integrations.stats()["http.excluded"] == before + 1


def test_an_expression_sees_a_bounded_text(recorded: Recorded) -> None:
    hits_of(recorded, HttpSettings(excluded_urls=("needle",)), PATH_INFO="/" + "x" * MAX_TEXT + "needle")

    assert len(recorded.of("http.hit")) == 1


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 0, 0), (0.5, 120, 280), (1.0, 400, 400)])
def test_a_share_of_the_requests_is_sampled(rate: float, least: int, most: int, recorded: Recorded) -> None:
    app = WsgiMiddleware(hello, HttpSettings(sample_rate=rate), source=recorded)
    for _ in range(400):
        serve(app)

    assert least <= len(recorded.of("http.hit")) <= most
    assert {hit.get("sample_rate") for hit in recorded.of("http.hit")} <= {None if rate == 1 else rate}


def test_the_applications_own_random_numbers_stay_what_they_are(recorded: Recorded) -> None:
    import random

    random.seed(7)
    expected = [random.random() for _ in range(3)]
    random.seed(7)
    hits_of(recorded, HttpSettings(sample_rate=0.5))

    assert [random.random() for _ in range(3)] == expected


def test_a_forked_child_draws_other_numbers() -> None:
    identify(None)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, f"{[identify(None) for _ in range(100)]} {draw()}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 10_000).decode()
    os.close(read)
    os.close(write)

    assert not [trace for trace, _ in [identify(None) for _ in range(100)] if trace in theirs]
    assert str(draw()) not in theirs


def test_threads_never_draw_the_same_identity() -> None:
    drawn: list[tuple[str, str]] = []
    threads = [threading.Thread(target=lambda: drawn.extend(identify(None) for _ in range(1000))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)

    assert len({trace for trace, _ in drawn}) == len({span for _, span in drawn}) == 4000


# The hook


def test_the_hook_may_add_change_and_remove_fields(recorded: Recorded) -> None:
    def hook(hit: dict[str, Any], environ: Mapping[str, Any]) -> None:
        hit["tenant"] = environ["HTTP_X_TENANT"]
        hit["url"]["path"] = "/hidden"
        del hit["client"]

    (hit,) = hits_of(recorded, HttpSettings(), hook, HTTP_X_TENANT="acme")

    assert (hit["tenant"], hit["url"]["path"]) == ("acme", "/hidden")
    assert "client" not in hit


def test_a_change_by_the_hook_is_of_that_hit_alone(recorded: Recorded) -> None:
    def hook(hit: dict[str, Any], environ: Mapping[str, Any]) -> None:
        assert "seen" not in str(hit)
        for part in ("url", "server", "client", "network", "http"):
            hit[part]["seen"] = True

    app = WsgiMiddleware(hello, HttpSettings(), hook=hook, source=recorded)
    for _ in range(2):
        serve(app)

    assert len(recorded.of("http.hit")) == 2


def test_the_hook_of_an_asgi_application_gets_the_scope(recorded: Recorded) -> None:
    def hook(hit: dict[str, Any], scope: Mapping[str, Any]) -> None:
        hit["raw"] = scope["raw_path"]

    serve_asgi(AsgiMiddleware(asgi_hello, HttpSettings(), hook=hook, source=recorded))

    assert recorded.hit()["raw"] == b"/"


def test_the_hook_may_drop_a_hit_which_is_counted(recorded: Recorded) -> None:
    before = eventstorm_integrations.stats().get("http.dropped_by_hook", 0)

    assert hits_of(recorded, HttpSettings(), lambda hit, environ: False) == []
    assert eventstorm_integrations.stats()["http.dropped_by_hook"] == before + 1


def test_an_exception_of_the_hook_is_counted_and_logged_and_reaches_nobody(
    recorded: Recorded, expected_faults: set[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected_faults.add("http.hook")
    monkeypatch.setattr("eventstorm_integrations._guard.guard._quiet_until", {})
    before = eventstorm_integrations.stats().get("http.hook", 0)

    def hook(hit: dict[str, Any], environ: Mapping[str, Any]) -> None:
        hit["half"] = True
        raise ZeroDivisionError

    app = WsgiMiddleware(hello, HttpSettings(), hook=hook, source=recorded)
    served = [serve(app) for _ in range(3)]

    assert [each.body for each in served] == [b"hello"] * 3
    assert [hit["half"] for hit in recorded.of("http.hit")] == [True] * 3
    assert eventstorm_integrations.stats()["http.hook"] == before + 3
    assert len([each for each in caplog.records if "hook" in each.message]) == 1, "at a bounded rate"


def test_a_hook_that_nobody_would_wait_for_is_refused() -> None:
    async def hook(hit: dict[str, Any], scope: Mapping[str, Any]) -> None: ...

    for middleware in (WsgiMiddleware, AsgiMiddleware):
        with pytest.raises(SettingError, match="is a coroutine function; write it with def"):
            middleware(answering([]), HttpSettings(), hook=hook)  # type: ignore[arg-type]


# Headers and secrets


def test_no_header_is_recorded_unless_it_is_listed(recorded: Recorded) -> None:
    (hit,) = hits_of(recorded, HttpSettings(), HTTP_ACCEPT="text/html", HTTP_COOKIE="session=1")

    assert "header" not in hit["http"]["request"]
    assert "header" not in hit["http"]["response"]


def test_listed_headers_are_recorded_in_wsgi(recorded: Recorded) -> None:
    settings = HttpSettings(
        request_headers=("Accept", "content-type", "Cookie", "absent"), response_headers=("Content-Type", "set-cookie")
    )

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("set-cookie", "b=2")])
        return []

    environ = environ_of(HTTP_ACCEPT="text/html\u00ff", CONTENT_TYPE="text/x", HTTP_COOKIE="session=1")
    serve(WsgiMiddleware(app, settings, source=recorded), environ)

    http = recorded.hit()["http"]
    assert http["request"]["header"] == {
        "accept": ["text/html\ufffd"],
        "content-type": ["text/x"],
        "cookie": [REDACTED],
    }
    assert http["response"]["header"] == {"content-type": ["text/plain"], "set-cookie": [REDACTED, REDACTED]}


def test_listed_headers_are_recorded_in_asgi(recorded: Recorded) -> None:
    settings = HttpSettings(request_headers=("X-Tag", "authorization"), response_headers=("content-type",))
    scope = scope_of(headers=[(b"x-tag", b"a"), (b"x-tag", b"\xff"), (b"authorization", b"Basic eDp5")])

    serve_asgi(AsgiMiddleware(sending(START, body(b"x")), settings, source=recorded), scope)

    http = recorded.hit()["http"]
    assert http["request"]["header"] == {"x-tag": ["a", "\ufffd"], "authorization": [REDACTED]}
    assert http["response"]["header"] == {"content-type": ["text/plain"]}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "cookie",
            "set-cookie",
            "authorization",
            "proxy-authorization",
            "x-api-key",
            "X-API-Key",
            "api_key",
            "apikey",
        ),
        *("token", "access_token", "id-token", "csrfToken", "password", "user[password]", "client_secret", "code"),
        *("X-Amz-Signature", "sig", "X-Amz-Credential", "sessionid", "PHPSESSID".replace("PHPSESS", "s"), "jwt"),
        *("access%5Ftoken", "%74oken", "user%5Bpassword%5D", "x" * 300),
    ],
)
def test_secrets_are_known_by_their_names(name: str) -> None:
    redaction = Redaction()

    assert redaction.query(f"page=1&{name}=hunter2&sort=up") == f"page=1&{name}={REDACTED}&sort=up"
    assert redaction.query(f"{name}=hunter2;page=1") == f"{name}={REDACTED};page=1"


@pytest.mark.parametrize("query", ["page=1&sort=up", "author=x", "q=token", "flag", "", "=", "&&", "a=b=c", "token="])
def test_the_rest_stays_as_it_is(query: str) -> None:
    assert Redaction().query(query) == query


def test_names_can_be_added_and_revealed() -> None:
    redaction = Redaction(redact=("*iban*", "pin"), reveal=("code",))

    assert redaction.query("code=DE&PIN=1&my_iban=2") == f"code=DE&PIN={REDACTED}&my_iban={REDACTED}"


def test_a_header_that_is_a_url_has_its_query_redacted() -> None:
    redacted = Redaction().header("referer", "https://shop.example/?a=1&token=x")

    assert redacted == f"https://shop.example/?a=1&token={REDACTED}"


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        ("https://shop.example/#access_token=x&state=1", f"https://shop.example/#access_token={REDACTED}&state=1"),
        ("https://shop.example/?a=1#access_token=x", f"https://shop.example/?a=1#access_token={REDACTED}"),
        ("https://shop.example/?next=/login?token=x", f"https://shop.example/?next=/login?token={REDACTED}"),
        ("https://shop.example/?token=x?page=1#2&a=b", f"https://shop.example/?token={REDACTED}&a=b"),
        ("text/html;level=1", "text/html;level=1"),
    ],
)
def test_parameters_of_a_urls_fragment_and_of_a_url_in_a_value_are_redacted(value: str, redacted: str) -> None:
    assert Redaction().header("location", value) == redacted


@pytest.mark.parametrize("query", ["=token=x", "a=1&=token=x", "a==b&token=x", "?token=x", "token=x&token=x;TOKEN=x"])
def test_a_secret_is_found_wherever_it_stands(query: str) -> None:
    assert Redaction().query(query) == query.replace("=x", f"={REDACTED}")


@pytest.mark.parametrize(
    ("query", "redacted"),
    [
        ("next=%2Flogin%3Ftoken%3Dx", f"next=%2Flogin%3Ftoken%3D{REDACTED}"),
        ("next=%2F%3Ftoken%3Dx%26a%3D1&b=2", f"next=%2F%3Ftoken%3D{REDACTED}%26a%3D1&b=2"),
        ("next=%2F%3fa%3d1%26token%3dx%23y&b=2", f"next=%2F%3fa%3d1%26token%3d{REDACTED}&b=2"),
        ("next=%2F%3Ftok%2565n%3Dx&b=2", f"next=%2F%3Ftok%2565n%3D{REDACTED}&b=2"),
        ("u=%252F%253Fcode%253Dx%2526a%26b&c=2", f"u=%252F%253Fcode%253D{REDACTED}%2526a%26b&c=2"),
        ("token=a%26b%3Dc&d=1", f"token={REDACTED}&d=1"),
        ("token%3Dx", f"token%3D{REDACTED}"),
        ("session%3Fx=1", f"session%3Fx={REDACTED}"),
        ("q=1%2B1%3D2&page=3", "q=1%2B1%3D2&page=3"),
        ("data=QUJD%3D%3D", "data=QUJD%3D%3D"),
        ("next=%3Ftoken%3D&a=1", "next=%3Ftoken%3D&a=1"),
    ],
)
def test_secrets_of_a_url_in_a_value_are_found_however_often_it_is_encoded(query: str, redacted: str) -> None:
    assert Redaction().query(query) == redacted


@given(st.lists(st.tuples(st.sampled_from(["a", "page", "token", "api-key"]), st.just("hunter2")), max_size=4))
def test_a_query_in_a_query_hides_what_it_does_alone(parameters: list[tuple[str, str]]) -> None:
    once = quote(urlencode(parameters), safe="")
    twice = quote(once, safe="")
    for inner in (once, twice):
        shown = Redaction().query(f"next={inner}&page=1").count("hunter2")
        assert shown == sum(name in ("a", "page") for name, _ in parameters)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "query",
    [
        *("=" + "a" * 300_000, "a" * 300_000, "?=" * 100_000, "token=1?" * 50_000, "=&" * 100_000),
        *("%" * 300_000, "%25" * 100_000, "%" + "25" * 150_000, "%3D" * 100_000, "token%3D%3F" * 30_000),
        *("%" + "25" * 150_000 + "3D", "a%" + "25" * 100 + "3D" + "token%253D1" * 30_000),
    ],
    ids=lambda query: query[:20],
)
def test_no_query_makes_the_search_slow(query: str) -> None:
    # Where each letter is looked at from each other one, this takes minutes.
    assert len(Redaction().query(query)) > 10


def test_secrets_of_a_query_are_not_in_the_hit(recorded: Recorded) -> None:
    (hit,) = hits_of(recorded, HttpSettings(), QUERY_STRING="page=1&access_token=hunter2")

    assert hit["url"]["query"] == f"page=1&access_token={REDACTED}"


@given(st.text(max_size=300))
def test_redaction_changes_only_values(query: str) -> None:
    redacted = Redaction().query(query)

    assert [each.partition("=")[0] for each in redacted.replace(";", "&").split("&")] == [
        each.partition("=")[0] for each in query.replace(";", "&").split("&")
    ]


# The client's address

PROXIES = ("10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # nobody's proxy
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),  # what the client made up comes first
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.2.3.4", "198.51.100.1"),
        ("10.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1"),  # all of them ours
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown, 10.9.9.9", "10.9.9.9"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8:2::1]:4711", "2001:db8:2::1"),
        ("2001:db8:1::5", "2001:db8:2::1", "2001:db8:2::1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "," * 5000, "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, , \t,10.2.3.4,", "198.51.100.1"),
        ("10.0.0.1", "fe80::1%<script>", "fe80::1"),
        ("2001:db8:1::5%eth0", "[2001:db8:2::1%25eth0]:4711", "2001:db8:2::1"),
        ("10.0.0.1", "[2001:db8:2::1", "2001:db8:2::1"),
        ("10.0.0.1", "198.51.100.1\r\nX-Evil: 1", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6," * 5000 + "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.1," * 5000, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1" + ", 10.3.3.3" * 31, "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1" + ", 10.3.3.3" * 32, "10.3.3.3"),  # nobody has so many
        ("nonsense", "198.51.100.1", "nonsense"),
    ],
)
def test_the_word_of_trusted_proxies_is_taken_and_of_nobody_else(peer: str, header: str, client: str) -> None:
    assert TrustedProxies(PROXIES, "x-forwarded-for").client(peer, header) == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ('For="[2001:db8:2::1]:4711";proto=https;by=10.0.0.1', "2001:db8:2::1"),
        ("for=6.6.6.6, for=198.51.100.1;by=10.0.0.2, for=10.0.0.2", "198.51.100.1"),
        ("proto=https;for=198.51.100.1", "198.51.100.1"),
        ("for=_hidden", "10.0.0.1"),
        ("for=unknown, for=10.0.0.2", "10.0.0.2"),
        ('by="for=6.6.6.6"', "10.0.0.1"),
        ('for="6.6.6.6, for=198.51.100.1', "198.51.100.1"),  # a quote left open hides nothing
        ('for="6.6.6.6;by=, for=198.51.100.1;by="10.0.0.2"', "198.51.100.1"),
        ("for=6.6.6.6, , for=198.51.100.1,", "198.51.100.1"),
        ("198.51.100.1", "10.0.0.1"),
        ("for=" * 5000, "10.0.0.1"),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(header: str, client: str) -> None:
    assert TrustedProxies(PROXIES, "forwarded").client("10.0.0.1", header) == client


def test_a_unix_socket_can_be_trusted() -> None:
    assert TrustedProxies(("unix",), "x-forwarded-for").client("", "198.51.100.1") == "198.51.100.1"
    assert TrustedProxies(PROXIES, "x-forwarded-for").client("", "198.51.100.1") == ""


def test_a_header_in_several_lines_is_one_list(recorded: Recorded) -> None:
    settings = HttpSettings(trusted_proxies=PROXIES)
    lines = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"198.51.100.1, 10.3.3.3")]

    serve_asgi(AsgiMiddleware(asgi_hello, settings, source=recorded), scope_of(client=("10.0.0.1", 5), headers=lines))

    assert recorded.hit()["client"]["address"] == "198.51.100.1"


def test_only_the_chosen_header_counts(recorded: Recorded) -> None:
    # A proxy that writes one of the two lets the other one through as the client sent it.
    settings = HttpSettings(trusted_proxies=PROXIES, proxy_header="forwarded")
    spoofed = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "6.6.6.6", "HTTP_FORWARDED": "for=198.51.100.1"}

    assert hits_of(recorded, settings, **spoofed)[0]["client"]["address"] == "198.51.100.1"


def test_without_trusted_proxies_the_peer_is_the_client(recorded: Recorded) -> None:
    (hit,) = hits_of(recorded, HttpSettings(), HTTP_X_FORWARDED_FOR="6.6.6.6", HTTP_FORWARDED="for=6.6.6.6")

    assert hit["client"]["address"] == "192.0.2.7"


# The server's address


@pytest.mark.parametrize(
    ("host", "scheme", "address", "port"),
    [
        ("shop.example", "http", "shop.example", 80),
        ("shop.example", "https", "shop.example", 443),
        ("shop.example:8080", "http", "shop.example", 8080),
        ("[2001:db8::1]:8080", "http", "2001:db8::1", 8080),
        ("[2001:db8::1]", "https", "2001:db8::1", 443),
        ("shop.example:99999", "http", "shop.example", 80),
        ("shop.example:0000000080", "http", "shop.example", 80),
        ("shop.example:\u0665", "http", "shop.example", 80),
        (":", "http", "", 80),
    ],
)
def test_the_host_header_names_the_server(host: str, scheme: str, address: str, port: int, recorded: Recorded) -> None:
    (hit,) = hits_of(recorded, HttpSettings(), HTTP_HOST=host, **{"wsgi.url_scheme": scheme})

    assert hit["server"] == {"address": address, "port": port}


def test_without_a_host_header_the_server_names_itself(recorded: Recorded) -> None:
    (hit,) = hits_of(recorded, HttpSettings(), HTTP_HOST=None, SERVER_NAME="::1", SERVER_PORT="8000")

    assert hit["server"] == {"address": "::1", "port": 8000}


# The trace


@pytest.mark.parametrize(
    "value",
    [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f" 00-{TRACE}-{SPAN}-ff\t", f"cc-{TRACE}-{SPAN}-01-what-ever"],
)
def test_a_traceparent_gives_both_identities(value: str) -> None:
    assert parse_traceparent(value) == (TRACE, SPAN)
    assert identify(value) == (TRACE, SPAN)


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
    trace, span = identify(value)

    assert parse_traceparent(value) is None
    assert (len(trace), len(span)) == (32, 16)
    assert trace != TRACE
    assert (trace, span) != identify(value)


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
    given_id = f"00-{'1' * 32}-{'2' * 16}-01"
    assert identify(given_id) == ("1" * 32, "2" * 16), "as long as it is being imported"

    module.get_current_span = Span  # type: ignore[attr-defined]
    assert identify(given_id) == (TRACE, SPAN)
    Span.is_valid = False
    assert identify(given_id) == ("1" * 32, "2" * 16)


def test_opentelemetry_is_never_imported() -> None:
    program = """
import sys
from integrations.test_asgi import *
from integrations.test_wsgi import serve as serve_wsgi, hello as wsgi_hello, EventstormMiddleware as Wsgi
serve(EventstormMiddleware(hello))
serve_wsgi(Wsgi(wsgi_hello))
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "EVENTSTORM_ENDPOINT": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)

    assert done.returncode == 0, done.stderr


# Texts


@given(st.text(st.characters(exclude_categories=[])))
def test_any_string_becomes_a_text_that_can_be_encoded(value: str) -> None:
    for text in (valid(value), from_latin1(value)):
        assert text.encode().decode() == text
    assert valid(value) == value or any("\ud800" <= each <= "\udfff" for each in value)


def test_texts_are_bounded() -> None:
    assert len(valid("x" * 10**6)) == len(from_latin1("x" * 10**6)) == len(from_bytes(b"x" * 10**6)) == MAX_TEXT


@pytest.mark.parametrize(
    ("value", "told"), [("0", 0), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("-1", None), ("\u0665", None), ("", None)]
)
def test_a_number_of_a_header_is_one_that_fits(value: str, told: int | None) -> None:
    assert number(value) == told


@given(st.binary())
def test_bytes_of_either_interface_become_the_same_text(value: bytes) -> None:
    assert from_bytes(value) == from_latin1(value.decode("latin-1")) == value.decode("utf-8", "replace")


# Settings


def test_every_setting_is_a_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTSTORM_HTTP_EXCLUDED_URLS", "^/health$ ^/metrics")
    monkeypatch.setenv("EVENTSTORM_HTTP_SAMPLE_RATE", "0.5")

    settings = load(HttpSettings, "http", {})

    assert settings.excluded_urls == ("^/health$", "^/metrics")
    assert settings.sample_rate == 0.5


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("excluded_urls", ["("], "'(' is no regular expression"),
        ("sample_rate", 1.5, "1.5 is not from 0 to 1"),
        ("request_headers", ["a b"], "'a b' is no name of a header"),
        ("response_headers", ["*"], "'*' is no name of a header"),
        ("trusted_proxies", ["10.0.0.1/8"], "has host bits set"),
        ("trusted_proxies", ["proxy.example"], "write '10.0.0.0/8', '::1' or 'unix'"),
        ("proxy_header", "x-real-ip", "is not one of x-forwarded-for, forwarded"),
        ("redact", [""], "an empty name"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(name: str, value: Any, told: str) -> None:
    with pytest.raises(SettingError) as caught:
        build(HttpSettings, {name: value}, {name: f"http.{name}"})

    assert str(caught.value).startswith(f"http.{name}: ")
    assert told in str(caught.value)


def test_a_wrong_variable_is_an_error_when_the_middleware_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTSTORM_HTTP_SAMPLE_RATE", "often")

    for middleware in (WsgiMiddleware, AsgiMiddleware):
        with pytest.raises(SettingError, match="EVENTSTORM_HTTP_SAMPLE_RATE: 'often' is not a number"):
            middleware(answering([]))  # type: ignore[arg-type]
