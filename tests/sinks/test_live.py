"""The live window: exact, bounded, and unmoved by what is hostile."""

from __future__ import annotations

import math
from typing import Any

import bson
import pytest
from bson.objectid import ObjectId

from eventstorm.wire import Header, Message, encode_event
from eventstorm_sinks.ledger import Observation
from eventstorm_sinks.live import OTHER_TOPICS, WINDOW_S, Live
from eventstorm_sinks.live_tail import MAX_BYTES, MAX_EVENTS, MAX_MESSAGES, Filter

START_S = 1_800_000_000


class Clock:
    """A clock that stands still until it is moved."""

    now = float(START_S)

    def __call__(self) -> float:
        return self.now


def message(topic: str, events: list[tuple[int, Any]], at_ms: int | None = None, host: str = "atlas") -> Message:
    """Make a message of (time in milliseconds, document) pairs."""
    payload = b"".join(
        encode_event(ts_ms, each if isinstance(each, bytes) else bson.encode(each)) for ts_ms, each in events
    )
    at_ms = events[-1][0] if at_ms is None else at_ms
    return Message(topic, Header(ObjectId().binary, 0, 0, len(events), 0, at_ms, host, "test", 1), payload)


def all_new(given: Message) -> Observation:
    return Observation(given.header.n, 0, 0, 0, True)


def observe(live: Live, *messages: Message) -> None:
    for each in messages:
        live.observe(each, all_new(each))
    live.tick()


def counts(live: Live, since_tick: int = 0) -> dict[str, dict[int, float]]:
    return {each.by: dict(each.bins) for each in live.bins(since_tick)["events"]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(clock: Clock) -> Live:
    made = Live(clock)
    clock.now += 10
    return made


def test_events_are_counted_in_the_second_of_their_own_time(live: Live) -> None:
    times = [START_S * 1000 + each for each in (2_020, 2_999, 3_000, 3_001, 5_500)]

    observe(live, message("a.b", [(each, {}) for each in times]))

    assert counts(live) == {"a.b": {START_S + 2: 2, START_S + 3: 2, START_S + 5: 1}}


def test_a_batch_sent_within_one_second_is_counted_without_looking_at_each_event(live: Live) -> None:
    first = START_S * 1000 + 2_300

    observe(live, message("a.b", [(first + each, {}) for each in range(20)], at_ms=first + 21))

    assert counts(live) == {"a.b": {START_S + 2: 20}}


def test_what_the_ledger_saw_before_is_not_counted_again(live: Live) -> None:
    again = message("a.b", [(START_S * 1000 + 2_000 + 500 * each, {}) for each in range(4)])

    live.observe(again, Observation(1, 3, 0, 0, True))
    live.observe(again, Observation(0, 4, 0, 0, False))
    live.tick()

    assert counts(live) == {"a.b": {START_S + 3: 1}}


def test_the_second_in_which_the_process_started_is_left_to_history(live: Live, clock: Clock) -> None:
    observe(live, message("a.b", [(START_S * 1000 + 900, {}), (START_S * 1000 + 1_000, {})]))

    assert live.since_s(clock.now) == START_S + 1
    assert counts(live) == {"a.b": {START_S + 1: 1}}


def test_bins_are_absolute_and_only_changed_ones_are_told(live: Live) -> None:
    at_ms = START_S * 1000
    observe(live, message("a.b", [(at_ms + 2_000, {}), (at_ms + 3_000, {})]))
    tick = live.tick_number

    observe(live, message("a.b", [(at_ms + 3_500, {})]))

    assert counts(live, tick) == {"a.b": {START_S + 3: 2}}
    assert counts(live, live.tick_number) == {}
    assert counts(live) == {"a.b": {START_S + 2: 1, START_S + 3: 2}}


def test_the_window_moves_on_and_forgets(live: Live, clock: Clock) -> None:
    observe(live, message("a.b", [(START_S * 1000 + 2_000, {})]))

    clock.now += WINDOW_S
    observe(live, message("c.d", [(int(clock.now) * 1000, {})]))

    assert counts(live) == {"c.d": {int(clock.now): 1}}


@pytest.mark.parametrize("offset_s", [-WINDOW_S - 1, 6, 10**9, -(2**52)])
def test_events_of_another_time_are_left_to_history(live: Live, clock: Clock, offset_s: int) -> None:
    observe(live, message("cpu.usage", [((int(clock.now) + offset_s) * 1000, {"system": {"cpu": {"utilization": 1}}})]))

    assert counts(live) == {}
    assert live.bins(0)["cpu"] == []


def test_beyond_200_topics_they_are_counted_as_other(live: Live) -> None:
    at_ms = START_S * 1000 + 2_000

    observe(live, *(message(f"t.{each}", [(at_ms, {})]) for each in range(1_000)))

    found = counts(live)
    assert len(found) == 201
    assert found[OTHER_TOPICS] == {START_S + 2: 800}


def test_topics_that_fell_silent_make_room(live: Live, clock: Clock) -> None:
    observe(live, *(message(f"t.{each}", [(START_S * 1000 + 2_000, {})]) for each in range(300)))
    clock.now += WINDOW_S
    live.tick()

    observe(live, message("late.one", [(int(clock.now) * 1000, {})]))

    assert list(counts(live)) == ["late.one"]


def test_gauges_are_averaged_by_line(live: Live) -> None:
    def read(device: str, value: float) -> Message:
        return message(
            "disk.io", [(START_S * 1000 + 2_000, {"system": {"device": device, "disk": {"io": {"read": value}}}})]
        )

    observe(live, read("sda", 10), read("sda", 20), read("sdb", 5))

    assert {(each.label, each.by): each.bins for each in live.bins(0)["disk"]} == {
        ("read", "sda"): [(START_S + 2, 15.0)],
        ("read", "sdb"): [(START_S + 2, 5.0)],
    }


@pytest.mark.parametrize(
    "value", ["0.5", True, math.nan, math.inf, [0.5] * 10_000, {"a": 1}, bson.Decimal128("0.5"), b"x", ObjectId()]
)
def test_what_is_no_number_is_ignored_and_counted(live: Live, value: object) -> None:
    observe(live, message("cpu.usage", [(START_S * 1000 + 2_000, {"system": {"cpu": {"utilization": value}}})]))

    assert live.bins(0)["cpu"] == []
    assert live.ignored == 1


@pytest.mark.parametrize("data", [b"\x06\0\0\0\1\0", bson.encode({"system": 5}), bson.encode({"system": {"cpu": []}})])
def test_documents_of_another_shape_do_no_harm(live: Live, data: bytes) -> None:
    observe(live, message("cpu.usage", [(START_S * 1000 + 2_000, data)]))

    assert live.bins(0)["cpu"] == []


def test_a_flood_of_metrics_is_cut_and_counted(live: Live) -> None:
    flood = message("cpu.usage", [(START_S * 1000 + 2_000, {})] * 6_000)

    observe(live, flood, flood)

    assert live.ignored == 7_000
    assert counts(live) == {"cpu.usage": {START_S + 2: 12_000}}


def test_tables_keep_the_newest_row_of_each_key(live: Live) -> None:
    def usage(mountpoint: object, value: float, second: int) -> Message:
        data = {"system": {"filesystem": {"mountpoint": mountpoint, "utilization": value}}}
        return message("disk.usage", [((START_S + second) * 1000, data)])

    observe(
        live, usage("/", 0.1, 2), usage("/", 0.2, 3), usage("/home", 0.3, 3), *(usage(str(n), 1, 3) for n in range(99))
    )

    rows = live.tables()["filesystems"]
    assert [(each.key, each.values[2]) for each in rows[:2]] == [("/", 0.2), ("/home", 0.3)]
    assert len(rows) == 32


def test_processes_of_the_interval_before_go(live: Live) -> None:
    def process(rank: int, second: int) -> Message:
        return message("process.usage", [((START_S + second) * 1000, {"process": {"pid": 100 + rank, "rank": rank}})])

    observe(live, *(process(rank, 2) for rank in range(5)), process(1, 3))

    assert [each.values[0] for each in live.tables()["processes"]] == [101]


def test_the_newest_events_that_match_are_decoded_newest_first(live: Live) -> None:
    at_ms = START_S * 1000 + 2_000
    observe(
        live,
        message("shop.order", [(at_ms, {"n": 1}), (at_ms, {"n": 2})]),
        message("shop.note", [(at_ms, {"text": "Needle"})]),
        message("cpu.usage", [(at_ms, {"text": "needle"})]),
    )

    assert [each.topic for each in live.events(Filter(), 0)] == ["shop.note", "shop.order", "shop.order"]
    assert [each.text for each in live.events(Filter(topic="shop.o"), 0)] == ['{"n": 2}', '{"n": 1}']
    assert [each.topic for each in live.events(Filter(text="nEEdle"), 0)] == ["shop.note"]
    assert live.events(Filter(system=True), 0)[0].topic == "cpu.usage"
    assert [each.topic for each in live.events(Filter(topic="cpu."), 0)] == ["cpu.usage"]
    assert live.events(Filter(), live.arrival) == []


def test_a_busy_topic_does_not_push_out_a_quiet_one(live: Live) -> None:
    at_ms = START_S * 1000 + 2_000
    observe(live, message("quiet.one", [(at_ms, {})]), *[message("busy.one", [(at_ms, {})] * 100)] * 100)

    assert len(live.events(Filter(topic="busy."), 0)) == MAX_EVENTS
    assert [each.topic for each in live.events(Filter(topic="quiet."), 0)] == ["quiet.one"]


def test_what_is_kept_is_bounded_in_messages_and_bytes(live: Live) -> None:
    at_ms = START_S * 1000 + 2_000
    large = message("large.one", [(at_ms, {"x": "y" * (MAX_BYTES // 2)})])

    observe(live, *[large] * 10, *[message("small.one", [(at_ms, {})])] * 100)

    with live._lock:
        kept = [each.topic for each in live._tail.since(0)]
    assert kept.count("large.one") == 1
    assert kept.count("small.one") == MAX_MESSAGES


def test_an_unreadable_event_is_shown_as_such(live: Live) -> None:
    observe(live, message("odd.one", [(START_S * 1000 + 2_000, b"\x09\0\0\0\xf0ab\0\0")]))

    assert live.events(Filter(), 0)[0].text == "(9 bytes that are no readable BSON)"
