"""The SMTP sessions that clients have with smtpd and postscreen, and the event of one.

There is one if no mail was sent in it, or a login failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from eventstorm_integrations.logs.event import Event
from eventstorm_integrations.logs.postfix.lines import Client

__all__ = ["Session", "Sessions"]

# smtpd ends a session that is silent for five minutes; one of which no line came for so long has ended without one.
_IDLE_S = 3600.0
_COMMANDS = re.compile(r" ([a-z]+|unknown)=([\d/]+)")


@dataclass(slots=True)
class Session:
    """A session."""

    first_s: float
    last_s: float
    host: str
    client: Client
    started: bool = False
    sent: bool = False
    """Whether a transaction was begun or refused in it; that is an event of its own."""
    messages: list[str] = field(default_factory=list)
    """The keys of messages that are not complete yet."""
    about: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class Sessions:
    """The sessions by process, or by client where one process has many; bounded in number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sessions: dict[str, Session] = {}

    def begin(self, key: str, ts_s: float, host: str, client: Client) -> Iterator[Event]:
        """Begin a session; one that the same process had before has ended without a line."""
        yield from self.end(key, ts_s, incomplete=True)
        self._sessions[key] = Session(ts_s, ts_s, host, client, started=True)
        while len(self._sessions) > self._most:
            oldest = next(iter(self._sessions))
            yield from self.end(oldest, self._sessions[oldest].last_s, incomplete=True)

    def get(self, key: str) -> Session | None:
        """Return a session, if it is there."""
        return self._sessions.get(key)

    def touch(self, key: str, ts_s: float, host: str, client: Client | None) -> Session:
        """Return the session of which a line came; a new one where its beginning was not seen."""
        session = self._sessions.pop(key, None) or Session(ts_s, ts_s, host, client or Client("", "", ""))
        session.last_s = max(session.last_s, ts_s)
        self._sessions[key] = session
        return session

    def end(self, key: str, ts_s: float, text: str = "", *, incomplete: bool = False) -> Iterator[Event]:
        """End a session; yields its event if nothing was sent in it, or a login failed."""
        session = self._sessions.pop(key, None)
        if session is None or (session.sent and "auth" not in session.about):
            return
        data: dict[str, Any] = {"client": session.client.document(), **session.about}
        if session.reason:
            data["reason"] = session.reason
        if commands := dict(_COMMANDS.findall(text)):
            data["commands"] = {name: int(count.partition("/")[0]) for name, count in commands.items()}
        data["duration"] = max(0.0, round(ts_s - session.first_s, 6))
        if session.host:
            data["host"] = {"name": session.host}
        if incomplete or not session.started:
            data["incomplete"] = True
        yield Event("smtp.session", data, ts_s)

    def expire(self, now_s: float) -> Iterator[Event]:
        """End the sessions of which no line came for an hour."""
        for key, session in list(self._sessions.items()):
            if session.last_s > now_s - _IDLE_S:
                return
            yield from self.end(key, session.last_s, incomplete=True)

    def save(self) -> dict[str, Any]:
        """Return all, as JSON can hold it."""
        return {key: asdict(each) for key, each in self._sessions.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `save` returned."""
        self._sessions = {key: Session(**{**each, "client": Client(*each["client"])}) for key, each in state.items()}
