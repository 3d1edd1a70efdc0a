"""A parser that fails does not end what follows a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from eventstorm_integrations.logs import Event
from eventstorm_integrations.logs.outlet import Printer
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.stream import Stream


class Failing:
    """A parser that fails wherever it can, but for one line."""

    def feed(self, line: str, now_s: float, /) -> Iterable[Event]:
        yield Event("a.b", {"line": line}, now_s)
        if line != "good":
            raise RuntimeError("no idea")

    def expire(self, now_s: float, /) -> Iterable[Event]:
        raise RuntimeError("no time")

    def save(self) -> dict[str, Any]:
        raise RuntimeError("no memory")

    def restore(self, state: Mapping[str, Any], /) -> None:
        raise RuntimeError("no past")


def test_a_parser_that_fails_is_told_of_once_and_the_lines_after_it_are_read(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Stream("x.log", Failing(), Printer(), LogsSettings())
    stream.restore({"x": 1})
    stream.feed(["bad", "worse", "good"], 7.0)
    for _ in range(3):
        stream.expire(8.0)
        assert stream.save() == {}

    assert stream.bad() == {"fault": 2}
    assert capsys.readouterr().out.count("a.b") == 3
    assert [record.getMessage() for record in caplog.records] == [
        "x.log: what the parser remembered cannot be used",
        "x.log: the parser failed at the line 'bad'",
        "x.log: the parser failed to tell what is overdue",
        "x.log: the parser failed to say what it remembers",
    ]
