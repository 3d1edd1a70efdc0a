"""`EventstormHandler`: every record is an event, and no record is anything to the application."""

from __future__ import annotations

import contextvars
import datetime
import decimal
import enum
import logging
import logging.handlers
import queue
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventstorm
import eventstorm.testing
from eventstorm.context import common_fields
from eventstorm.testing import CapturedEvents
from eventstorm_integrations.logging import EventstormHandler
from sdk.peer import Peer, run

TOPIC = "log.record"


@pytest.fixture
def events() -> Iterator[CapturedEvents]:
    with eventstorm.testing.capture_events() as captured:
        yield captured


@pytest.fixture
def log(events: CapturedEvents) -> logging.Logger:
    """A logger whose one handler is ours; unknown to pytest, which adds handlers to all that it finds."""
    logger = logging.Logger("shop.orders", level=1)
    logger.addHandler(EventstormHandler())
    return logger


def only(events: CapturedEvents) -> dict[str, Any]:
    """Return the one event that there is."""
    (event,) = events.of(TOPIC)
    return event


def test_a_record_is_an_event(log: logging.Logger, events: CapturedEvents) -> None:
    log.warning("order %d of %s", 7, "Cuxhaven", extra={"total": 42.5})

    event = only(events)
    code = event.pop("code")
    assert event == {
        "severity_text": "WARN",
        "severity_number": 13,
        "body": "order 7 of Cuxhaven",
        "template": "order %d of %s",
        "logger": "shop.orders",
        "thread": {"id": threading.get_ident(), "name": "MainThread"},
        "extra": {"total": 42.5},
    }
    assert code["file"]["path"] == __file__
    assert code["function"]["name"] == "test_a_record_is_an_event"
    assert 0 < code["line"]["number"] < 100


@pytest.mark.parametrize(
    ("level", "name", "number"),
    [
        (1, "TRACE", 1),
        (5, "TRACE3", 3),
        (10, "DEBUG", 5),
        (15, "DEBUG3", 7),
        (20, "INFO", 9),
        (25, "INFO3", 11),
        (30, "WARN", 13),
        (40, "ERROR", 17),
        (50, "FATAL", 21),
        (57, "FATAL3", 23),
        (10**9, "FATAL4", 24),
    ],
)
def test_severities_are_those_of_opentelemetry(
    log: logging.Logger, events: CapturedEvents, level: int, name: str, number: int
) -> None:
    log.log(level, "x")

    assert (only(events)["severity_text"], only(events)["severity_number"]) == (name, number)


def test_a_level_with_a_name_of_its_own_keeps_it(log: logging.Logger, events: CapturedEvents) -> None:
    record = logging.makeLogRecord({"levelno": 25, "levelname": "NOTICE"})
    log.handle(record)

    assert (only(events)["severity_text"], only(events)["severity_number"]) == ("NOTICE", 11)


def test_an_exception_is_there_with_its_stack(log: logging.Logger, events: CapturedEvents) -> None:
    try:
        try:
            raise KeyError("ä")
        except KeyError as error:
            raise OSError("several") from error
    except OSError:
        log.exception("failed")

    exception = only(events)["exception"]
    assert (exception["type"], exception["message"]) == ("OSError", "several")
    assert exception["stacktrace"].startswith("Traceback (most recent call last):\n")
    assert "KeyError: 'ä'" in exception["stacktrace"]
    assert exception["stacktrace"].endswith("\nOSError: several")


def test_an_exception_of_a_library_is_named_in_full(log: logging.Logger, events: CapturedEvents) -> None:
    log.error("failed", exc_info=queue.Empty("nothing there"))

    assert only(events)["exception"] == {
        "type": "_queue.Empty",
        "message": "nothing there",
        "stacktrace": "_queue.Empty: nothing there",
    }


def test_exception_without_an_exception_has_none(log: logging.Logger, events: CapturedEvents) -> None:
    log.exception("nothing was raised")

    assert "exception" not in only(events)


def test_the_stack_that_was_asked_for_is_there(log: logging.Logger, events: CapturedEvents) -> None:
    log.info("here", stack_info=True)

    assert only(events)["code"]["stacktrace"].startswith("Stack (most recent call last):\n")


def test_a_stack_that_another_handler_has_formatted_is_not_formatted_again(
    log: logging.Logger, events: CapturedEvents
) -> None:
    class Once(ValueError):
        times = 0

        def __str__(self) -> str:
            Once.times += 1
            return "once"

    class Stream:
        def write(self, text: str) -> None: ...

        def flush(self) -> None: ...

    log.handlers.insert(0, logging.StreamHandler(Stream()))  # type: ignore[arg-type]
    log.error("failed", exc_info=Once())
    before = Once.times
    log.handlers.pop(0)
    log.error("failed", exc_info=Once())

    assert Once.times - before > before - 1 >= 1, "the message alone, then message and stack"
    assert len({event["exception"]["stacktrace"] for event in events.of(TOPIC)}) == 1


class Counting:
    """Counts how often it is formatted."""

    times = 0

    def __str__(self) -> str:
        Counting.times += 1
        return "counted"


def test_a_message_is_formatted_once(log: logging.Logger, events: CapturedEvents) -> None:
    Counting.times = 0
    log.info("%s", Counting())

    assert (only(events)["body"], Counting.times) == ("counted", 1)


def test_the_application_sees_the_record_unchanged(log: logging.Logger, events: CapturedEvents) -> None:
    kept: list[logging.LogRecord] = []
    log.addFilter(lambda record: kept.append(record) or True)
    before: dict[str, Any] = {}
    log.addFilter(lambda record: before.update(record.__dict__) or True)
    log.error("%s", 1, exc_info=ValueError("x"), extra={"a": object()})
    log.filters.clear()

    assert kept[0].__dict__ == before


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


def test_records_of_eventstorm_and_its_library_are_left_out(events: CapturedEvents) -> None:
    handler = EventstormHandler()
    for name in (
        "eventstorm",
        "eventstorm.source",
        "eventstorm_sinks.write",
        "zmq.auth",
        "eventstormy",
        "pymongo.command",
    ):
        handler.handle(logging.makeLogRecord({"name": name}))

    assert [event["logger"] for event in events.of(TOPIC)] == ["eventstormy", "pymongo.command"]


def test_the_level_and_filters_have_their_usual_effect(log: logging.Logger, events: CapturedEvents) -> None:
    handler = log.handlers[0]
    handler.setLevel(logging.ERROR)
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    log.warning("too low")
    log.error("secret")
    log.error("heard")

    assert [event["body"] for event in events.of(TOPIC)] == ["heard"]


def test_behind_a_queue_it_takes_what_the_queue_brings(log: logging.Logger, events: CapturedEvents) -> None:
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    log.handlers[:] = [logging.handlers.QueueHandler(waiting)]
    listener = logging.handlers.QueueListener(waiting, EventstormHandler())
    listener.start()
    log.error("failed", exc_info=ValueError("x"))
    listener.stop()

    assert only(events)["body"].startswith("failed")


def test_a_signal_handler_logs_in_the_middle_of_a_record(log: logging.Logger, events: CapturedEvents) -> None:
    class Interrupted:
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGUSR1)
            return "outer"

    before = signal.signal(signal.SIGUSR1, lambda number, frame: log.info("inner"))
    try:
        log.info("%s", Interrupted())
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert [event["body"] for event in events.of(TOPIC)] == ["inner", "outer"]


def in_context(common: dict[str, Any], call: Callable[[], object]) -> None:
    """Call with these common fields."""

    def inside() -> None:
        common_fields.set(common)
        call()

    contextvars.copy_context().run(inside)


def test_a_record_carries_the_common_fields_of_its_own_context(log: logging.Logger, events: CapturedEvents) -> None:
    for _ in range(2):
        for trace_id in ("a", "b"):
            in_context({"trace_id": trace_id, "number": uuid.UUID(int=1)}, lambda: log.info("inside"))
    log.info("outside")

    assert [event.get("trace_id") for event in events.of(TOPIC)] == ["a", "b", "a", "b", None]
    assert events[0].data["number"] == uuid.UUID(int=1)


def test_what_a_record_has_itself_beats_a_common_field(log: logging.Logger, events: CapturedEvents) -> None:
    in_context({"body": "common", "logger": 1, "user": "ada"}, lambda: log.info("own"))

    event = only(events)
    assert (event["body"], event["logger"], event["user"]) == ("own", "shop.orders", "ada")


def test_common_fields_that_cannot_be_encoded_refuse_the_record(
    log: logging.Logger, events: CapturedEvents, capsys: pytest.CaptureFixture[str]
) -> None:
    before = eventstorm.stats()["dropped"].get("unencodable", 0)
    in_context({"a": object()}, lambda: log.info("inside"))

    assert len(events) == 0
    assert eventstorm.stats()["dropped"]["unencodable"] == before + 1
    assert capsys.readouterr().err == ""


def test_records_of_more_places_than_are_remembered_are_told_right(log: logging.Logger, events: CapturedEvents) -> None:
    for number in [*range(2500), 1, 2499]:
        log.handle(logging.makeLogRecord({"levelno": 20, "lineno": number, "threadName": f"worker {number}"}))

    told = [(event["code"]["line"]["number"], event["thread"]["name"]) for event in events.of(TOPIC)]
    assert told == [(number, f"worker {number}") for number in [*range(2500), 1, 2499]]


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


def test_without_a_listener_nothing_is_formatted(tmp_path: Path) -> None:
    code = """
import eventstorm, logging, time
from eventstorm_integrations.logging import EventstormHandler
logging.getLogger().addHandler(EventstormHandler())
class Never:
    def __str__(self): raise SystemExit("formatted")
while eventstorm.wanted("log.record"): time.sleep(0.01)
logging.error("%s", Never())
"""
    with Peer(b"other\0") as peer:
        assert run(code, peer.endpoint, tmp_path)[:3] == (0, "", "")


def test_forked_children_record_too_while_other_threads_log(tmp_path: Path) -> None:
    code = """
import logging, os, threading
from eventstorm_integrations.logging import EventstormHandler
root = logging.getLogger()
root.setLevel(logging.DEBUG)
root.addHandler(EventstormHandler())
stop = threading.Event()
def work():
    while not stop.is_set(): root.debug("thread"); stop.wait(0.0005)
threads = [threading.Thread(target=work) for _ in range(3)]
for each in threads: each.start()
for _ in range(4):
    pid = os.fork()
    if not pid:
        root.error("child")
        import eventstorm
        os._exit(not eventstorm.flush(20) or eventstorm.close(20) is not None)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for each in threads: each.join()
root.error("parent")
"""
    with Peer(b"log.record\0") as peer:
        exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
        assert (exit_code, err) == (0, "")
        bodies = [event["body"] for event in peer.events(TOPIC)]
    assert (bodies.count("child"), bodies.count("parent")) == (4, 1)


def test_records_of_many_threads_all_arrive(log: logging.Logger, events: CapturedEvents) -> None:
    threads = [threading.Thread(target=lambda: [log.info("x") for _ in range(500)]) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(events) == 2000
