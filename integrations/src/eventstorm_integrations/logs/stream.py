"""One file's lines, or one input's, on their way: parsed, emitted, and counted where they cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from eventstorm_integrations.logs.event import Encoding, Event, Parser, Remembering, Unparsed
from eventstorm_integrations.logs.settings import LogsSettings

__all__ = ["Emits", "Stream"]

log = logging.getLogger(__name__)

TOPIC = "log.unparsed"

# Of a line that cannot be read, so much is shown.
_SHOWN = 1000
_MOST_REASONS = 100


class Emits(Protocol):
    """Where events go: an `eventstorm.Source`, or what prints them."""

    def emit_at(self, topic: str, event: Mapping[str, Any], ts_s: float, /) -> bool:
        """Take an event that happened so many seconds after the beginning of 1970."""
        ...

    def emit_encoded(self, topic: str, data: bytes, ts_s: float, /) -> bool:
        """Take one whose data is in BSON."""
        ...


@dataclass(slots=True)
class _Bad:
    """Lines that one reason kept from being parsed."""

    total: int = 0
    untold: int = 0
    line: str = ""
    tell_at_s: float = 0.0


class Stream:
    """Feeds one parser.

    Args:
        path: what the lines are from, for people.
        parser: takes them.
        emits: takes the events.
        settings: say how often bad lines are told, and what in them is secret.
    """

    def __init__(self, path: str, parser: Parser, emits: Emits, settings: LogsSettings) -> None:
        self.path = path
        self.lines = 0
        self.events = 0
        self._parser = parser
        self._encode = parser.encode if isinstance(parser, Encoding) else None
        self._remembering = parser if isinstance(parser, Remembering) else None
        self._emits = emits
        self._sample_s = settings.sample_s
        self._redaction = settings.redaction
        self._bad: dict[str, _Bad] = {}
        self._failures: set[str] = set()

    def feed(self, lines: Iterable[str], now_s: float) -> None:
        """Take lines; `now_s` is when they were written, at the latest."""
        feed, emit = self._parser.feed, self._emits.emit_at
        encode, emit_encoded = self._encode, self._emits.emit_encoded
        lines_before = events = 0
        for line in lines:
            if not line:
                continue
            lines_before += 1
            try:
                if encode is not None and (encoded := encode(line, now_s)) is not None:
                    emit_encoded(*encoded)
                    events += 1
                    continue
                for event in feed(line, now_s):
                    emit(*event)
                    events += 1
            except Unparsed as problem:
                self._count(problem.reason, line)
            except BrokenPipeError:  # of who reads what is printed
                raise
            except Exception:  # a parser that somebody else wrote, or a fault of ours, must not end what follows a log
                if "fault" not in self._bad:
                    log.exception("%s: the parser failed at the line %.200r", self.path, line)
                self._count("fault", line)
        self.lines += lines_before
        self.events += events

    def too_long(self, begins: Iterable[str]) -> None:
        """Count lines that were longer than they may be."""
        for begin in begins:
            self.lines += 1
            self._count("too long", begin)

    def expire(self, now_s: float) -> None:
        """Emit what the parser has waited for in vain; at infinity, all that it has."""
        if self._remembering is not None:
            try:
                self._emit(self._remembering.expire(now_s))
            except BrokenPipeError:
                raise
            except Exception:  # as in `feed`
                self._failed("to tell what is overdue")

    def tell(self, now_s: float, *, all: bool = False) -> None:
        """Emit samples of bad lines, those that are due or all."""
        for reason, bad in self._bad.items():
            if bad.untold and (all or now_s >= bad.tell_at_s):
                bad.tell_at_s = now_s + self._sample_s
                line = self._redaction.url(bad.line)
                data = {"log": {"file": {"path": self.path}}, "reason": reason, "count": bad.untold, "line": line}
                bad.untold = 0
                self._emit([Event(TOPIC, data, now_s)])

    def bad(self) -> dict[str, int]:
        """Return how many lines could not be read, by reason."""
        return {reason: bad.total for reason, bad in self._bad.items()}

    def save(self) -> dict[str, Any]:
        """Return what the parser remembers."""
        try:
            return self._remembering.save() if self._remembering is not None else {}
        except Exception:  # as in `feed`; what is unfinished will be incomplete
            self._failed("to say what it remembers")
            return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Let the parser remember what it did in an earlier run."""
        if state and self._remembering is not None:
            try:
                self._remembering.restore(state)
            except Exception:  # another version's; what is unfinished will be incomplete
                log.exception("%s: what the parser remembered cannot be used", self.path)

    def _failed(self, what: str) -> None:
        if what not in self._failures:
            self._failures.add(what)
            log.exception("%s: the parser failed %s", self.path, what)

    def _emit(self, events: Iterable[Event]) -> None:
        for event in events:
            self._emits.emit_at(*event)
            self.events += 1

    def _count(self, reason: str, line: str) -> None:
        if reason not in self._bad and len(self._bad) >= _MOST_REASONS:
            reason = "other"
        bad = self._bad.setdefault(reason, _Bad())
        bad.total += 1
        bad.untold += 1
        bad.line = line[:_SHOWN]
