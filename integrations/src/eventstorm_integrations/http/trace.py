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
_random_bits = _random.getrandbits
os.register_at_fork(after_in_child=_random.seed)
_seeded = False


def identify(traceparent: str | None) -> tuple[str, str]:
    """Return a trace's and a span's identity in hexadecimal, given the request's header if it has one."""
    # Never imported here. While somebody imports it, the function may not be there yet.
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is not None:
        context = current_span().get_span_context()
        if context.is_valid:
            return f"{context.trace_id:032x}", f"{context.span_id:016x}"
    if traceparent is not None:
        given = parse_traceparent(traceparent)
        if given is not None:
            return given
    return _new()


def parse_traceparent(value: str) -> tuple[str, str] | None:
    """Return the trace's and the calling span's identity; None if the header is not as it must be."""
    if len(value) > _MAX_TRACEPARENT:
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


def _new() -> tuple[str, str]:
    if not _seeded:
        _seed()
    # By way of bytes, which takes half the time of formatting a number.
    digits = _random_bits(192).to_bytes(24, "big").hex()
    return digits[:32], digits[32:]


def _seed() -> None:
    global _seeded
    # uWSGI forks its workers in C, where Python's hook does not see it; the process that forks serves no requests.
    _random.seed()
    _seeded = True
