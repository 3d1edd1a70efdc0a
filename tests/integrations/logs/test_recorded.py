"""Lines of real servers, recorded here, and lines written by hand in the wordings of other versions: what each becomes.

A case of ``recorded/PROGRAM.jsonl`` says of which version its lines are and whether they were recorded, and of each
event, in order, what must be at its dotted paths, where null stands for nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstorm_integrations.logs.event import Event, Parser, Remembering
from eventstorm_integrations.logs.nginx import NginxParser
from eventstorm_integrations.logs.postfix import PostfixParser
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.sshd import SshdParser

from .corpora import value_at

PARSERS: dict[str, Any] = {"nginx": NginxParser, "postfix": PostfixParser, "sshd": SshdParser}
NOW_S = 1_796_000_000.0


def cases() -> Iterator[Any]:
    for path in sorted(Path(__file__).with_name("recorded").glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield pytest.param(path.stem, json.loads(line), id=f"{path.stem}-{number}")


@pytest.mark.parametrize(("program", "case"), list(cases()))
def test_lines_become_the_events_that_are_noted_with_them(program: str, case: dict[str, Any]) -> None:
    parser: Parser = PARSERS[program](LogsSettings(timezone="UTC", format=case.get("format", "combined")))
    events = [event for line in case["lines"] for event in parser.feed(line, NOW_S)]
    if isinstance(parser, Remembering):
        # What has no end in these lines has none in events either, but for what the lines break off.
        events += [event for event in parser.expire(math.inf) if event.topic != "ssh.session"]

    assert [event.topic for event in events] == [each["topic"] for each in case["events"]], case["of"]
    for event, expected in zip(events, case["events"], strict=True):
        assert {name: _at(event, name) for name in expected} == expected, case["of"]
    if absent := case.get("absent"):
        assert absent not in json.dumps([event.data for event in events])


def _at(event: Event, name: str) -> Any:
    if name in ("topic", "ts"):
        return event.topic if name == "topic" else event.ts_s
    return value_at(event.data, name)
