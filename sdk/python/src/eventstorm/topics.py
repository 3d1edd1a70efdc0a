"""Topics: their syntax, and how a topic and a subscription look on the wire."""

from __future__ import annotations

import re

__all__ = ["MAX_TOPIC_BYTES", "RESERVED_PREFIX", "is_valid_topic", "subscription", "wire_topic"]

MAX_TOPIC_BYTES = 200
RESERVED_PREFIX = "eventstorm."

_is_topic = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*").fullmatch


def is_valid_topic(topic: str) -> bool:
    """Tell whether `topic` is dot-separated segments of ``[a-z0-9_-]``, at most 200 bytes in all."""
    return len(topic) <= MAX_TOPIC_BYTES and _is_topic(topic) is not None


def wire_topic(topic: str) -> bytes:
    """Return the first frame of `topic`'s messages: the topic and one NUL byte."""
    return topic.encode("ascii") + b"\0"


def subscription(pattern: str) -> bytes:
    r"""Return the ZeroMQ prefix that subscribes to what a person writes.

    ``http.hit`` is one topic (``http.hit\0``); ``http.`` and ``http.*`` are the subtree; the empty string and
    ``*`` are everything.

    Raises:
        ValueError: for anything else.
    """
    if pattern in ("", "*"):
        return b""
    prefix = pattern.removesuffix("*")
    if prefix.endswith(".") and is_valid_topic(prefix[:-1]):
        return prefix.encode("ascii")
    if prefix == pattern and is_valid_topic(pattern):
        return wire_topic(pattern)
    raise ValueError(
        f"{pattern!r} is no topic: write one as shop.order, a subtree as shop. or shop.*, everything as '*' "
        "(segments of a-z, 0-9, _ and -)"
    )
