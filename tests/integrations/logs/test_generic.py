"""Logs of any other program."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import bson
import pytest

from eventstorm.errors import SettingError
from eventstorm_integrations.logs.event import Event, Unparsed
from eventstorm_integrations.logs.generic import CsvParser, JsonParser, LogfmtParser, RegexParser
from eventstorm_integrations.logs.settings import LogsSettings

NOW_S = 1_790_000_000.0
PATTERN = r"(?P<time>\S+) (?P<user__name>\w+) took (?P<duration>[\d.]+) s(?: for (?P<what>.*))?"


def settings(**given: Any) -> LogsSettings:
    return LogsSettings(timezone="UTC", **given)


def one(parser: Any, line: str) -> Event:
    (event,) = parser.feed(line, NOW_S)
    return event  # type: ignore[no-any-return]


def test_named_groups_are_fields_and_two_underscores_are_a_dot() -> None:
    event = one(RegexParser(settings(pattern=PATTERN, topic="job.done")), "2026-06-01T12:00:00Z ada took 1.5 s")

    assert event == Event("job.done", {"user": {"name": "ada"}, "duration": 1.5}, 1_780_315_200.0)


def test_json_lines_keep_their_types_and_dotted_names_are_nested() -> None:
    event = one(
        JsonParser(settings()), '{"ts": 1780315200123, "a.b": 1, "a": {"c": [null, "x"]}, "big": 99999999999999999999}'
    )

    assert event.data == {"a": {"b": 1, "c": [None, "x"]}, "big": 1e20}
    assert event.ts_s == pytest.approx(1_780_315_200.123)


def test_logfmt_has_quotes_numbers_and_names_alone() -> None:
    event = one(LogfmtParser(settings()), r'time=2026-06-01T12:00:00Z msg="a \"b\" c" n=7 zip=007 f=0.5 done empty=')

    assert event.data == {"msg": 'a "b" c', "n": 7, "zip": "007", "f": 0.5, "done": True, "empty": ""}
    assert event.ts_s == 1_780_315_200.0


def test_csv_takes_the_names_of_columns_from_its_first_line_and_remembers_them() -> None:
    first = CsvParser(settings())
    assert list(first.feed("date,name,total", NOW_S)) == []
    later = CsvParser(settings())
    later.restore(first.save())

    assert one(later, '2026-06-01 12:00:00,"Ada, B.",42').data == {"name": "Ada, B.", "total": 42}
    assert one(CsvParser(settings(columns=("a", "b"))), "1,").data == {"a": 1}
    with pytest.raises(Unparsed, match="number of columns"):
        later.feed("1,2", NOW_S)


def test_the_time_may_be_in_any_field_and_form() -> None:
    given = settings(time_field="when", time_format="%d.%m.%Y %H:%M")

    assert one(JsonParser(given), '{"when": "01.06.2026 12:00", "time": "kept"}') == Event(
        "log.line", {"time": "kept"}, 1_780_315_200.0
    )
    with pytest.raises(Unparsed, match="time"):
        JsonParser(given).feed('{"when": "soon"}', NOW_S)
    assert one(JsonParser(settings()), '{"time": "soon"}') == Event("log.line", {"time": "soon"}, NOW_S)


@pytest.mark.parametrize("value", ["null", "true", "[1]", '{"a": 1}', "1e999", "-1e999", "NaN", '"' + "9" * 400 + '"'])
def test_what_is_no_time_stays_a_field(value: str) -> None:
    event = one(JsonParser(settings()), f'{{"time": {value}, "ts": 1780315200}}')

    assert event.ts_s == 1_780_315_200.0
    assert list(event.data) == ["time"]
    with pytest.raises(Unparsed, match="time"):
        JsonParser(settings(time_field="time")).feed(f'{{"time": {value}}}', NOW_S)


def test_whole_numbers_of_64_bits_come_back_equal() -> None:
    numbers = [2**63 - 1, -(2**63), 1_234_567_890_123_456_789]

    assert one(JsonParser(settings()), f'{{"n": {numbers}}}').data == {"n": numbers}


def test_the_year_that_a_form_of_times_leaves_out_is_the_latest_that_is_not_ahead() -> None:
    """As with syslog's times, of whatever day: NOW_S is the 21st of September 2026."""

    def at(form: str, text: str) -> float:
        return one(JsonParser(settings(time_format=form)), f'{{"time": "{text}"}}').ts_s

    assert at("%b %d %H:%M:%S", "Jun  1 12:00:00") == 1_780_315_200.0
    assert at("%a %b %d %H:%M:%S.%f", "Mon Jun  1 12:00:00.250") == 1_780_315_200.25
    assert at("%d.%m. %H:%M", "31.12. 23:59") == 1_767_225_540.0
    assert at("%d.%m. %H:%M", "29.02. 12:00") == 1_709_208_000.0
    assert at("%d.%m. %H:%M %z", "01.06. 14:00 +0200") == 1_780_315_200.0


@pytest.mark.parametrize("form", ["%H:%M", "%Q", "%T %d.%m.%Y", "%Y %Y %m %d", "%"])
def test_a_form_of_times_of_no_use_is_told(form: str) -> None:
    with pytest.raises(SettingError, match=r"logs\.time_format: "):
        JsonParser(settings(time_format=form))


@pytest.mark.parametrize("pattern", ["", "(", "no groups", "(.*)"])
def test_a_pattern_of_no_use_is_told(pattern: str) -> None:
    with pytest.raises(SettingError, match=r"logs\.pattern"):
        RegexParser(settings(pattern=pattern))


@pytest.mark.parametrize("make", [CsvParser, JsonParser, LogfmtParser, RegexParser])
def test_any_garbage_gives_events_that_can_be_sent_or_a_reason(make: Any) -> None:
    chance = random.Random(0)
    parser = make(settings(pattern=PATTERN, columns=("a", "a.b", "a.b.c")))
    pieces = [
        "{",
        "}",
        '"',
        "a",
        "=",
        ":",
        ",",
        " ",
        "\\",
        "1",
        "[",
        "]",
        '"a":',
        "\\ud800",
        ".",
        "\0",
        "9" * 30,
        "é",
        "\t",
        "-",
    ]
    for _ in range(20_000):
        line = "".join(chance.choices(pieces, k=chance.randint(1, 12)))
        with contextlib.suppress(Unparsed):
            for event in parser.feed(line if chance.random() < 0.5 else f'{{"a": "{line}"}}', NOW_S):
                bson.encode(event.data)
    for piece in pieces:  # and none takes long
        with contextlib.suppress(Unparsed):
            list(parser.feed(piece * (65_536 // len(piece)), NOW_S))
