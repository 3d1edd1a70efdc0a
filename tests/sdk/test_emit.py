"""What emit() accepts arrives as it was; what it cannot take it refuses, counts, and never raises for."""

from __future__ import annotations

import datetime
import enum
import logging
import re
import uuid
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions

from eventstorm import Source
from sdk.peer import Peer, wait_until

EVERY_TYPE: dict[str, Any] = {
    "double": 1.5,
    "string": "ä€😀",
    "document": {"a": {"b": {}}},
    "array": [1, [2, []], {}],
    "binary": b"\0\xff",
    "binary_of_a_subtype": bson.Binary(b"x", 128),
    "uuid": bson.Binary.from_uuid(uuid.UUID(int=7)),
    "object_id": bson.ObjectId(),
    "true": True,
    "datetime": datetime.datetime(2020, 1, 2, 3, 4, 5, 678000),
    "null": None,
    "regex": bson.Regex("a.*", re.IGNORECASE),
    "code": bson.Code("f()"),
    "code_with_scope": bson.Code("f()", {"x": 1}),
    "int32": 2**31 - 1,
    "timestamp": bson.Timestamp(1, 2),
    "int64": bson.Int64(-(2**63)),
    "decimal": bson.Decimal128("1.10"),
    "min_key": bson.MinKey(),
    "max_key": bson.MaxKey(),
    "dbref": bson.DBRef("c", 1),
    "_id": "stays where it is",
}


class Raising:
    """Raises whatever one does with it."""

    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__

    def __hash__(self) -> int:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise ZeroDivisionError


class RaisingMapping(UserDict[str, Any]):
    """A mapping that cannot be read, and whose error cannot be told."""

    def __iter__(self) -> Iterator[str]:
        class Silent(Exception):
            def __str__(self) -> str:
                raise ZeroDivisionError

        raise Silent


class RaisingText(str):
    """A text that cannot be looked up."""

    def __hash__(self) -> int:
        raise ZeroDivisionError


def _deep(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels):
        document = {"a": document}
    return document


def _endless() -> dict[str, Any]:
    document: dict[str, Any] = {}
    document["self"] = document
    return document


def test_every_bson_type_arrives_equal_and_in_order(source: Source, peer: Peer) -> None:
    assert source.emit("a.b", EVERY_TYPE)
    peer.wait_for(1)
    data = next(event.data for message in peer.messages for event in message.events())
    arrived = bson.decode(data, CodecOptions(uuid_representation=bson.binary.UuidRepresentation.UNSPECIFIED))
    assert arrived == EVERY_TYPE
    assert list(arrived) == list(EVERY_TYPE)


@pytest.mark.parametrize("arguments", [({"a": 1},), (UserDict(a=1),), ()])
def test_an_event_is_a_mapping_and_fields_together(source: Source, peer: Peer, arguments: tuple[Any, ...]) -> None:
    assert source.emit("a.b", *arguments, topic=1, event=2, self=3)
    assert peer.wait_for(1) == [{**(arguments[0] if arguments else {}), "topic": 1, "event": 2, "self": 3}]


def test_emit_takes_a_snapshot(source: Source, peer: Peer) -> None:
    event = {"items": [1]}
    source.emit("a.b", event)
    event["items"].append(2)
    assert peer.wait_for(1) == [{"items": [1]}]


# Each is made in the test, since pytest cannot hold some of them.
UNENCODABLE: dict[str, Callable[[], Any]] = {
    "an object": object,
    "an object that raises": Raising,
    "a list of it": lambda: [Raising()],
    "too large an integer": lambda: 2**63,
    "too small an integer": lambda: -(2**63) - 1,
    "a lone surrogate": lambda: "\ud800",
    "NUL in a key": lambda: {"a\0b": 1},
    "a number as key": lambda: {1: 1},
    "bytes as key": lambda: {b"a": 1},
    "a mapping that raises": RaisingMapping,
    "a set": lambda: {1, 2},
    "too deep": lambda: _deep(100_000),
    "self-referencing": _endless,
}


@pytest.mark.parametrize("what", UNENCODABLE)
def test_what_cannot_be_encoded_is_refused_and_counted(source: Source, what: str) -> None:
    assert source.emit("a.b", value=UNENCODABLE[what]()) is False
    assert source.stats()["dropped"] == {"unencodable": 1}


@pytest.mark.parametrize("make", [lambda: 1, lambda: "text", lambda: [("a", 1)], object, Raising, RaisingMapping, int])
def test_an_event_that_is_no_mapping_is_refused_and_counted(source: Source, make: Callable[[], Any]) -> None:
    assert source.emit("a.b", make()) is False
    assert source.emit("a.b", make(), more=1) is False
    assert source.stats()["dropped"] == {"unencodable": 2}


@pytest.mark.parametrize(
    "topic",
    [None, [], {}, b"a.b", 1, "", "A.b", "a..b", ".a", "a.", "a b", "a\n", "ä", "\ud800", "a" * 201, "eventstorm.x"],
)
def test_a_bad_topic_is_refused_and_counted(source: Source, topic: Any) -> None:
    assert source.emit(topic, a=1) is False
    assert source.wanted(topic) is False
    assert source.stats()["dropped"] == {"bad_topic": 1}


def test_a_topic_that_cannot_be_looked_up_is_refused_and_counted(source: Source) -> None:
    hostile: Any = Raising()
    assert source.emit(hostile) is False
    assert source.stats()["dropped"] == {"bad_topic": 1}
    assert source.emit(RaisingText("a.b")) is False
    assert sum(source.stats()["dropped"].values()) == 2


def test_a_topic_may_be_of_an_enumeration(source: Source, peer: Peer) -> None:
    class Topics(str, enum.Enum):
        ORDER = "shop.order"

    assert source.emit(Topics.ORDER, a=1)
    assert source.emit(Topics.ORDER, a=2)
    assert peer.wait_for(2, "shop.order") == [{"a": 1}, {"a": 2}]
    assert len(peer.numbered()) == 1


def test_an_event_over_the_limit_is_refused_and_one_at_it_arrives(peer: Peer, source_to: Callable[..., Source]) -> None:
    source = source_to(peer.endpoint, max_event_bytes=1000)
    around = len(bson.encode({"a": b""}))
    assert source.emit("a.b", a=b"x" * (1000 - around))
    assert source.emit("a.b", a=b"x" * (1001 - around)) is False
    peer.wait_for(1)
    assert source.stats()["dropped"] == {"too_large": 1}


def test_topics_over_the_limit_are_refused_and_the_known_ones_still_work(
    peer: Peer, source_to: Callable[..., Source]
) -> None:
    source = source_to(peer.endpoint, max_topics=2)
    assert [source.emit(topic) for topic in ("a", "b", "c", "a")] == [True, True, False, True]
    assert source.stats()["dropped"] == {"too_many_topics": 1}


def test_a_closed_source_refuses_and_counts(source: Source, peer: Peer) -> None:
    source.emit("a.b")
    source.close()
    assert source.emit("a.b") is False
    assert source.emit("a.c") is False
    assert source.wanted("a.b") is False
    assert source.stats()["dropped"] == {"closed": 2}
    peer.wait_for(1)


def test_refusals_are_logged_once_for_each_reason_and_not_by_the_caller(
    peer: Peer, source_to: Callable[..., Source], caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    source = source_to(peer.endpoint)
    with caplog.at_level(logging.WARNING, "eventstorm"):
        for _ in range(1000):
            source.emit("\ud800\n")
            source.emit("a.b", value="\ud800")
        source.close()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(" dropped: " in line and line.isascii() and "\n" not in line for line in lines)
    assert threading.get_ident() not in {record.thread for record in caplog.records}


def test_an_unheard_event_is_not_even_encoded(peer: Peer, source_to: Callable[..., Source]) -> None:
    peer.unsubscribe(b"")
    peer.subscribe(b"b\0")
    source = source_to(peer.endpoint)
    source.wanted("a")
    wait_until(lambda: source.wanted("b") and not source.wanted("a"), "the interest")
    assert source.emit("a", value=object()) is False
    assert source.emit("bb", value=object()) is False
    assert source.emit("b", value=1)
    assert (source.stats()["unheard"], source.stats()["dropped"]) == (2, {})


def test_what_waits_in_the_buffer_and_is_not_wanted_is_counted_as_unheard(source_to: Callable[..., Source]) -> None:
    with Peer(b"b\0") as peer:
        source = source_to(peer.endpoint)
        assert source.emit("a")
        assert source.emit("b")
        peer.wait_for(1)
        wait_until(lambda: source.stats()["unheard"] == 1, "the count")
        assert source.stats()["emitted"] == source.stats()["sent"] == 1


def test_a_disabled_source_accepts_nothing_for_long(peer: Peer, source_to: Callable[..., Source]) -> None:
    source = source_to(peer.endpoint, enabled=False)
    source.emit("a")
    wait_until(lambda: not source.wanted("a"), "the interest")
    assert source.emit("a") is False
    assert source.flush()
    assert not peer.messages
