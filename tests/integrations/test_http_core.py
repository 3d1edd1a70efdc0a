"""Texts of whatever a client sent, and the settings of what is recorded, which are the same for WSGI and ASGI."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstorm.errors import SettingError
from eventstorm.settings import build, load
from eventstorm_integrations.asgi import EventstormMiddleware as AsgiMiddleware
from eventstorm_integrations.http import HttpSettings
from eventstorm_integrations.http.text import MAX_TEXT, from_bytes, from_latin1, number, valid
from eventstorm_integrations.wsgi import EventstormMiddleware as WsgiMiddleware
from integrations.wsgi_apps import answering

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
