"""sshd: logins, tried and done, and how long sessions lasted.

The wordings are those of OpenSSH 7 to 10, whose messages come from ``sshd``, ``sshd-session`` or ``sshd-auth``. A
connection's lines are told apart by the process that handles it. A login counts once, where sshd says how it went; a
connection that ends without that is told at its end, so what a client did and what the events say is the same number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eventstorm_integrations.logs.event import Event, Unparsed
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.syslog import Record, split_prefix
from eventstorm_integrations.logs.times import LineClock, zone_named

__all__ = ["SshdParser"]

_PROGRAMS = {"sshd", "sshd-session", "sshd-auth"}

_ALONE = ("Received ", "Server listening on ", "Unable to negotiate ", "Did not receive ", "Bad protocol ", "fatal: ")

# LoginGraceTime is two minutes by default: then sshd itself ends a connection that did not log in.
_LOGIN_S = 600.0
_SESSION_S = 30 * 86_400.0

_MOST_REPEATED = 10_000
_REPEATED = re.compile(r"message repeated (\d{1,6}) times: \[ ?(.*)\]\Z", re.DOTALL)
_JUDGED = re.compile(
    r"(\S+) (\S+) for (invalid user |illegal user )?(.*) from (\S+) port (\d{1,5})(?: ssh\d?)?(?:: (.*))?\Z", re.DOTALL
)
_KEY = re.compile(r"([A-Z0-9-]+) (\w+:\S+)")  # SHA256:…, or MD5 in hexadecimal
_INVALID = re.compile(r"(?:Invalid|Illegal) user (.*) from (\S+?)(?: port (\d{1,5}))?\s*\Z", re.DOTALL)
_NOT_ALLOWED = re.compile(r"User (.*) from (\S+) not allowed because (.*?)\s*\Z", re.DOTALL)
_PAM = re.compile(r".*authentication failure;.* rhost=(\S*)(?: +user=(.*?))?\s*\Z", re.DOTALL)
_PAM_SESSION = re.compile(r".*session (opened|closed) for user (\S*?)(?:\(uid=\d+\))?(?: by .*)?\Z", re.DOTALL)
_END = re.compile(
    r"(?:Connection (closed|reset) by|Disconnect(?:ed from|ing)) (?:(invalid|authenticating) user (.*) |user (.*) )?"
    r"(\S+) port (\d{1,5})(?:: (.*?))?( \[preauth\])?\s*\Z",
    re.DOTALL,
)
_TOO_MANY = re.compile(
    r"error: maximum authentication attempts exceeded for (invalid user )?(.*) from (\S+) port (\d{1,5})", re.DOTALL
)

# Connections that end before anybody tried to log in: the address, the port, and the reason where the line has one.
_PEER = r"\[?([0-9A-Za-z.:%-]+)(?:\]:| port )(\d{1,5})"
_ABORTED = [
    (re.compile(pattern, re.DOTALL), reason)
    for pattern, reason in [
        (rf"Unable to negotiate with {_PEER}: (no matching [a-zA-Z ]+? found)", ""),
        (rf"Did not receive identification string from {_PEER}", "no identification string"),
        (rf"Bad protocol version identification '.*' from {_PEER}", "bad protocol version"),
        (rf"banner exchange: Connection from {_PEER}: ([^\[]*)", ""),
        (rf"(?:fatal: )?Timeout before authentication for {_PEER}", "timeout before authentication"),
        (
            r"Timeout before authentication for connection from (\S+) to \S+ pid = (?P<pid>\d+)",
            "timeout before authentication",
        ),
        (rf"ssh_dispatch_run_fatal: Connection from (?:(?:invalid|authenticating) user .* )?{_PEER}: ([^\[]*)", ""),
        (rf"Magic value check failed \(\d+\) on obfuscated handshake from {_PEER}", "bad obfuscated handshake"),
        (rf"drop connection #\d+ from {_PEER} on \S+ (past MaxStartups|[a-z ]+)", ""),
        (r"refused connect from (?:.* )?\(?([^\s()]+)\)?\s*\Z", "refused by TCP wrappers"),
    ]
]


@dataclass(slots=True)
class _Connection:
    """What is known of a connection, by the process that handles it."""

    first_s: float
    last_s: float
    address: str = ""
    port: str = ""
    user: str | None = None
    valid: bool = True
    reason: str = ""
    told: bool = False
    """Whether an event was emitted that says how a login went."""
    method: str = ""
    key: str = ""
    opened: bool = False


class SshdParser:
    """Reads sshd's lines; gives ``ssh.login``, and ``ssh.session`` when one ends."""

    def __init__(self, settings: LogsSettings) -> None:
        self._clock = LineClock(zone_named(settings.timezone))
        self._most = settings.max_transactions
        # In the order of their last line, so that the oldest is the first.
        self._connections: dict[str, _Connection] = {}
        self._handlers: dict[str, Callable[[Record], Iterable[Event] | None]] = {
            "Accepted": self._accepted,
            "Connection": self._ended,
            "Disconnected": self._ended,
            "Disconnecting": self._ended,
            "Failed": self._failed,
            "Illegal": self._invalid,
            "Invalid": self._invalid,
            "Partial": self._failed,
            "User": self._not_allowed,
            "error:": self._error,
            "message": self._repeated,
            "pam_sss(sshd:auth):": self._pam,
            "pam_unix(sshd:auth):": self._pam,
            "pam_unix(sshd:session):": self._pam_session,
        }

    def feed(self, line: str, now_s: float, /) -> Iterable[Event]:
        """Return the logins that the line tells of."""
        try:
            record = split_prefix(line, self._clock, now_s)
        except Unparsed:
            # `sshd -E FILE` writes the messages alone.
            if line.partition(" ")[0] not in self._handlers and not line.startswith(_ALONE):
                raise
            record = Record(now_s, "", "sshd", "", line)
        return self._message(record) if record.program in _PROGRAMS else ()

    def expire(self, now_s: float, /) -> Iterable[Event]:
        """Tell of connections that ended without a line, which happens when sshd is killed."""
        events: list[Event] = []
        for key, connection in list(self._connections.items()):
            over = len(self._connections) > self._most
            if not over and connection.last_s > now_s - _LOGIN_S:
                break
            if over or connection.last_s <= now_s - (_SESSION_S if connection.opened else _LOGIN_S):
                events += self._end(key, connection.last_s, "", incomplete=True)
        return events

    def save(self) -> dict[str, Any]:
        """Return the connections that are open."""
        return {"connections": {key: asdict(each) for key, each in self._connections.items()}}

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Take up the connections that were open."""
        self._connections = {key: _Connection(**each) for key, each in state.get("connections", {}).items()}

    def _message(self, record: Record) -> Iterable[Event]:
        word = record.message.partition(" ")[0]
        handler = self._handlers.get(word)
        events = handler(record) if handler else None
        return self._aborted(record) if events is None else events

    def _repeated(self, record: Record) -> Iterable[Event] | None:
        found = _REPEATED.match(record.message)
        if found is None or found[2].startswith("message repeated"):
            return None
        once = record._replace(message=found[2])
        return list(self._message(once)) * min(int(found[1]), _MOST_REPEATED)

    def _accepted(self, record: Record) -> Iterable[Event] | None:
        found = _JUDGED.match(record.message)
        if found is None:
            return None
        events = self._end(self._key(record), record.ts_s, "", incomplete=True) if record.pid else []
        connection = self._connection(record, found[5], found[6])
        connection.user, connection.method, connection.key = found[4], found[2], found[7] or ""
        connection.first_s, connection.opened, connection.told = record.ts_s, True, True
        return [*events, self._login(record, connection, "accepted")]

    def _failed(self, record: Record) -> Iterable[Event] | None:
        found = _JUDGED.match(record.message)
        if found is None:
            return None
        connection = self._connection(record, found[5], found[6])
        connection.user, connection.valid = found[4], not found[3]
        if found[2] == "none":  # every client asks so for the methods that there are; it is no login
            return ()
        connection.told = True
        connection.method, connection.key = found[2], found[7] or ""
        return [self._login(record, connection, "failed" if found[1] == "Failed" else "partial")]

    def _invalid(self, record: Record) -> Iterable[Event] | None:
        found = _INVALID.match(record.message)
        if found is None:
            return None
        connection = self._connection(record, found[2], found[3])
        connection.user, connection.valid, connection.reason = found[1], False, "invalid user"
        return ()

    def _not_allowed(self, record: Record) -> Iterable[Event] | None:
        found = _NOT_ALLOWED.match(record.message)
        if found is None:
            return None
        connection = self._connection(record, found[2], None)
        connection.user, connection.valid, connection.reason = found[1], False, found[3]
        return ()

    def _pam(self, record: Record) -> Iterable[Event] | None:
        found = _PAM.match(record.message)
        if found:  # sshd itself tells of the same attempt in the next line
            connection = self._connection(record, found[1], None)
            if found[2]:
                connection.user = found[2]
        return ()

    def _pam_session(self, record: Record) -> Iterable[Event] | None:
        found = _PAM_SESSION.match(record.message)
        if found and found[1] == "closed":
            return self._end(self._key(record), record.ts_s, "closed", sessions_only=True)
        return ()

    def _error(self, record: Record) -> Iterable[Event] | None:
        if found := _TOO_MANY.match(record.message):
            connection = self._connection(record, found[3], found[4])
            connection.user, connection.valid, connection.reason = found[2], not found[1], "too many attempts"
        elif record.message.startswith("error: PAM: "):
            told, _, address = record.message.removeprefix("error: PAM: ").rstrip().rpartition(" from ")
            reason, _, user = told.rpartition(" for ")
            if reason and " " not in address:
                connection = self._connection(record, address, None)
                connection.user, connection.valid = (
                    user.removeprefix("illegal user "),
                    not user.startswith("illegal user "),
                )
                connection.reason = connection.reason or reason
        return ()

    def _ended(self, record: Record) -> Iterable[Event] | None:
        found = _END.match(record.message)
        if found is None:
            return None
        verb, kind, trying, user, address, port, detail, preauth = found.groups()
        reason = detail or verb or "disconnected"
        if user is not None or not (preauth or kind):
            events = self._end_of_peer(record, address, port, reason)
            if events or user is not None:
                return events
        connection = self._connection(record, address, port)
        if kind:
            connection.user, connection.valid = trying, kind == "authenticating"
        return self._end(self._key(record), record.ts_s, reason)

    def _aborted(self, record: Record) -> Iterable[Event]:
        for pattern, reason in _ABORTED:
            if found := pattern.match(record.message):
                address, port, detail, *_ = (*found.groups(), "", "")
                if pid := found.groupdict().get("pid"):  # the listener tells of a process of its own
                    record, port = record._replace(pid=pid), ""
                connection = self._connection(record, address, port)
                connection.reason = (reason or detail).strip()
                return self._end(self._key(record), record.ts_s, "")
        return ()

    def _key(self, record: Record) -> str:
        return f"{record.host}[{record.pid}]"

    def _connection(self, record: Record, address: str, port: str | None) -> _Connection:
        """Return the connection of the line's process, as the one that had the last line."""
        key = self._key(record)
        connection = self._connections.pop(key, None) or _Connection(record.ts_s, record.ts_s)
        connection.last_s = max(connection.last_s, record.ts_s)
        if address:  # an IPv4 peer of an IPv6 socket is that IPv4 address, as sshd itself mostly writes it
            connection.address = address.removeprefix("::ffff:") if "." in address else address
        connection.port = port or connection.port
        self._connections[key] = connection
        return connection

    def _end_of_peer(self, record: Record, address: str, port: str, reason: str) -> list[Event]:
        """End a session, of which an unprivileged child with another number may tell."""
        key = self._key(record)
        own = self._connections.get(key)
        if own is None or not own.opened:
            host = f"{record.host}["
            for key, each in self._connections.items():
                if each.opened and each.port == port and each.address == address and key.startswith(host):
                    break
            else:
                return []
        return self._end(key, record.ts_s, reason, sessions_only=True)

    def _end(
        self, key: str, ts_s: float, reason: str, *, incomplete: bool = False, sessions_only: bool = False
    ) -> list[Event]:
        connection = self._connections.get(key)
        if connection is None or (sessions_only and not connection.opened):
            return []
        del self._connections[key]
        connection.last_s = ts_s
        if connection.opened:
            data = _document(key, connection)
            data["duration"] = max(0.0, round(ts_s - connection.first_s, 6))
            if reason:
                data["reason"] = reason
            if incomplete:
                data["incomplete"] = True
            return [Event("ssh.session", data, ts_s)]
        if connection.told:
            return []
        connection.reason = connection.reason or reason
        data = {"outcome": "aborted" if connection.user is None else "failed", **_document(key, connection)}
        if connection.reason:
            data["reason"] = connection.reason
        return [Event("ssh.login", data, ts_s)]

    def _login(self, record: Record, connection: _Connection, outcome: str) -> Event:
        data = {"outcome": outcome, **_document(self._key(record), connection)}
        if outcome == "failed" and connection.reason:
            data["reason"] = connection.reason
        return Event("ssh.login", data, record.ts_s)


def _document(key: str, connection: _Connection) -> dict[str, Any]:
    host, _, pid = key.rpartition("[")
    data: dict[str, Any] = {}
    if connection.method:
        data["auth"] = {"method": connection.method}
    if connection.user is not None:
        data["user"] = {"name": connection.user} if connection.valid else {"name": connection.user, "valid": False}
    client: dict[str, Any] = {"address": connection.address}
    if connection.port:
        client["port"] = int(connection.port)
    data["client"] = client
    if found := _KEY.match(connection.key):
        data["key"] = {"type": found[1], "fingerprint": found[2]}
    if host:
        data["host"] = {"name": host}
    if pid != "]":
        data["process"] = {"pid": int(pid[:-1])}
    return data
