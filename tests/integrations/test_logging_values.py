"""Values and texts of all kinds in log records: each becomes an event, or the handler says why it cannot."""

from __future__ import annotations

import datetime
import decimal
import enum
import logging
import logging.handlers
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventstorm
import eventstorm.testing
from eventstorm.testing import CapturedEvents
from eventstorm_integrations.logging import EventstormHandler
from integrations.logged import TOPIC, only


class Raises:
    """Has no text."""

    def __str__(self) -> str:
        raise ZeroDivisionError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "arguments"),
    [("%d", ("text",)), ("%s %s", (1,)), ("%s", (Raises(),)), (Raises(), ()), ("%(a)s", ({},))],
)
def test_a_message_that_cannot_be_formatted_goes_to_handle_error(
    log: logging.Logger,
    events: CapturedEvents,
    capsys: pytest.CaptureFixture[str],
    message: Any,
    arguments: tuple[Any, ...],
) -> None:
    log.info(message, *arguments)

    assert len(events) == 0
    assert "--- Logging error ---" in capsys.readouterr().err


def test_handle_error_is_the_applications_to_replace(log: logging.Logger, events: CapturedEvents) -> None:
    told: list[logging.LogRecord] = []
    log.handlers[0].handleError = told.append  # type: ignore[method-assign]
    log.info("%d", "text")

    assert [record.msg for record in told] == ["%d"]


def test_an_exception_without_a_text_is_recorded_all_the_same(log: logging.Logger, events: CapturedEvents) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    log.error("failed", exc_info=Mute())

    exception = only(events)["exception"]
    assert "Mute" in exception["message"]
    assert "Mute" in exception["stacktrace"]


def test_texts_that_utf_8_does_not_have_are_escaped(log: logging.Logger, events: CapturedEvents) -> None:
    log.error("\ud800 %s", "\udcff", exc_info=ValueError("\ud800"), extra={"a\ud800\0": "ä\ud800", "list": ["\ud800"]})

    event = only(events)
    assert event["body"] == "\\ud800 \\udcff"
    assert event["exception"]["message"] == "\\ud800"
    assert event["extra"] == {"a\\ud800\\0": "ä\\ud800", "list": ["\\ud800"]}


class Color(enum.Enum):
    """An enumeration."""

    RED = 1


class Text(str, enum.Enum):
    """An enumeration of texts."""

    ONE = "one"


class Lies:
    """Is nothing that it says."""

    def __repr__(self) -> str:
        return "x" * 10**6


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (1.5, 1.5),
        (b"\xff", "b'\\xff'"),
        (Text.ONE, "one"),
        (Color.RED, "<Color.RED: 1>"),
        (decimal.Decimal("1.10"), "Decimal('1.10')"),
        (uuid.UUID(int=7), uuid.UUID(int=7)),
        (datetime.date(2026, 1, 2), "datetime.date(2026, 1, 2)"),
        (
            datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
            datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
        ),
        (datetime.datetime.max, "datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)"),
        ((1, [2, {"a": 3}]), [1, [2, {"a": 3}]]),
        ({1: {2: 3}}, {"1": {"2": 3}}),
        ({1, 2}, "{1, 2}"),
        (Raises(), None),
        (Lies(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_extra_takes_values_of_any_type(
    log: logging.Logger, events: CapturedEvents, value: object, stored: object
) -> None:
    log.info("x", extra={"value": value, "more": 1})

    extra = only(events)["extra"]
    assert extra["more"] == 1
    if stored is None and value is not None:
        assert type(value).__name__ in extra["value"] or extra["value"].startswith("xxx")
        assert len(extra["value"]) <= 5000
    else:
        assert extra["value"] == stored


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.datetimes(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner) | st.sets(st.text())
    ),
    max_leaves=40,
)


# However long a busy machine takes to think of values.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(values=st.dictionaries(st.text(st.characters(), min_size=1).map(lambda name: f"x{name}"), anything))
def test_no_extra_is_ever_refused(values: dict[str, Any]) -> None:
    with eventstorm.testing.capture_events() as captured:
        EventstormHandler().handle(logging.makeLogRecord({"msg": "x", **values}))

        assert len(captured) == 1


some_text = st.text(st.characters(), max_size=30)  # lone surrogates and NUL among them


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(name=some_text, message=some_text, argument=some_text, thread=some_text, path=some_text)
def test_any_text_is_a_text_of_the_event(name: str, message: str, argument: str, thread: str, path: str) -> None:
    made = {"name": name, "msg": "%s" + message.replace("%", "%%"), "args": (argument,)}
    with eventstorm.testing.capture_events() as captured:
        EventstormHandler().handle(logging.makeLogRecord({**made, "threadName": thread, "pathname": path}))

        event = only(captured)
        assert event["body"] == _escaped(argument + message)
        assert event["template"] == _escaped("%s" + message.replace("%", "%%"))
        assert (event["logger"], event["thread"]["name"]) == (_escaped(name), _escaped(thread))
        assert event["code"]["file"]["path"] == _escaped(path)


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def test_what_refers_to_itself_ends(log: logging.Logger, events: CapturedEvents) -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    log.info("x", extra={"endless": endless})

    assert "self" in only(events)["extra"]["endless"]


def _deep(levels: int) -> None:
    if levels:
        _deep(levels - 1)
    raise ValueError("ü" * 10**6)


def test_huge_records_are_cut_and_not_refused(log: logging.Logger, events: CapturedEvents) -> None:
    try:
        _deep(500)
    except ValueError:
        log.exception(
            "😀" * 10**6 + "%s",
            "x",
            stack_info=True,
            extra={**{f"n{n}": "😀" * 10**5 for n in range(1000)}, "deep": [[[[[[[0] * 1000] * 1000] * 1000]]]]},
        )

    event = only(events)
    assert event["body"].startswith("😀")
    assert event["body"].endswith("…")
    assert event["exception"]["stacktrace"].startswith("Traceback")
    assert "characters left out" in event["exception"]["stacktrace"]
    assert event["extra"]["n0"].endswith("…")


@pytest.mark.parametrize(
    ("made", "body"),
    [
        ({}, ""),
        ({"args": {"a": 1}, "msg": "%(a)d"}, "1"),
        ({"name": None, "lineno": "x", "thread": 2**70, "levelname": object()}, ""),
        ({"levelno": True, "exc_info": (None, None, None)}, ""),
    ],
)
def test_records_made_by_hand(events: CapturedEvents, made: dict[str, Any], body: str) -> None:
    EventstormHandler().handle(logging.makeLogRecord(made))

    assert only(events)["body"] == body


def test_the_one_mapping_as_argument(log: logging.Logger, events: CapturedEvents) -> None:
    log.info("%(a)d and %(b)s", {"a": 1, "b": "two"})

    assert (only(events)["body"], only(events)["template"]) == ("1 and two", "%(a)d and %(b)s")


def test_an_argument_that_logs_itself_ends(log: logging.Logger, events: CapturedEvents) -> None:
    class Logs:
        def __str__(self) -> str:
            log.info("%s", self)
            return "logs"

    log.info("%s", Logs())

    assert [event["body"] for event in events.of(TOPIC)] == ["logs"] * 3


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("pathname", ["no", "hash"], "['no', 'hash']"),
        ("pathname", "/" + "x" * 10**6, None),
        ("funcName", None, None),
        ("threadName", {"no": "hash"}, "{'no': 'hash'}"),
    ],
    ids=["a list", "long", "none", "a dictionary"],
)
def test_a_place_or_thread_may_be_anything(
    log: logging.Logger, events: CapturedEvents, field: str, value: object, stored: str | None
) -> None:
    for _ in range(2):
        log.handle(logging.makeLogRecord({"levelno": 20, field: value}))

    for event in events.of(TOPIC):
        code, thread = event["code"], event["thread"]
        told = {"pathname": code["file"]["path"], "funcName": code["function"]["name"], "threadName": thread["name"]}
        assert told[field] == stored or (field == "pathname" and len(told[field]) == 4096)
