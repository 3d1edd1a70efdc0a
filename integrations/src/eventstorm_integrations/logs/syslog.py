"""What stands before a message in a syslog file, on a syslog socket, and in the journal.

RFC 3164 (``<38>Nov  7 10:00:00 host sshd[7]: message``, in files without the number), the same with an ISO 8601 time as
rsyslog writes it, RFC 5424, and the JSON of ``journalctl -o json``.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from eventstorm_integrations.logs.event import Unparsed
from eventstorm_integrations.logs.times import LineClock

__all__ = ["Record", "split_prefix"]

# The host may be missing, as with nginx's `nohostname`; it does not end with a colon, as the program then does.
_TAG = r"(?:(\S*[^\s:]) )?([^\s\[:]+|\S+?)(?:\[(\d+)\])?: ?(.*)\Z"
_BSD = re.compile(
    r"(?:<\d{1,3}>)?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (?:(\d{4}) )?(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))? " + _TAG,
    re.ASCII | re.DOTALL,
)
_ISO = re.compile(r"(?:<\d{1,3}>)?(\d{4}-\d\d-\d\dT[0-9:.,+-]{8,30}Z?) " + _TAG, re.ASCII | re.DOTALL)
_RFC5424 = re.compile(r"(?:<\d{1,3}>)?1 (\S{1,40}) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) ", re.ASCII)


class Record(NamedTuple):
    """A message of a program."""

    ts_s: float
    host: str
    program: str
    pid: str
    message: str


def split_prefix(line: str, clock: LineClock, now_s: float) -> Record:
    """Return what a line of syslog or of the journal says.

    Raises:
        Unparsed: it is neither (reason ``syslog prefix``), or its time is none (``time``).
    """
    if found := _BSD.match(line):
        month, day, year, time, fraction, host, program, pid, message = found.groups()
        return Record(clock.syslog(month, day, time, fraction, year, now_s), host or "", program, pid or "", message)
    if found := _ISO.match(line):
        time, host, program, pid, message = found.groups()
        return Record(clock.iso(time, now_s), host or "", program, pid or "", message)
    if found := _RFC5424.match(line):
        time, host, program, pid, _ = (text if text != "-" else "" for text in found.groups())
        ts_s = clock.iso(time, now_s) if time else now_s
        return Record(ts_s, host, program, pid, _after_structured_data(line, found.end()))
    if line.startswith("{"):
        return _from_journal(line)
    raise Unparsed("syslog prefix")


def _after_structured_data(line: str, at: int) -> str:
    """Return the message behind ``-`` or ``[id name="value"]…``, in which a backslash quotes."""
    if line.startswith("-", at):
        at += 1
    while line.startswith("[", at):
        quoted = escaped = False
        for at in range(at + 1, len(line)):  # noqa: B020  # it goes on where the element before ended
            character = line[at]
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = not quoted
            elif character == "]" and not quoted:
                break
        else:
            raise Unparsed("structured data")
        at += 1
    if at < len(line) and line[at] != " ":
        raise Unparsed("structured data")
    return line[at + 1 :].removeprefix("\ufeff")


def _from_journal(line: str) -> Record:
    try:
        entry = json.loads(line)
        ts_us = int(entry.get("_SOURCE_REALTIME_TIMESTAMP") or entry["__REALTIME_TIMESTAMP"])
        if not 0 <= ts_us < 2**64:  # as journald has it
            raise ValueError
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unparsed("syslog prefix") from None
    program = _text(entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM"))
    pid = _text(entry.get("SYSLOG_PID") or entry.get("_PID"))
    return Record(ts_us / 1e6, _text(entry.get("_HOSTNAME")), program, pid, _text(entry.get("MESSAGE")))


def _text(value: Any) -> str:
    """Return a field of the journal, which has what is not UTF-8 as a list of bytes, and several values as a list."""
    if isinstance(value, list) and value:
        try:
            return bytes(value).decode("utf-8", "backslashreplace")
        except (TypeError, ValueError):
            value = value[0]
    return value if isinstance(value, str) else ""
