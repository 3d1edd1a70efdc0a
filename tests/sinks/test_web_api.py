"""The HTTP API of a running sink, asked as any program would."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstorm.errors import StartError
from eventstorm_sinks.batch import Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink
from eventstorm_sinks.snapshot import LedgerRow, SinkSnapshot
from eventstorm_sinks.web import metrics
from eventstorm_sinks.web.server import WebServer
from web_serving import Publisher, ask, served, until, url_of

# Minutes of work, and no memory, of which it could run out first.
SLOW = "SELECT count(*) FROM range(1000000000000) a WHERE hash(a.range) = 1"


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """A sink that holds three events of two topics and has lost two more."""
    with (
        served(tmp_path_factory.mktemp("api"), sql_rows=100, sql_timeout_s=5.0) as sink,
        Publisher(sink.ingress or "") as source,
    ):
        source.send("shop.order", {"total": 40.5, "kind": "book"}, {"total": 1.5, "kind": "pen"})
        source.send("cpu.usage", {"system": {"cpu": {"utilization": 0.5}}})
        source.send_encoded("shop.order", b"", 0, skipped=2)
        until(lambda: {each["topic"]: each["events"] for each in ask(sink, "/api/topics")["topics"]}.get("cpu.usage"))
        until(lambda: ask(sink, "/api/ledger")["losses"])
        yield sink


def request(
    sink: Sink, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Send a request; return the status and the JSON or the text of the answer."""
    connection = http.client.HTTPConnection(url_of(sink).removeprefix("http://"), timeout=10)
    try:
        given = {"Host": "localhost", **(headers or {})}
        connection.request(method, path, json.dumps(body) if body is not None else None, given)
        answer = connection.getresponse()
        text = answer.read().decode()
        kind = answer.headers["content-type"] or ""
        return answer.status, json.loads(text) if kind == "application/json" else text
    finally:
        connection.close()


def sql(sink: Sink, query: str, **more: Any) -> tuple[int, Any]:
    return request(sink, "POST", "/api/sql", {"query": query, **more}, {"X-Eventstorm": "1"})


def test_topics_are_told_with_their_events(sink: Sink) -> None:
    topics = {each["topic"]: each for each in ask(sink, "/api/topics")["topics"]}

    assert topics["shop.order"]["events"] == 2
    assert topics["shop.order"]["first_ms"] <= topics["shop.order"]["last_ms"]


def test_a_series_aggregates_a_field(sink: Sink) -> None:
    answer = ask(sink, "/api/series?topic=shop.order&field=total&aggregate=sum&step=3600&by=kind")

    assert {each["name"]: each["points"][0][1] for each in answer["series"]} == {"book": 40.5, "pen": 1.5}


def test_a_series_without_a_field_counts(sink: Sink) -> None:
    answer = ask(sink, "/api/series?by=topic&step=3600")

    counted = {each["name"]: sum(value for _, value in each["points"]) for each in answer["series"]}
    assert counted["shop.order"] == 2
    assert counted["cpu.usage"] == 1


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/series?stepp=5", "unknown parameter; did you mean 'step'?"),
        ("/api/series?step=0", "step: 0 is not from 1"),
        ("/api/series?step=x", "step: 'x' is not a whole number"),
        ("/api/series?start=0", "step: 1 s would give more than 20000 points; use"),
        ("/api/series?field=a&aggregate=median", "no aggregate 'median'"),
        ("/api/series?aggregate=avg", "avg needs a field"),
        ("/api/events?where=total", "where: 'total': no operator in it; write it as http.response.status_code>=500"),
        ("/api/series?where=total=1&where=kind<true", "where: 'kind<true': kind<: only numbers, texts and dates have"),
        ("/api/events?" + "&where=a=1" * 21, "where: 21 conditions; 20 are allowed"),
        ("/api/events?limit=0", "limit: 0 is not from 1 to 1000"),
        ("/api/events?system=maybe", "system: 'maybe' is neither true nor false"),
        ("/api/history?span=17&until=0", "span: 17: there are 300, 3600"),
        ("/api/history?span=300", "until: missing"),
        ("/api/sql", "query: empty"),
        ("/api/sql?query=FROM%20events&timeout_s=soon", "timeout_s: 'soon' is not a number of seconds"),
        ("/api/sql?query=FROM%20events&timeout_s=-1", "timeout_s: -1.0 is too small"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_fix(sink: Sink, path: str, told: str) -> None:
    status, answer = request(sink, "GET", path)

    assert status == 400
    assert told in answer["error"]


def test_the_newest_events_are_found_by_topic_prefix_and_text(sink: Sink) -> None:
    def texts(query: str) -> list[str]:
        return [json.loads(each["text"])["kind"] for each in ask(sink, f"/api/events?{query}")["events"]]

    assert texts("topic=shop.order") == ["pen", "book"]
    assert texts("topic=shop.&text=BOOK") == ["book"]
    assert texts("prefix=sho&limit=1") == ["pen"]
    assert texts("prefix=no") == []
    assert {each["topic"] for each in ask(sink, "/api/events?system=false")["events"]} == {"shop.order"}


def test_events_and_series_are_chosen_by_what_is_in_them(sink: Sink) -> None:
    """By all conditions together."""
    events = ask(sink, "/api/events?where=total%3E=1&where=kind!=pen")["events"]
    assert [json.loads(each["text"]) for each in events] == [{"total": 40.5, "kind": "book"}]
    assert ask(sink, "/api/events?where=total%3E=1&text=pen&system=false")["events"][0]["topic"] == "shop.order"
    assert ask(sink, "/api/events?where=total%3E=1&prefix=cpu.")["events"] == []
    [line] = ask(sink, "/api/series?where=total%3C10&field=total&aggregate=sum&step=3600")["series"]
    assert sum(value for _, value in line["points"]) == 1.5


def test_a_whole_event_is_given_by_its_identity(sink: Sink) -> None:
    event = ask(sink, "/api/events?topic=cpu.usage")["events"][0]
    path = f"/api/event?topic=cpu.usage&ts_ms={event['ts_ms']}&id="

    assert json.loads(ask(sink, path + event["id"])["text"]) == {"system": {"cpu": {"utilization": 0.5}}}
    assert request(sink, "GET", path + "00")[0] == 404


def test_sql_answers_with_columns_types_and_rows(sink: Sink) -> None:
    status, answer = sql(sink, "SELECT topic, count(*) AS n FROM events WHERE topic LIKE 'shop%' GROUP BY 1")

    assert status == 200
    assert answer == {
        "columns": ["topic", "n"],
        "types": ["VARCHAR", "BIGINT"],
        "rows": [["shop.order", 2]],
        "truncated": False,
    }


def test_sql_by_get_is_the_same(sink: Sink) -> None:
    assert ask(sink, "/api/sql?query=SELECT%201%20AS%20one&rows=1&timeout_s=4.5")["rows"] == [[1]]


def test_the_settings_bound_the_rows(sink: Sink) -> None:
    _, answer = sql(sink, "SELECT * FROM range(1000)", rows=500)

    assert (len(answer["rows"]), answer["truncated"]) == (100, True)


@pytest.mark.parametrize("query", ["SELEC 1", "DROP TABLE events", "SELECT 1; SELECT 2", "COPY events TO '/tmp/x'"])
def test_a_wrong_query_is_400(sink: Sink, query: str) -> None:
    status, answer = sql(sink, query)

    assert status == 400
    assert answer["error"]


def test_a_query_over_its_time_is_408_and_others_are_answered_meanwhile(sink: Sink) -> None:
    slow: list[tuple[int, Any]] = []
    threads = [threading.Thread(target=lambda: slow.append(sql(sink, SLOW, timeout_s=3.0))) for _ in range(3)]
    for each in threads:
        each.start()
    assert request(sink, "GET", "/healthz")[0] == 200
    assert not slow
    for each in threads:
        each.join()

    assert [status for status, _ in slow] == [408] * 3


def test_a_query_ends_when_its_client_goes_away(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    reader: Any = sink.writers[0].store
    ended = threading.Event()
    asked = reader.sql

    def watched(*args: Any, **named: Any) -> Any:
        try:
            return asked(*args, **named)
        finally:
            ended.set()

    monkeypatch.setattr(reader, "sql", watched)
    connection = http.client.HTTPConnection(url_of(sink).removeprefix("http://"))
    connection.request("POST", "/api/sql", json.dumps({"query": SLOW}), {"X-Eventstorm": "1"})
    assert not ended.wait(0.3)
    connection.close()

    assert ended.wait(2.0)


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": "evil.example"}, 403),
        ("GET", {"Host": "localhost.evil.example:5580"}, 403),
        ("GET", {"Host": "["}, 403),
        ("GET", {"Host": "127.0.0.1:9"}, 200),
        ("GET", {"Host": "[::1]:5580"}, 200),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {}, 403),
        ("POST", {"X-Eventstorm": "1", "Origin": "https://evil.example"}, 403),
        ("POST", {"X-Eventstorm": "1", "Origin": "null"}, 403),
        ("POST", {"X-Eventstorm": "1", "Origin": "http://localhost"}, 200),
    ],
)
def test_other_web_sites_are_kept_out(sink: Sink, method: str, headers: dict[str, str], status: int) -> None:
    path = "/api/sql" if method == "POST" else "/api/topics"

    assert request(sink, method, path, {"query": "SELECT 1"} if method == "POST" else None, headers)[0] == status


@pytest.mark.parametrize(
    "body", [[], {"query": 5}, {"query": "SELECT 1", "row": 5}, {"query": "SELECT 1", "timeout_s": -1}]
)
def test_a_wrong_body_is_400(sink: Sink, body: Any) -> None:
    status, answer = request(sink, "POST", "/api/sql", body, {"X-Eventstorm": "1"})

    assert status == 400
    assert answer["error"]


def test_an_unknown_path_is_a_json_error(sink: Sink) -> None:
    assert request(sink, "GET", "/api/nothing")[0] == 404
    assert request(sink, "GET", "/static/../server.py")[0] == 404
    assert request(sink, "DELETE", "/api/topics")[0] == 405


def test_every_answer_carries_the_content_security_policy(sink: Sink) -> None:
    for path in ("/", "/api/topics", "/static/page.js", "/nothing"):
        connection = http.client.HTTPConnection(url_of(sink).removeprefix("http://"), timeout=10)
        connection.request("GET", path)
        policy = connection.getresponse().headers["content-security-policy"]
        connection.close()
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy


def test_the_ledger_tells_what_was_lost_where(sink: Sink) -> None:
    answer = ask(sink, "/api/ledger")

    lost = [(each["topic"], each["reason"], each["events"]) for each in answer["losses"]]
    assert lost == [("shop.order", "way", 2)]
    row = next(each for each in answer["streams"] if each["topic"] == "shop.order")
    assert (row["received"], row["lost_way"], row["lost"], row["source"]["host"]) == (2, 2, {"way": 2}, "atlas")


def test_metrics_are_prometheus_text(sink: Sink) -> None:
    status, text = request(sink, "GET", "/metrics")

    assert status == 200
    assert 'eventstorm_events_received_total{topic="shop.order"} 2\n' in text
    assert 'eventstorm_events_lost_total{topic="shop.order",reason="way",store=""} 2\n' in text
    assert "# TYPE eventstorm_queue_bytes gauge\n" in text


def test_metrics_escape_labels_and_bound_their_number() -> None:
    source = Source(bytes(12), "h", "s", 1)
    rows = [LedgerRow(f"t.{n}", source, 0, n + 1, 0, 0, 0, 0, 0.0, False, ()) for n in range(300)]

    text = metrics.render(SinkSnapshot(0.0, tuple(rows), (), {'a"\\\n': 1}), 0)

    assert 'eventstorm_messages_malformed_total{reason="a\\"\\\\\\n"} 1\n' in text
    assert text.count("eventstorm_events_received_total{") == 201
    assert f'eventstorm_events_received_total{{topic="(other)"}} {sum(range(101))}\n' in text


def test_health_is_503_with_the_reason_when_a_store_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventstorm_sinks.stores import StoreUnavailable

    with served(tmp_path) as sink:
        assert request(sink, "GET", "/healthz") == (200, {"status": "ok", "problems": []})

        def fail(*args: object) -> None:
            raise StoreUnavailable("the disk is full")

        monkeypatch.setattr(sink.writers[0].store, "write", fail)
        with Publisher(sink.ingress or "") as source:
            source.send("shop.order", {})
            until(lambda: request(sink, "GET", "/healthz")[0] == 503)
        _, answer = request(sink, "GET", "/healthz")
        assert answer["status"] == "failing"
        assert "the disk is full" in answer["problems"][0]
        monkeypatch.undo()


def test_health_is_503_while_a_write_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstorm_sinks.sink.LONG_WRITE_S", 0.1)
    with served(tmp_path) as sink:
        goes_on = threading.Event()
        monkeypatch.setattr(sink.writers[0].store, "write", lambda *_: goes_on.wait(20))
        with Publisher(sink.ingress or "") as source:
            source.send("shop.order", {})
            until(lambda: request(sink, "GET", "/healthz")[0] == 503)
        _, answer = request(sink, "GET", "/healthz")
        goes_on.set()
        monkeypatch.undo()
    assert "a write has taken" in answer["problems"][0]


def test_health_is_503_when_nothing_is_received() -> None:
    settings = SinkSettings(stores=(), http="127.0.0.1:0")
    sink = Sink(settings)
    sink.web = WebServer(sink, settings)
    sink.web.start()
    try:
        status, answer = request(sink, "GET", "/healthz")
    finally:
        sink.stop()

    assert status == 503
    assert "nothing is received" in answer["problems"][0]


def test_without_a_store_that_answers_the_fix_is_told(tmp_path: Path) -> None:
    with served(tmp_path, stores=()) as sink:
        status, answer = request(sink, "GET", "/api/topics")

    assert status == 503
    assert "--store duckdb:" in answer["error"]


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = SinkSettings(http=address)
        server = WebServer(Sink(settings), settings)

        with pytest.raises(StartError, match=address.replace(".", r"\.")):
            server.start()


def test_it_stops_within_two_seconds_with_a_query_under_way(tmp_path: Path) -> None:
    with served(tmp_path) as sink:
        connection = http.client.HTTPConnection(url_of(sink).removeprefix("http://"))
        connection.request("POST", "/api/sql", json.dumps({"query": SLOW}), {"X-Eventstorm": "1"})
        assert sink.web is not None
        started_s = time.monotonic()
        sink.web.stop()
        elapsed_s = time.monotonic() - started_s
        connection.close()

    assert elapsed_s < 2.0
    with pytest.raises(ConnectionRefusedError):
        connection.connect()
