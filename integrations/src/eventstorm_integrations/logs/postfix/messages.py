"""The messages on their way through Postfix, and the event that each becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from eventstorm_integrations.logs.event import Event

__all__ = ["MOST_RECIPIENTS", "Message", "Messages"]

MOST_RECIPIENTS = 1000
"""An event has a size that it may not pass; of more recipients their number is told."""


@dataclass(slots=True)
class Message:
    """A message, as far as its lines have come."""

    queue_id: str
    host: str
    first_s: float
    last_s: float
    started: bool = False
    """Whether its beginning was seen: else the lines begin amid it."""
    queued: bool = False
    """Whether the queue manager has it: from then on it ends with ``removed``."""
    about: dict[str, Any] = field(default_factory=dict)
    """What goes into the event as it is."""
    recipients: list[dict[str, Any]] = field(default_factory=list)
    omitted: int = 0
    expired: bool = False
    reason: str = ""
    verdict: str = ""
    """What became of it, though there is more to come."""

    def deliver(self, recipient: dict[str, Any]) -> None:
        """Note an attempt; the last one of a recipient counts."""
        if recipient["status"] == "deferred":
            recipient["deferrals"] = 1
        # Backwards: a message to a thousand recipients comes in their order.
        for each in reversed(self.recipients):
            if each["to"] == recipient["to"] and each.get("orig_to") == recipient.get("orig_to"):
                if each["status"] in ("deferred", "expired"):
                    recipient["deferrals"] = recipient.get("deferrals", 0) + each.get("deferrals", 0)
                    each.clear()
                    each.update(recipient)
                    return
                break  # the same recipient twice in one message
        if len(self.recipients) < MOST_RECIPIENTS:
            self.recipients.append(recipient)
        else:
            self.omitted += 1

    def expire(self) -> None:
        """Note that the queue manager gives up on those who are still waiting."""
        self.expired = True
        for each in self.recipients:
            if each["status"] == "deferred":
                each["status"] = "expired"

    def outcome(self, *, ended: bool) -> str:
        """Return what became of it, in one word, as far as it is known."""
        if self.expired:
            return "expired"
        states = {each["status"] for each in self.recipients if each["status"] != "rejected"}
        if len(states) == 1:
            return str(*states)
        if "deferred" in states:
            return "deferred"
        if states or self.recipients:
            return "partial" if states else "rejected"
        return "removed" if ended else "held" if "held" in self.about else "unknown"

    def event(self, ts_s: float, outcome: str = "", *, incomplete: bool = False) -> Event:
        """Return the event of the message as it is now."""
        data: dict[str, Any] = {"queue_id": self.queue_id} if self.queue_id else {}
        data |= {"outcome": outcome or self.outcome(ended=not incomplete), **self.about}
        if self.reason:
            data["reason"] = self.reason
        data["recipients"] = self.recipients
        if self.omitted:
            data["recipients_omitted"] = self.omitted
        data["duration"] = max(0.0, round(ts_s - self.first_s, 6))
        if self.host:
            data["host"] = {"name": self.host}
        if incomplete or not self.started:
            data["incomplete"] = True
        return Event("smtp.transaction", data, ts_s)


class Messages:
    """The messages by host, instance and queue id, in the order of their last lines; bounded in number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._messages: dict[str, Message] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, key: str) -> Message | None:
        """Return a message, if it is there."""
        return self._messages.get(key)

    def touch(self, key: str, host: str, ts_s: float) -> Message:
        """Return a message of which a line came, a new one where it was not known."""
        message = self._messages.pop(key, None)
        if message is None:
            message = Message(key.rpartition(" ")[2], host, ts_s, ts_s)
        message.last_s = max(message.last_s, ts_s)
        self._messages[key] = message
        return message

    def put(self, key: str, message: Message) -> None:
        """Put back what was taken out."""
        self._messages[key] = message

    def pop(self, key: str) -> Message | None:
        """Take a message out."""
        return self._messages.pop(key, None)

    def overflow(self) -> Iterator[Event]:
        """Yield, as incomplete, the oldest of those that are too many."""
        while len(self._messages) > self._most:
            message = self._messages.pop(next(iter(self._messages)))
            yield message.event(message.last_s, incomplete=True)

    def expire(self, before_s: float) -> Iterator[Event]:
        """Yield, as incomplete, those whose last line was before a moment."""
        for key, message in list(self._messages.items()):
            if message.last_s > before_s:
                return
            del self._messages[key]
            yield message.event(message.last_s, incomplete=True)

    def save(self) -> dict[str, Any]:
        """Return all, as JSON can hold it."""
        return {key: asdict(each) for key, each in self._messages.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `save` returned."""
        self._messages = {key: Message(**each) for key, each in state.items()}
