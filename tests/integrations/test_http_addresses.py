"""Whose address is the client's, and whose the server's: the same for WSGI and ASGI."""

from __future__ import annotations

import pytest

from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.http.client import TrustedProxies
from integrations.asgi_apps import hello as asgi_hello
from integrations.asgi_server import scope_of
from integrations.asgi_server import serve as serve_asgi
from integrations.recorded import Recorded
from integrations.test_http_choice import hits_of

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


@pytest.mark.parametrize("padding", [1, 4000, 5000, 50_000])
def test_what_a_client_puts_in_front_of_a_list_hides_nothing_that_proxies_add(padding: int, recorded: Recorded) -> None:
    settings = HttpSettings(trusted_proxies=PROXIES)
    spoofed = "6.6.6.6, 10.3.3.3" + "," * padding + " 198.51.100.1, 10.3.3.3"

    hits = hits_of(recorded, settings, REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=spoofed)
    lines = [(b"x-forwarded-for", spoofed.encode())]
    serve_asgi(AsgiMiddleware(asgi_hello, settings, source=recorded), scope_of(client=("10.0.0.1", 5), headers=lines))

    assert [hit["client"]["address"] for hit in (*hits, *recorded.of("http.hit"))] == ["198.51.100.1"] * 3


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
