"""The times of lines: years that syslog omits, zones, hours that occur twice, fractions of seconds.

A `LineClock` belongs to one stream of lines: what is ambiguous in one line is told by the lines before it.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eventstorm.errors import SettingError
from eventstorm_integrations.logs.event import Unparsed

__all__ = ["MONTHS", "LineClock", "TimeFormat", "zone_named"]

_NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}

# A sender's clock may be ahead of ours by so much; a later date is one of last year.
_AHEAD_S = 86_400.0
# Lines of several processes are written a little out of order; an hour that occurs twice goes back by half an hour or
# more.
_BACK_S = 600.0

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,12}))?[ ]?(Z|z|[+-]\d\d:?\d\d|[+-]\d\d)?\Z", re.ASCII
)


def zone_named(name: str, place: str = "timezone") -> tzinfo:
    """Return a time zone by its IANA name, or this system's for an empty one.

    Raises:
        SettingError: there is no such zone.
    """
    name = name or os.environ.get("TZ", "").lstrip(":")
    if not name:
        try:
            with open("/etc/localtime", "rb") as file:
                return ZoneInfo.from_file(file)
        except (OSError, ValueError):
            return datetime.now().astimezone().tzinfo or timezone.utc
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingError(f"{place}: there is no time zone {name!r}; write one such as Europe/Berlin or UTC") from None


class LineClock:
    """Turns the times in one stream's lines into seconds since 1970.

    Args:
        zone: the zone of times that do not name theirs.
    """

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._last_s: float | None = None
        # Most lines are of the same second as the one before.
        self._text, self._whole_s = "", 0.0
        self._iso_text, self._iso_s = "", 0.0

    def syslog(self, month: str, day: str, time: str, fraction: str | None, year: str | None, now_s: float) -> float:
        """Return the time of a line that syslog stamped: ``Dec 31 23:59:59``, mostly without a year.

        The year is the latest one that does not put the line more than a day after `now_s`.

        Raises:
            Unparsed: there is no such day or time.
        """
        text = f"{month}{day}{time}{year}"
        if text != self._text:
            try:
                hour, minute, second = map(int, time.split(":"))
                years = [int(year)] if year else self._years(now_s)
                self._whole_s = self._latest(years, MONTHS[month], int(day), hour, minute, second, now_s)
            except (ValueError, KeyError, OverflowError):
                raise Unparsed("time") from None
            self._text = text
        return self._whole_s + float("0." + fraction) if fraction else self._whole_s

    def iso(self, text: str, now_s: float) -> float:
        """Return the time of an ISO 8601 / RFC 3339 text, with or without fraction and zone.

        Raises:
            Unparsed: it is none.
        """
        found = _ISO.match(text)
        if found is None:
            raise Unparsed("time")
        year, month, day, hour, minute, second, fraction, zone = found.groups()
        key = f"{text[:19]}{zone}"
        if key != self._iso_text:
            try:
                # A leap second is the last one again, as time.time() has it.
                naive = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59))
                self._iso_s = (
                    (naive - _offset(zone)).replace(tzinfo=timezone.utc).timestamp() if zone else self.at(naive, now_s)
                )
            except (ValueError, OverflowError):
                raise Unparsed("time") from None
            self._iso_text = key
        return self._iso_s + float("0." + fraction) if fraction else self._iso_s

    def at(self, naive: datetime, now_s: float) -> float:
        """Return a local time of the stream's zone. Of an hour that occurs twice, it is the one after the last line,
        and for the first line the one that is nearer to `now_s`.
        """
        first = naive.replace(tzinfo=self._zone, fold=0).timestamp()
        second = naive.replace(tzinfo=self._zone, fold=1).timestamp()
        value = first
        if second > first:  # the hour occurs twice; where it is left out, the offset of before counts
            if self._last_s is None:
                value = min(first, second, key=lambda each: abs(now_s - each))
            elif first < self._last_s - _BACK_S:
                value = second
        self._last_s = value
        return value

    def without_year(self, naive: datetime, now_s: float) -> float:
        """Return a local time of which the year means nothing: it is the latest one that `syslog` would take.

        Raises:
            ValueError: there is no such day.
        """
        at = naive.month, naive.day, naive.hour, naive.minute, naive.second
        return self._latest(self._years(now_s), *at, now_s) + naive.microsecond / 1e6

    def _years(self, now_s: float) -> list[int]:
        year = datetime.fromtimestamp(now_s, self._zone).year
        return [year + 1, year, year - 1, *(year - back for back in range(2, 9))]  # 29 February may be 8 years ago

    def _latest(
        self, years: list[int], month: int, day: int, hour: int, minute: int, second: int, now_s: float
    ) -> float:
        last_s = self._last_s
        for year in years:
            try:
                naive = datetime(year, month, day, hour, minute, min(second, 59))
            except ValueError:
                continue  # 29 February
            value = self.at(naive, now_s)
            if len(years) == 1 or value <= now_s + _AHEAD_S:
                return value
            self._last_s = last_s  # that year was only tried
        raise ValueError


class TimeFormat:
    """A form that times have, as `datetime.strptime` takes it.

    Raises:
        SettingError: it is none, or names no day.
    """

    def __init__(self, form: str, place: str) -> None:
        # These two years have the same calendar, and these two days are Thursdays: else a weekday's name would count.
        days = (2026, 3, 5), (2015, 3, 5), (2026, 4, 9)
        thursday, other_year, other_day = (datetime(*each, tzinfo=timezone.utc) for each in days)
        try:
            self._has_year = thursday.strftime(form) != other_year.strftime(form)
            self._form = form if self._has_year else f"%Y {form}"
            datetime.strptime(thursday.strftime(self._form), self._form)
        except (ValueError, re.error) as error:
            raise SettingError(f"{place}: {form!r} is no form of times: {error}; write one as %Y-%m-%d %H:%M") from None
        if thursday.strftime(form) == other_day.strftime(form):
            raise SettingError(f"{place}: {form!r} names no day; write one that does, as %Y-%m-%d %H:%M")

    def read(self, text: str, clock: LineClock, now_s: float) -> float:
        """Return the time of a text in seconds since 1970; where it leaves out the zone, it is that of `clock`.

        Raises:
            ValueError: it is not of this form.
            OverflowError: it is too far away.
        """
        at = datetime.strptime(text if self._has_year else f"2000 {text}", self._form)  # 2000 has all days
        if at.tzinfo is not None:
            if self._has_year:
                return at.timestamp()
            clock = LineClock(at.tzinfo)
        naive = at.replace(tzinfo=None)
        return clock.at(naive, now_s) if self._has_year else clock.without_year(naive, now_s)


def _offset(zone: str) -> timedelta:
    if zone in "Zz":
        return timedelta(0)
    minutes = int(zone[1:3]) * 60 + int(zone[-2:] if len(zone) > 3 else 0)
    return timedelta(minutes=-minutes if zone[0] == "-" else minutes)
