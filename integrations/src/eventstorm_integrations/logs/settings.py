"""The settings of log sources: the table ``[logs]`` of ``eventstorm.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eventstorm.errors import SettingError
from eventstorm.settings import at_least, setting
from eventstorm.topics import RESERVED_PREFIX, is_valid_topic
from eventstorm_integrations.http.redact import Redaction, check_names
from eventstorm_integrations.logs.syslog_socket import check_address
from eventstorm_integrations.logs.times import zone_named

__all__ = ["LogsSettings"]


def _zone(value: Any, place: str) -> Any:
    zone_named(value, place)
    return value


def _syslog(value: Any, place: str) -> Any:
    for address in value:
        check_address(address, place)
    return value


def _topic(value: Any, place: str) -> Any:
    if not is_valid_topic(value) or value.startswith(RESERVED_PREFIX):
        raise SettingError(f"{place}: {value!r} is no topic; write segments of a-z, 0-9, _ and - joined by dots")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsSettings:
    """The settings of ``eventstorm logs``; parsers get them whole."""

    timezone: str = setting("", "the zone of times that do not name theirs; empty for this system's", _zone)
    max_line_bytes: int = setting(65_536, "a longer line is counted as unparsed, not read", at_least(256))
    sample_s: float = setting(10.0, "seconds between samples of unparsed lines, for each file and reason", at_least(0))
    state: str = setting("", "the folder where positions are kept between runs; empty for the usual one")
    syslog: tuple[str, ...] = setting((), "addresses to take syslog messages at, such as udp://127.0.0.1:5140", _syslog)
    journal: str = setting("", "follow systemd's journal: system for this system's, or the folder of another one")
    insecure: bool = setting(False, "allow addresses for syslog that other machines reach")
    format: str = setting("combined", "nginx: the log_format of access logs, its name or as nginx writes it")
    redact: tuple[str, ...] = setting(
        (), "more names of headers and query parameters whose values are secret; * stands for any text", check_names
    )
    reveal: tuple[str, ...] = setting(
        (), "names that are not secret though they are by default; * for all", check_names
    )
    config: str = setting("", "nginx: the nginx.conf whose formats and log files are meant")
    transaction_timeout_s: float = setting(
        86_400.0, "Postfix: a message of which no line came for so long is told as incomplete", at_least(60)
    )
    max_transactions: int = setting(100_000, "Postfix, sshd: the most messages or connections in memory", at_least(100))
    topic: str = setting("log.line", "regex, json, logfmt, csv: the topic of their events", _topic)
    pattern: str = setting("", "regex: a regular expression with named groups, for a whole line")
    columns: tuple[str, ...] = setting((), "csv: names of the columns; empty to take them from the first line")
    time_field: str = setting("", "regex, json, logfmt, csv: the field that holds the time; empty to look for one")
    time_format: str = setting("", "its form, as strptime has it; empty for ISO 8601 or seconds since 1970")

    @property
    def redaction(self) -> Redaction:
        """What knows the names that are secret."""
        return _redaction(self.redact, self.reveal)


@lru_cache
def _redaction(redact: tuple[str, ...], reveal: tuple[str, ...]) -> Redaction:
    return Redaction(redact, reveal)
