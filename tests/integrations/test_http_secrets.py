"""Which headers are recorded, and which values are secrets: the same for WSGI and ASGI."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.http.redact import REDACTED, Redaction
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from integrations.asgi_apps import START, body, sending
from integrations.asgi_server import scope_of
from integrations.asgi_server import serve as serve_asgi
from integrations.recorded import Recorded
from integrations.test_http_choice import hits_of
from integrations.wsgi_server import environ_of, serve


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
