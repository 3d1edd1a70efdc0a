"""Which trace a request belongs to: OpenTelemetry's current span, the caller's, or a new one.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import os
import random
import re
import sys

__all__ = ["draw", "identify", "parse_traceparent"]

# Of a version after 00 there may be more fields behind, which are not for us.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_MAX_TRACEPARENT = 512

# A generator of our own: the application's own numbers stay what they are. Identities need not be secret.
_random = random.Random()
# Made some at a time: amid a request the generator's code is no longer in the processor's caches, and takes five times
# as long as in a row.
_identities: list[dict[str, str]] = []
_AT_A_TIME = 128
_seeded = False


def _forget() -> None:
    """Begin afresh in a forked child, which must not use the numbers of its parent."""
    _random.seed()
    _identities.clear()


os.register_at_fork(after_in_child=_forget)


def identify(traceparent: object) -> dict[str, str]:
    """Return ``trace_id`` and ``span_id`` in hexadecimal, given the request's header if it has one."""
    # Never imported here. While somebody imports it, the function may not be there yet.
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is not None:
        current_span = getattr(opentelemetry, "get_current_span", None)
        if current_span is not None:
            context = current_span().get_span_context()
            if context.is_valid:
                return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    if traceparent is not None:
        given = parse_traceparent(traceparent)
        if given is not None:
            return {"trace_id": given[0], "span_id": given[1]}
    try:
        return _identities.pop()
    except IndexError:
        return _more()


def parse_traceparent(value: object) -> tuple[str, str] | None:
    """Return the trace's and the calling span's identity; None if the header is not as it must be."""
    if not isinstance(value, str) or len(value) > _MAX_TRACEPARENT:
        return None
    found = _TRACEPARENT.fullmatch(value.strip(" \t"))
    if found is None or (found[1] == "00" and found[4] is not None):
        return None
    return found[2], found[3]


def draw() -> float:
    """Return a random number from 0 to below 1."""
    if not _seeded:
        _seed()
    return _random.random()


def _more() -> dict[str, str]:
    """Return new identities, and keep some for the next requests."""
    if not _seeded:
        _seed()
    digits = _random.getrandbits(192 * _AT_A_TIME).to_bytes(24 * _AT_A_TIME, "big").hex()
    made = [
        {"trace_id": digits[at : at + 32], "span_id": digits[at + 32 : at + 48]} for at in range(0, len(digits), 48)
    ]
    mine = made.pop()
    _identities.extend(made)
    return mine


def _seed() -> None:
    global _seeded
    # uWSGI forks its workers in C, where Python's hook does not see it; the process that forks serves no requests.
    _random.seed()
    _seeded = True
