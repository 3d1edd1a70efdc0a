"""Which requests are recorded, and what a hook may do with a hit: the same for WSGI and ASGI."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import pytest

import eventstorm_integrations
from eventstorm.errors import SettingError
from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.http.text import MAX_TEXT
from eventstorm_integrations.http.trace import draw, identify
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from integrations.asgi_apps import hello as asgi_hello
from integrations.asgi_server import serve as serve_asgi
from integrations.recorded import Recorded
from integrations.wsgi_apps import answering, hello
from integrations.wsgi_server import environ_of, serve


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
    theirs = os.read(read, 65_536).decode()
    os.close(read)
    os.close(write)

    assert not [mine for mine in [identify(None) for _ in range(100)] if mine["trace_id"] in theirs]
    assert str(draw()) not in theirs


def test_threads_never_draw_the_same_identity() -> None:
    drawn: list[dict[str, str]] = []
    threads = [threading.Thread(target=lambda: drawn.extend(identify(None) for _ in range(1000))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)

    assert len({each["trace_id"] for each in drawn}) == len({each["span_id"] for each in drawn}) == 4000


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
