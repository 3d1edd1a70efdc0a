"""`EventstormHandler`: every record is an event, and no record is anything to the application."""

from __future__ import annotations

import contextvars
import logging
import logging.handlers
import queue
import signal
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eventstorm
from eventstorm.context import common_fields
from eventstorm.testing import CapturedEvents
from eventstorm_integrations.logging import EventstormHandler
from integrations.logged import TOPIC, only
from sdk.peer import Peer, run


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


def test_records_of_more_places_than_are_remembered_are_told_right(log: logging.Logger, events: CapturedEvents) -> None:
    for number in [*range(2500), 1, 2499]:
        log.handle(logging.makeLogRecord({"levelno": 20, "lineno": number, "threadName": f"worker {number}"}))

    told = [(event["code"]["line"]["number"], event["thread"]["name"]) for event in events.of(TOPIC)]
    assert told == [(number, f"worker {number}") for number in [*range(2500), 1, 2499]]


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


def test_common_fields_that_cannot_be_encoded_refuse_the_record(
    log: logging.Logger, events: CapturedEvents, capsys: pytest.CaptureFixture[str]
) -> None:
    before = eventstorm.stats()["dropped"].get("unencodable", 0)
    in_context({"a": object()}, lambda: log.info("inside"))

    assert len(events) == 0
    assert eventstorm.stats()["dropped"]["unencodable"] == before + 1
    assert capsys.readouterr().err == ""
