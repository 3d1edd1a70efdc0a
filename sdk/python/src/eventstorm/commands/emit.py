"""``eventstorm emit``: one event from the shell, or many from standard input."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from eventstorm.errors import EventstormError, SettingError
from eventstorm.topics import RESERVED_PREFIX, is_valid_topic

__all__ = ["HELP", "add_arguments", "run"]

HELP = "emit one event, or many from standard input"

# How much longer an event may be in the buffer than its line: 0, in a list, is 2 bytes of JSON and up to 13 of BSON.
_BSON_PER_JSON, _EVENT_BYTES = 7, 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        'Emit one event. A value that is JSON is taken as that (42.5, true, null, [1, 2], {"a": 1}), anything else as\n'
        "text; a dotted key makes nested fields; key:=text forces text."
    )
    parser.epilog = (
        "examples:\n"
        "  eventstorm emit shop.order total=42.5 user.name=Ada paid=true\n"
        "  eventstorm emit shop.order -  < orders.jsonl    one event a line, in (Extended) JSON\n\n"
        "Exit code 1: nothing was delivered, since no router answered, or an event was refused."
    )
    parser.add_argument("topic", metavar="TOPIC", help="such as shop.order")
    parser.add_argument("fields", metavar="KEY=VALUE", nargs="*", help="the fields, or - to read JSON lines")
    parser.add_argument("--endpoint", help="the router's ingress (default: tcp://127.0.0.1:5550)")
    parser.add_argument("--service", help="the name under which the event appears (default: eventstorm-emit)")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="wait so long for a router")
    parser.add_argument("--config", type=Path, metavar="FILE", help="eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Emit and wait for delivery."""
    import eventstorm
    from eventstorm.settings import SdkSettings, load

    if not is_valid_topic(arguments.topic):
        raise SettingError(
            f"{arguments.topic!r} is no topic; write segments of a-z, 0-9, _ and - joined by dots: shop.order"
        )
    if arguments.topic.startswith(RESERVED_PREFIX):
        raise SettingError(f"{arguments.topic!r}: {RESERVED_PREFIX} is reserved for Eventstorm's own events")
    keywords = {"endpoint": arguments.endpoint, "service": arguments.service or "eventstorm-emit"}
    source = eventstorm.Source(load(SdkSettings, "sdk", keywords, arguments.config))
    try:
        if arguments.fields == ["-"]:
            _emit_lines(source, arguments.topic, sys.stdin.buffer, arguments.timeout)
        else:
            source.emit(arguments.topic, _event(arguments.fields))
    finally:
        source.close(arguments.timeout)
    return _tell(source.stats(), arguments.topic, source)


def _tell(stats: dict[str, Any], topic: str, source: Any) -> int:
    figures = stats["topics"].get(topic, {})
    endpoint = source.settings.endpoint
    problems = [f"{count} refused as {reason}: {source.example(reason)}" for reason, count in stats["dropped"].items()]
    if figures.get("unheard"):
        problems.append(f"{figures['unheard']} not sent, since nobody listens to {topic!r} at the router {endpoint}")
    if stats["dropped"].get("unsent"):
        raise EventstormError(
            f"no router answered at {endpoint}; {stats['dropped']['unsent']} not sent. Start one with: eventstorm up"
        )
    if problems:
        raise EventstormError("; ".join(problems))
    return 0


def _event(pairs: list[str]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.rstrip(":"):
            raise SettingError(f"{pair!r} is no field; write key=value")
        value: Any = text
        if key.endswith(":"):
            key = key[:-1]
        else:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = text
        place = event
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise SettingError(f"{pair!r}: {parent!r} is a value already, so nothing can be inside of it")
        if last in place:
            raise SettingError(f"{pair!r}: {key!r} is given twice")
        place[last] = value
    return event


def _emit_lines(source: Any, topic: str, stream: Iterable[bytes], timeout_s: float) -> None:
    """Emit an event a line, and wait now and then until they are sent: here is nobody whom that would disturb."""
    unsent_bytes = 0
    for line, event in _lines(stream):
        source.emit(topic, event)
        unsent_bytes += _BSON_PER_JSON * len(line) + _EVENT_BYTES
        if unsent_bytes > source.settings.buffer_bytes // 2:
            if not source.flush(timeout_s):
                return  # what is in the buffer is told as not sent
            unsent_bytes = 0


def _lines(stream: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    from bson import json_util

    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            event = json_util.loads(line)
        except Exception as error:
            raise EventstormError(f"standard input, line {number}: not JSON: {error}") from None
        if not isinstance(event, dict):
            raise EventstormError(f"standard input, line {number}: {type(event).__name__}, not an object")
        yield line, event
