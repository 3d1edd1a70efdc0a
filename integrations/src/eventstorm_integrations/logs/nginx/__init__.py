"""nginx: access logs become ``http.hit``, error logs ``log.record``.

`format` makes a pattern of a ``log_format``, `access` reads lines with it, `error` reads the error log's, `config`
finds formats and files in an nginx.conf, `variables` knows where each variable goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from eventstorm.errors import SettingError
from eventstorm.settings import nearest
from eventstorm_integrations.logs.event import Event, Unparsed
from eventstorm_integrations.logs.nginx.access import AccessLog, is_error, read_values
from eventstorm_integrations.logs.nginx.config import NginxConfig, read_config
from eventstorm_integrations.logs.nginx.error import feed_error
from eventstorm_integrations.logs.nginx.format import NAMED, LogFormat, compile_format
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.syslog import split_prefix
from eventstorm_integrations.logs.times import LineClock, zone_named

__all__ = ["NginxParser"]


class NginxParser:
    """Reads lines of access logs and error logs, from files, or from syslog with its prefix.

    The format is ``settings.format``: ``json`` for objects whose keys are variables' names, a format's name, or a
    format as nginx writes it, which ``escape=json`` may precede.
    """

    def __init__(self, settings: LogsSettings) -> None:
        self._clock = LineClock(zone_named(settings.timezone))
        self._redaction = settings.redaction
        self._feed_access = self._feed_json
        if settings.format != "json":
            access = AccessLog(chosen_format(settings), self._clock, self._redaction)
            self._feed_access, self.encode = access.feed, access.encode
        self._syslog_clock = LineClock(zone_named(settings.timezone))

    @staticmethod
    def files(settings: LogsSettings) -> Mapping[str, LogsSettings]:
        """Return the log files that ``settings.config`` names, each with its format.

        Raises:
            SettingError: the configuration cannot be read.
        """
        if not settings.config:
            return {}
        config = read_config(Path(settings.config))
        logs = {path: replace(settings, format=name) for path, name in config.access_logs.items()}
        return {**logs, **dict.fromkeys(config.error_logs, settings)}

    def feed(self, line: str, now_s: float, /) -> Iterable[Event]:
        """Return the line's event."""
        try:
            return (self._feed(line, now_s),)
        except Unparsed as problem:
            if not line:
                return ()
            try:
                record = split_prefix(line, self._syslog_clock, now_s)
            except Unparsed:
                raise problem from None
            # rsyslog and journald take messages of all programs: those of others are not broken lines of nginx.
            return (self._feed(record.message, record.ts_s),) if "nginx" in record.program else ()

    def _feed(self, line: str, now_s: float) -> Event:
        if is_error(line):
            return feed_error(line, self._clock, now_s, self._redaction)
        return self._feed_access(line, now_s)

    def _feed_json(self, line: str, now_s: float) -> Event:
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or "__REALTIME_TIMESTAMP" in values:
                raise Unparsed("access format")
        except (ValueError, RecursionError):
            raise Unparsed("access format") from None
        texts = {name: _text(value) for name, value in values.items()}
        return read_values(texts, self._clock, now_s, self._redaction)


def chosen_format(settings: LogsSettings) -> LogFormat:
    """Return the format that the settings name or hold.

    Raises:
        SettingError: it is neither a format's name nor a format.
    """
    text = settings.format
    config = read_config(Path(settings.config)) if settings.config else NginxConfig()
    if text in config.formats:
        return compile_format(*config.formats[text])
    if text in NAMED:
        return compile_format(NAMED[text], more=True)
    if "$" not in text:
        raise SettingError(f"format: no format {text!r}{nearest(text, ['json', *NAMED, *config.formats])}")
    escape, space, rest = text.partition(" ")
    if escape.startswith("escape=") and space:
        return compile_format(rest, escape.removeprefix("escape="))
    return compile_format(text)


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
