"""The encoded hit is the document that BSON's own encoder makes of the same facts, byte for byte."""

from __future__ import annotations

import sys
import threading
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstorm_integrations.http import hit as module
from eventstorm_integrations.http.hit import encode_hit

ALIKE = ("method", "status", "route", "scheme", "host", "port", "version", "request_bytes")
FACTS: dict[str, Any] = {
    "method": "GET",
    "status": 200,
    "route": "/item/<int:id>",
    "scheme": "http",
    "host": "shop.example:8080",
    "port": None,
    "version": "1.1",
    "request_bytes": 0,
    "sent_bytes": 12,
    "path": "/item/7",
    "query": "page=2",
    "client": "192.0.2.17",
    "agent": "curl/8",
    "duration_s": 0.25,
    "first_s": 0.125,
    "identity": {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"},
}


def encoded(facts: dict[str, Any]) -> bytes:
    """Return the event of `facts`, of which the first are alike for many requests."""
    others = {name: value for name, value in facts.items() if name not in ALIKE}
    return encode_hit(tuple(facts[name] for name in ALIKE), **others)  # type: ignore[arg-type]


# All that a client can make a server say, but for surrogates, which `valid` has replaced.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
headers = st.one_of(texts.map(lambda text: text.encode().decode("latin-1")), st.binary(max_size=40))


def document(facts: dict[str, Any], address: str, port: int, agent: str | None) -> dict[str, Any]:
    """Return what the event is to hold, field by field in its order."""
    request: dict[str, Any] = {"method": facts["method"]}
    if facts["request_bytes"] is not None:
        request["body"] = {"size": facts["request_bytes"]}
    http: dict[str, Any] = {"request": request}
    if facts["route"] is not None:
        http["route"] = facts["route"]
    http["response"] = {} if facts["status"] is None else {"status_code": facts["status"]}
    http["response"]["body"] = {"size": facts["sent_bytes"]}
    url = {"path": facts["path"]}
    if facts["query"]:
        url["query"] = facts["query"]
    event: dict[str, Any] = {
        "url": {**url, "scheme": facts["scheme"]},
        "server": {"address": address, "port": port},
        "network": {"protocol": {"version": facts["version"]}},
        "http": http,
        "duration": facts["duration_s"],
        **facts["identity"],
    }
    if facts["first_s"] is not None:
        event["time_to_first_byte"] = facts["first_s"]
    if facts["client"]:
        event["client"] = {"address": facts["client"]}
    if agent is not None:
        event["user_agent"] = {"original": agent}
    return event


@given(
    status=st.none() | st.integers(0, 999),
    route=st.none() | texts,
    scheme=st.sampled_from(["http", "https", "ws", "wss", "gopher", "\u00fc"]),
    request_bytes=st.none() | st.integers(0, 2**62),
    sent_bytes=st.integers(0, 2**62) | st.sampled_from([2**31 - 1, 2**31]),
    path=texts,
    query=texts,
    client=texts,
    agent=st.none() | headers,
    duration_s=st.floats(allow_nan=False),
    first_s=st.none() | st.floats(allow_nan=False),
)
def test_it_equals_the_document_that_bson_encodes(**given: Any) -> None:
    facts = {**FACTS, **given}
    agent = given["agent"]
    raw = agent.encode("latin-1") if isinstance(agent, str) else agent
    expected = document(facts, "shop.example", 8080, None if raw is None else raw.decode("utf-8", "replace"))

    for _ in range(2):  # made, then kept
        assert encoded(facts) == bson.encode(expected)


@pytest.mark.parametrize(
    ("host", "port", "scheme", "expected"),
    [
        ("shop.example", None, "http", ("shop.example", 80)),
        (b"shop.example", None, "wss", ("shop.example", 443)),
        ("shop.example", 8000, "https", ("shop.example", 8000)),
        ("shop.example:81", 8000, "http", ("shop.example", 81)),
        ("[2001:db8::1]:81", None, "http", ("2001:db8::1", 81)),
        ("2001:db8::1", 82, "http", ("2001:db8::1", 82)),
        ("b\xc3\xbccher.example", None, "http", ("bücher.example", 80)),
        ("bücher.example".encode(), None, "http", ("bücher.example", 80)),
        ("x:99999", None, "http", ("x", 80)),
        ("", None, "http", ("", 80)),
    ],
)
def test_a_host_is_an_address_and_a_port(host: Any, port: int | None, scheme: str, expected: tuple[str, int]) -> None:
    server = bson.decode(encoded({**FACTS, "host": host, "port": port, "scheme": scheme}))["server"]

    assert (server["address"], server["port"]) == expected


def test_a_method_that_is_made_up_goes_under_other() -> None:
    request = bson.decode(encoded({**FACTS, "method": "BREW" * 1000}))["http"]["request"]

    assert request == {"method": "_OTHER", "method_original": "BREW" * 10, "body": {"size": 0}}


def test_clients_that_make_up_texts_fill_no_memory() -> None:
    for number in range(5000):
        text = f"{number}" * (1 if number % 2 else 20_000)
        encoded({**FACTS, "host": text, "agent": text, "client": text, "request_bytes": number})
        encoded({**FACTS, "host": f"h:{text}"})  # of which the name alone is told
    tables = [module._heads, module._agents, module._clients]

    assert all(len(table) <= 2000 for table in tables)
    things = [thing for table in tables for pair in table.items() for thing in pair]
    kept = sum(sys.getsizeof(part) for thing in things for part in (thing if isinstance(thing, tuple) else (thing,)))
    assert kept < 8 * 2**20


def test_threads_may_encode_at_once_while_the_tables_are_emptied() -> None:
    wrong: list[str] = []

    def encode(thread: int) -> None:
        for number in range(3000):
            agent = f"agent {thread} {number % 2500}"
            if bson.decode(encoded({**FACTS, "agent": agent, "client": agent}))["user_agent"]["original"] != agent:
                wrong.append(agent)

    threads = [threading.Thread(target=encode, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not wrong
