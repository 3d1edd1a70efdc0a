"""Postfix: the lines of its daemons, put together to one ``smtp.transaction`` a message.

`lines` takes lines apart, `messages` and `sessions` remember what has not ended. A message ends when the queue manager
removes it, or where it is refused or given up before. A session in which nothing was sent becomes a ``smtp.session``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from eventstorm_integrations.logs.event import Event
from eventstorm_integrations.logs.postfix.lines import (
    ADDRESS,
    Reject,
    client_of,
    read_delivery,
    read_proxy_reject,
    read_reject,
    split_queue_id,
)
from eventstorm_integrations.logs.postfix.messages import Message, Messages
from eventstorm_integrations.logs.postfix.sessions import Session, Sessions
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.syslog import Record, split_prefix
from eventstorm_integrations.logs.times import LineClock, zone_named

__all__ = ["PostfixParser"]

_ABORTED_S = 60.0
# A filter that gives messages on to a second smtpd passes on what that refuses, at once.
_PASSED_ON_S = 10.0
_MOST_PASSED_ON = 100

_STARTED = re.compile(r"client=([^,]*)(?:, (.*))?\Z", re.DOTALL)
_QUEUED = re.compile(rf"from={ADDRESS}, (?:size=(\d{{1,18}}), nrcpt=(\d{{1,9}})|status=([\w-]+))")
_PICKED_UP = re.compile(r"uid=(\d{1,10}) (?:from|sender)=<?([^>]*)>?")
_MESSAGE_ID = re.compile(r"(?:resent-)?message-id=(.*)\Z", re.DOTALL)
_NOTIFICATION = re.compile(r"(?:sender|postmaster) .{1,40} notification: ([0-9A-Za-z]{5,24})\Z")
_FORWARDED = re.compile(r"forwarded as ([0-9A-Za-z]{5,24})\Z")
_LOST = re.compile(
    r"((?:lost connection|timeout|too many errors) after [\w-]+)(?: \(.{1,40}\))? from (.*)\Z", re.DOTALL
)
_SASL = re.compile(r"warning: (.*?): SASL ([\w-]+) authentication failed(?:: (.*))?\Z", re.DOTALL)
_PREGREET = re.compile(
    r"(PREGREET \d+ after [\d.]+|HANGUP after [\d.]+|DNSBL rank \d+|COMMAND \w+ LIMIT|BARE NEWLINE|NON-SMTP COMMAND"
    r"|COMMAND PIPELINING)[^\[]*(\[.*)\Z",
    re.DOTALL,
)


class _Refused(NamedTuple):
    """A refusal that a filter in front of the queue may pass on."""

    host: str
    process: str
    recipient: str | None
    reason: str
    ts_s: float


class PostfixParser:
    """Reads Postfix's lines; gives ``smtp.transaction`` and ``smtp.session``."""

    def __init__(self, settings: LogsSettings) -> None:
        self._clock = LineClock(zone_named(settings.timezone))
        self._timeout_s = settings.transaction_timeout_s
        self._messages = Messages(settings.max_transactions)
        self._sessions = Sessions(settings.max_transactions)
        self._given_up: dict[str, float] = {}
        # What was refused behind a filter, by host, sender, recipient and reason.
        self._refused: deque[_Refused] = deque(maxlen=_MOST_PASSED_ON)
        self._daemons: dict[str, Callable[[Record, str, str, str], Iterator[Event]]] = {
            "bounce": self._bounce,
            "cleanup": self._cleanup,
            "pickup": self._pickup,
            "postscreen": self._postscreen,
            "postsuper": self._queue_manager,
            "qmgr": self._queue_manager,
            "smtpd": self._smtpd,
        }

    def feed(self, line: str, now_s: float, /) -> Iterable[Event]:
        """Return the transactions and sessions that end with this line."""
        record = split_prefix(line, self._clock, now_s)
        instance, slash, daemon = record.program.rpartition("/")
        if not slash:
            return ()
        # A service of its own in master.cf has a name in between: postfix/submission/smtpd.
        instance = instance.partition("/")[0]
        if "postfix" not in instance and not instance.startswith("mail"):
            return ()
        queue_id, text = split_queue_id(record.message)
        key = f"{record.host} {instance} {queue_id}" if queue_id else ""
        events = list(self._daemons.get(daemon, self._delivery_agent)(record, instance, key, text))
        events += self._messages.overflow()
        return events

    def expire(self, now_s: float, /) -> Iterable[Event]:
        """Tell, as incomplete, of what has not ended."""
        events: list[Event] = []
        for key, since_s in list(self._given_up.items()):
            if since_s <= now_s - _ABORTED_S:
                del self._given_up[key]
                message = self._messages.get(key)
                if message is not None and not message.queued:
                    self._messages.pop(key)
                    events.append(message.event(message.last_s, message.verdict or "aborted"))
        events += self._messages.expire(now_s - self._timeout_s)
        events += self._sessions.expire(now_s)
        return events

    def save(self) -> dict[str, Any]:
        """Return what has not ended."""
        return {"messages": self._messages.save(), "sessions": self._sessions.save(), "given_up": self._given_up}

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Take up what had not ended."""
        self._messages.restore(state["messages"])
        self._sessions.restore(state["sessions"])
        self._given_up = dict(state["given_up"])

    # The daemons

    def _smtpd(self, record: Record, instance: str, key: str, text: str) -> Iterator[Event]:
        process = f"{record.host} {record.program}[{record.pid}]"
        if text.startswith("connect from "):
            if client := client_of(text):
                yield from self._sessions.begin(process, record.ts_s, record.host, client)
        elif text.startswith("disconnect from "):
            yield from self._disconnected(process, record, text)
        elif text.startswith(("client=", "NOQUEUE: client=")):
            session = self._sessions.touch(process, record.ts_s, record.host, client_of(text))
            session.sent = True
            if key:  # NOQUEUE: in front of a proxy, whose smtpd behind it gives the message its id
                yield from self._start(key, record, text, session)
        elif reject := read_reject(text.removeprefix("NOQUEUE: ")) or read_proxy_reject(text):
            session = self._sessions.touch(process, record.ts_s, record.host, reject.client)
            session.sent = True
            if reject.client is None and session.client.address:
                reject = reject._replace(client=session.client)
            yield from self._rejected(key, record, reject)
        elif lost := _LOST.match(text):
            session = self._sessions.touch(process, record.ts_s, record.host, client_of(lost[2]))
            session.reason = session.reason or lost[1]
            for each in session.messages[-1:]:
                if (message := self._messages.get(each)) and not message.queued:
                    message.reason = lost[1]
                    self._given_up[each] = record.ts_s
        elif failed := _SASL.match(text):
            session = self._sessions.touch(process, record.ts_s, record.host, client_of(failed[1]))
            auth = session.about.setdefault("auth", {"method": failed[2], "failures": 0})
            auth["failures"] += 1
            reason, _, user = (failed[3] or "").partition(", sasl_username=")
            if user and user != "(unavailable)":
                auth["username"] = user
            session.reason = f"authentication failed: {reason.strip()}" if reason else "authentication failed"
        elif text.startswith(("warning: non-SMTP command from ", "improper command pipelining after ")):
            kind, _, rest = text.removeprefix("warning: ").partition(" from ")
            session = self._sessions.touch(process, record.ts_s, record.host, client_of(rest))
            session.reason, session.about["command"] = kind, rest.partition("]: ")[2]

    def _disconnected(self, process: str, record: Record, text: str) -> Iterator[Event]:
        session = self._sessions.get(process)
        for key in session.messages if session else ():
            message = self._messages.get(key)
            # Without the line of cleanup, the client has never sent the message itself.
            if message is not None and not message.queued and "message_id" not in message.about:
                self._messages.pop(key)
                self._given_up.pop(key, None)
                message.reason = message.reason or "no message was sent"
                yield message.event(record.ts_s, "aborted")
        if session is None:  # of a session that began before the lines do, nothing can be told
            return
        yield from self._sessions.end(process, record.ts_s, text)

    def _start(self, key: str, record: Record, text: str, session: Session) -> Iterator[Event]:
        found = _STARTED.match(text)
        client = client_of(found[1]) if found else None
        if found is None or client is None:
            return
        yield from self._reused(key, record)
        message = self._messages.touch(key, record.host, record.ts_s)
        message.started = True
        session.messages = [*[each for each in session.messages if self._messages.get(each)][-100:], key]
        about = message.about
        about["client"] = client.document()
        for part in (found[2] or "").split(", "):
            name, _, value = part.partition("=")
            if name == "orig_client" and (original := client_of(value)):
                about["client"], about["proxy"] = original.document(), client.document()
            elif name == "orig_queue_id":
                about["orig_queue_id"] = value
            elif name in ("sasl_method", "sasl_username", "sasl_sender"):
                about.setdefault("sasl", {})[name.removeprefix("sasl_")] = value

    def _reused(self, key: str, record: Record) -> Iterator[Event]:
        """End what had the same queue id: short ones come back when a file gets the same inode."""
        self._given_up.pop(key, None)
        old = self._messages.get(key)
        if old is not None and (old.started or old.queued):
            self._messages.pop(key)
            yield old.event(old.last_s, incomplete=True)

    def _pickup(self, record: Record, instance: str, key: str, text: str) -> Iterator[Event]:
        found = _PICKED_UP.match(text)
        if key and found:
            yield from self._reused(key, record)
            message = self._messages.touch(key, record.host, record.ts_s)
            message.started = True
            message.about["uid"] = int(found[1])
            message.about["from"] = found[2]
            if " orig_id=" in text:
                message.about["orig_queue_id"] = text.partition(" orig_id=")[2]

    def _cleanup(self, record: Record, instance: str, key: str, text: str) -> Iterator[Event]:
        if not key:
            return
        if found := _MESSAGE_ID.match(text):
            message = self._messages.touch(key, record.host, record.ts_s)
            if not text.startswith("resent-") or "message_id" not in message.about:
                # In brackets as it should be, or as the client wrote it.
                message.about["message_id"] = found[1].removeprefix("<").removesuffix(">")
        elif reject := read_reject(text):
            yield from self._rejected(key, record, reject)
        elif (delivery := read_delivery(text)) and (refused := self._messages.get(key)) and refused.verdict:
            refused.deliver(delivery.recipient)

    def _rejected(self, key: str, record: Record, reject: Reject) -> Iterator[Event]:
        if not reject.action.endswith("reject"):
            if key:
                yield from self._dropped(key, record, reject)
            return
        if reject.action == "proxy-reject" and self._is_passed_on(record, reject):
            return
        recipient: dict[str, Any] = {"to": reject.recipient, "status": "rejected"}
        if reject.dsn:
            recipient["dsn"] = reject.dsn
        if reject.code:
            recipient["code"] = reject.code
        recipient["response"] = reject.reason
        if key and reject.stage == "RCPT":  # one of several recipients; the others get the message
            self._messages.touch(key, record.host, record.ts_s).deliver(recipient)
            return
        message = self._messages.pop(key) if key else None
        self._given_up.pop(key, None)
        if message is None:
            message = Message(key.rpartition(" ")[2], record.host, record.ts_s, record.ts_s, started=not key)
        about = message.about
        if reject.client is not None:
            about.setdefault("client", reject.client.document())
        if reject.sender is not None:
            about.setdefault("from", reject.sender)
        if reject.protocol:
            about["protocol"] = reject.protocol
        if reject.helo:
            about["helo"] = reject.helo
        about["stage"], about["by"] = reject.stage, reject.action
        for name, value in (("code", reject.code), ("dsn", reject.dsn)):
            if value:
                about[name] = value
        message.reason = reject.reason
        if "uid" in about:  # nobody is there to be told; a notification will be sent, and is the end
            message.verdict = "rejected"
            self._messages.put(key, message)
            self._given_up[key] = record.ts_s
            return
        if reject.recipient is not None and not any(each["to"] == reject.recipient for each in message.recipients):
            message.recipients.append(recipient)
        if reject.action != "proxy-reject":
            process = f"{record.program}[{record.pid}]"
            self._refused.append(_Refused(record.host, process, reject.recipient, reject.reason, record.ts_s))
        yield message.event(record.ts_s, "rejected")

    def _is_passed_on(self, record: Record, reject: Reject) -> bool:
        """Tell whether this was told of already, by the smtpd behind the filter: each refusal there is one here."""
        process = f"{record.program}[{record.pid}]"
        for each in self._refused:
            if (
                (each.host, each.recipient, each.reason) == (record.host, reject.recipient, reject.reason)
                and each.process != process
                and record.ts_s - each.ts_s < _PASSED_ON_S
            ):
                self._refused.remove(each)
                return True
        return False

    def _dropped(self, key: str, record: Record, drop: Reject) -> Iterator[Event]:
        """Note that a message is thrown away, or held in the queue until somebody lets it go."""
        message = self._messages.touch(key, record.host, record.ts_s)
        if drop.sender is not None:
            message.about["from"] = drop.sender
        if drop.action.endswith("hold"):
            message.about["held"] = drop.reason
            message.queued = True
            return
        self._messages.pop(key)
        message.reason = drop.reason
        if drop.recipient is not None:
            message.recipients.append({"to": drop.recipient, "status": "discarded"})
        yield message.event(record.ts_s, "discarded")

    def _queue_manager(self, record: Record, instance: str, key: str, text: str) -> Iterator[Event]:
        if not key:
            return
        if text == "removed":
            message = self._messages.pop(key)
            self._given_up.pop(key, None)
            if message is None:
                message = Message(key.rpartition(" ")[2], record.host, record.ts_s, record.ts_s)
            yield message.event(record.ts_s, "deleted" if record.program.endswith("postsuper") else "")
        elif found := _QUEUED.match(text):
            message = self._messages.touch(key, record.host, record.ts_s)
            message.queued = True
            message.about["from"] = found[1]
            if found[2]:
                message.about["size"], message.about["recipient_count"] = int(found[2]), int(found[3])
            elif found[4].endswith("expired"):
                message.expire()
        else:
            yield from self._delivery_agent(record, instance, key, text)

    def _bounce(self, record: Record, instance: str, key: str, text: str) -> Iterator[Event]:
        found = _NOTIFICATION.match(text)
        if key and found:
            message = self._messages.touch(key, record.host, record.ts_s)
            message.about.setdefault("notifications", []).append(found[1])
            self._child(key, found[1], record, "notification_for")
            if message.verdict:
                self._messages.pop(key)
                self._given_up.pop(key, None)
                yield message.event(record.ts_s, message.verdict)

    def _delivery_agent(self, record: Record, instance: str, key: str, text: str) -> Iterator[Event]:
        """Read what smtp, lmtp, local, virtual, pipe, error, discard say alike."""
        delivery = read_delivery(text) if key else None
        if delivery is not None:
            recipient = delivery.recipient
            if forwarded := _FORWARDED.match(delivery.response):
                recipient["forwarded_as"] = forwarded[1]
                self._child(key, forwarded[1], record, "forwarded_from")
            self._messages.touch(key, record.host, record.ts_s).deliver(recipient)
        return iter(())

    def _child(self, key: str, queue_id: str, record: Record, name: str) -> None:
        """Note in a message that Postfix itself made of which one it was made."""
        place, _, parent = key.rpartition(" ")
        child = self._messages.touch(f"{place} {queue_id}", record.host, record.ts_s)
        child.started = True
        child.about[name] = parent

    def _postscreen(self, record: Record, instance: str, key: str, text: str) -> Iterator[Event]:
        client = client_of(text)
        if client is None:
            return
        peer = f"{record.host} postscreen {client.address} {client.port}"
        if text.startswith("CONNECT from "):
            yield from self._sessions.begin(peer, record.ts_s, record.host, client)
        elif text.startswith("PASS "):  # it goes on with smtpd
            self._sessions.touch(peer, record.ts_s, record.host, client).sent = True
            yield from self._sessions.end(peer, record.ts_s)
        elif text.startswith("DISCONNECT "):
            yield from self._sessions.end(peer, record.ts_s)
        elif reject := read_reject(text.removeprefix("NOQUEUE: ")):
            self._sessions.touch(peer, record.ts_s, record.host, client).sent = True
            yield from self._rejected("", record, reject)
        elif found := _PREGREET.match(text):
            client = client_of(found[2]) or client
            session = self._sessions.touch(peer, record.ts_s, record.host, client)
            session.reason = session.reason or found[1]
            if command := found[2].partition(": ")[2]:
                session.about["command"] = command
