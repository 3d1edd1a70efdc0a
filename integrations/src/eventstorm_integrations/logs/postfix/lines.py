"""What Postfix's daemons write, taken apart; nothing is remembered here.

Addresses and replies are chosen by strangers. Patterns therefore end a value at a character that cannot be in it, never
at the first place where the rest happens to fit: they take linear time.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

__all__ = [
    "ADDRESS",
    "Client",
    "Delivery",
    "Reject",
    "client_of",
    "read_delivery",
    "read_proxy_reject",
    "read_reject",
    "split_queue_id",
]

# Short ones are hexadecimal: microseconds and inode. Long ones have no vowels, so they are no words.
_QUEUE_ID = re.compile(r"([0-9A-F]{5,20}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,24}): ?(.*)\Z", re.DOTALL)
# A quoted local part may hold the bracket that ends an address.
ADDRESS = r'<?("(?:[^"\\]|\\.)*"[^>]*|[^>,]*)>?'
_DELIVERY = re.compile(
    rf"to={ADDRESS}(?:, orig_to={ADDRESS})?, relay=([^,]*)(?:, conn_use=\d+)?(?:, delay=([\d.]+))?"
    r"(?:, delays=([\d./]+))?(?:, (?!dsn=|status=)\w+=[^,]*)*(?:, dsn=([\d.]+))?, status=([\w-]+)(?: \((.*)\))?\Z",
    re.DOTALL,
)
_PORT = re.compile(r":(\d{1,5})", re.ASCII)
_MOST_NAME = 256
_REJECT = re.compile(
    r"((?:[a-z]+-)?(?:reject|discard|hold)): ([A-Z][A-Z-]*|header|body|content)(?:(?=[ :]) ?(.*))?\Z", re.DOTALL
)
_REPLY = re.compile(r"(?:(\d{3}) )?(\d\.\d{1,3}\.\d{1,3}) ?(.*)\Z", re.DOTALL)
_BARE_REPLY = re.compile(r"(\d{3}) (.*)\Z", re.DOTALL)
_TAIL = re.compile(
    rf"; (?:client=\S+ )?from={ADDRESS}(?: to={ADDRESS})?(?: proto=(\w+))?(?: helo=<([^>]*)>)?"
    r"(?: sasl_\w+=[^ :]*)*(?:: (.*))?\Z",
    re.DOTALL,
)
_PROXY_REJECT = re.compile(
    rf'warning: proxy \S+ rejected "(mail|rcpt|data)(?: (?:FROM|TO):{ADDRESS}[^"]*)?": "(.*)"\Z',
    re.DOTALL | re.IGNORECASE,
)
_TAIL_WITHOUT_SENDER = re.compile(r"; proto=(\w+)(?: helo=<([^>]*)>)?\Z")


class Client(NamedTuple):
    """Who is at the other end."""

    name: str
    address: str
    port: str

    def document(self) -> dict[str, Any]:
        """Return it as it is in events; a host without a name is ``unknown`` to Postfix, and has none here."""
        data: dict[str, Any] = {"address": self.address}
        if self.name and self.name != "unknown":
            data["name"] = self.name
        if self.port:
            data["port"] = int(self.port)
        return data


class Delivery(NamedTuple):
    """One attempt to deliver to one recipient."""

    recipient: dict[str, Any]
    response: str


class Reject(NamedTuple):
    """A command, or a message, that was refused, thrown away or held back."""

    action: str
    stage: str
    client: Client | None
    code: int | None
    dsn: str
    reason: str
    sender: str | None
    recipient: str | None
    protocol: str
    helo: str


def split_queue_id(message: str) -> tuple[str, str]:
    """Split ``QUEUE_ID: text``; the id is empty where there is none."""
    found = _QUEUE_ID.match(message)
    return (found[1], found[2]) if found else ("", message)


def client_of(text: str) -> Client | None:
    """Return the first ``name[address]`` or ``name[address]:port`` in a text."""
    begin = text.find("[")
    end = text.find("]", begin)
    if begin < 0 or end < 0:
        return None
    name = text[max(0, begin - _MOST_NAME) : begin].rpartition(" ")[2]
    port = _PORT.match(text, end + 1)
    return Client(name, text[begin + 1 : end], port[1] if port else "")


def read_delivery(text: str) -> Delivery | None:
    """Read ``to=<…>, relay=…, delay=…, delays=…, dsn=…, status=… (…)``."""
    found = _DELIVERY.match(text)
    if found is None:
        return None
    to, original, relay, delay, delays, dsn, status, response = found.groups()
    recipient: dict[str, Any] = {"to": to}
    if original is not None:
        recipient["orig_to"] = original
    if relay != "none":
        recipient["relay"] = relay
    if dsn:
        recipient["dsn"] = dsn
    recipient["status"] = status
    try:
        if delay:
            recipient["delay"] = float(delay)
        if delays:
            recipient["delays"] = [float(each) for each in delays.split("/")]
    except ValueError:
        return None
    if response:
        recipient["response"] = response
    return Delivery(recipient, response or "")


def read_reject(text: str) -> Reject | None:
    """Read ``reject: RCPT from name[address]: 554 5.7.1 …; from=<…> to=<…> proto=… helo=<…>`` and its kin."""
    found = _REJECT.match(text)
    if found is None:
        return None
    action, stage, rest = found[1], found[2], found[3] or ""
    sender = recipient = None
    protocol = helo = after = ""
    at = max(rest.rfind("; from=<"), rest.rfind("; client="))
    if at >= 0 and (tail := _TAIL.match(rest, at)):
        sender, recipient, protocol, helo, after = (tail[1], tail[2], tail[3] or "", tail[4] or "", tail[5] or "")
        rest = rest[:at]
    elif tail := _TAIL_WITHOUT_SENDER.match(rest, max(rest.rfind("; proto="), 0)):
        protocol, helo, rest = tail[1], tail[2] or "", rest[: tail.start()]
    client = None
    if stage in ("header", "body", "content"):
        # cleanup names the header first, and the client behind it.
        client = client_of(rest[rest.rfind(" from ") + 6 :]) if " from " in rest else None
        reply = after
    else:
        if rest.startswith("from "):
            client = client_of(rest)
            _, _, reply = rest.partition("]: " if "]: " in rest else ": ")
            if client and client.port:
                reply = rest.partition(f"]:{client.port}: ")[2]
        else:
            reply = rest.removeprefix(": ")
    code, dsn, reason = _reply(reply)
    return Reject(action, stage, client, code, dsn, reason, sender, recipient, protocol, helo)


def read_proxy_reject(text: str) -> Reject | None:
    """Read ``warning: proxy PLACE rejected "rcpt TO:<…>": "554 …"``: what a filter in front of the queue refused."""
    found = _PROXY_REJECT.match(text)
    if found is None:
        return None
    stage = found[1].upper()
    sender, recipient = (found[2] if stage == "MAIL" else None), (found[2] if stage == "RCPT" else None)
    return Reject("proxy-reject", stage, None, *_reply(found[3]), sender, recipient, "", "")


def _reply(reply: str) -> tuple[int | None, str, str]:
    """Split an answer into its code, its enhanced status and its text."""
    code, dsn, reason = None, "", reply
    if parts := _REPLY.match(reply):
        code, dsn, reason = int(parts[1]) if parts[1] else None, parts[2], parts[3]
    elif parts := _BARE_REPLY.match(reply):
        code, reason = int(parts[1]), parts[2]
    if reason.startswith("<") and ">: " in reason:  # the name that was refused, which is in a field of its own
        reason = reason.partition(">: ")[2]
    return code, dsn, reason
