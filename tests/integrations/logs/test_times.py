"""The times of lines."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from eventstorm.errors import SettingError
from eventstorm_integrations.logs.event import Unparsed
from eventstorm_integrations.logs.nginx import NginxParser
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.syslog import split_prefix
from eventstorm_integrations.logs.times import LineClock, zone_named


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[misc]


def time_of(prefix: str, now_s: float, zone: str = "UTC") -> float:
    return split_prefix(f"{prefix} host sshd[7]: text", LineClock(zone_named(zone)), now_s).ts_s


@pytest.mark.parametrize(
    ("prefix", "now", "told"),
    [
        ("Jun  1 12:00:00", utc(2026, 6, 1, 12, 0, 1), utc(2026, 6, 1, 12)),
        ("Dec 31 23:59:59", utc(2027, 1, 1, 0, 0, 1), utc(2026, 12, 31, 23, 59, 59)),
        ("Dec 31 23:59:59", utc(2026, 12, 31, 23, 59, 59), utc(2026, 12, 31, 23, 59, 59)),
        # Another machine's clock is ahead, also of the year.
        ("Jan  1 00:00:10", utc(2026, 12, 31, 23, 59, 50), utc(2027, 1, 1, 0, 0, 10)),
        ("Jan  1 00:00:10", utc(2027, 6, 1), utc(2027, 1, 1, 0, 0, 10)),
        ("Aug  1 00:00:00", utc(2027, 6, 1), utc(2026, 8, 1)),
        # 29 February is in the last leap year.
        ("Feb 29 12:00:00", utc(2026, 11, 24), utc(2024, 2, 29, 12)),
        ("Feb 29 12:00:00", utc(2103, 11, 24), utc(2096, 2, 29, 12)),
        ("Jun 30 23:59:60", utc(2026, 7, 1), utc(2026, 6, 30, 23, 59, 59)),
        ("Jun  1 12:00:00.250", utc(2026, 6, 2), utc(2026, 6, 1, 12) + 0.25),
        ("Jun  1 2025 12:00:00", utc(2026, 6, 2), utc(2025, 6, 1, 12)),
    ],
)
def test_the_year_that_syslog_leaves_out_is_the_latest_that_can_be(prefix: str, now: float, told: float) -> None:
    assert time_of(prefix, now) == told


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("2026-06-01T12:00:00Z", utc(2026, 6, 1, 12)),
        ("2026-06-01T12:00:00.123456+02:00", utc(2026, 6, 1, 10) + 0.123456),
        ("2026-06-01T12:00:00-0530", utc(2026, 6, 1, 17, 30)),
        ("2026-06-01T12:00:00", utc(2026, 6, 1, 10)),
        ("2026-01-01T12:00:00", utc(2026, 1, 1, 11)),
    ],
)
def test_zones_are_those_that_lines_name_or_else_the_one_that_was_set(prefix: str, told: float) -> None:
    assert time_of(prefix, utc(2026, 7, 1), "Europe/Berlin") == pytest.approx(told)


def test_the_hour_that_occurs_twice_goes_on_after_itself() -> None:
    clock = LineClock(zone_named("Europe/Berlin"))
    now_s = utc(2026, 10, 26)
    begin = utc(2026, 10, 24, 23, 30)
    moments = [begin + 300 * step for step in range(40)]
    berlin = zone_named("Europe/Berlin")
    lines = [datetime.fromtimestamp(each, berlin).strftime("%b %d %H:%M:%S h p[1]: x") for each in moments]

    assert [split_prefix(line, clock, now_s).ts_s for line in lines] == moments


def test_lines_a_little_out_of_order_in_the_hour_that_occurs_twice_stay_in_their_hour() -> None:
    clock = LineClock(zone_named("Europe/Berlin"))
    now_s = utc(2026, 10, 25, 0, 10)
    first = split_prefix("Oct 25 02:05:10 h p[1]: x", clock, now_s).ts_s
    second = split_prefix("Oct 25 02:05:08 h p[1]: x", clock, now_s).ts_s

    assert (first, second) == (utc(2026, 10, 25, 0, 5, 10), utc(2026, 10, 25, 0, 5, 8))


def test_an_hour_that_is_left_out_does_no_harm() -> None:
    told = time_of("Mar 29 02:30:00", utc(2026, 3, 30), "Europe/Berlin")

    assert abs(told - utc(2026, 3, 29, 1, 30)) <= timedelta(hours=1).total_seconds()


@pytest.mark.parametrize(
    "prefix", ["Feb 30 12:00:00", "Foo  1 12:00:00", "Jun  1 25:00:00", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z"]
)
def test_a_time_that_is_none_is_a_bad_line(prefix: str) -> None:
    with pytest.raises(Unparsed):
        time_of(prefix, utc(2026, 6, 1))


def test_a_zone_that_is_none_is_told() -> None:
    with pytest.raises(SettingError, match="there is no time zone 'Europe/Cuxhaven'"):
        zone_named("Europe/Cuxhaven")


@pytest.mark.parametrize("value", ["1e999", '"1e999"', "99999999999999999999999", "-1", "9" * 400, "null", "[]"])
def test_a_time_that_is_none_in_an_entry_of_the_journal_is_a_reason(value: str) -> None:
    with pytest.raises(Unparsed, match="syslog prefix"):
        split_prefix(f'{{"__REALTIME_TIMESTAMP": {value}, "MESSAGE": "x"}}', LineClock(timezone.utc), 0.0)


@pytest.mark.parametrize("value", ["1e999", "nan", "99999999999999999999.5", "x"])
def test_a_time_that_is_none_in_an_access_log_is_a_reason(value: str) -> None:
    parser = NginxParser(LogsSettings(format="$msec $status"))
    with pytest.raises(Unparsed, match="time"):
        list(parser.feed(f"{value} 200", 0.0))
