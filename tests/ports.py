"""Ports for what tests start."""

from __future__ import annotations

import contextlib
import random
import socket

# Below those that systems give to whoever asks for any, and to outgoing connections: so nobody takes one in between,
# neither before it is bound first nor while its server is away.
_RANGE = range(15_000, 32_000)
_given: set[int] = set()


def free_port(*addresses: str) -> int:
    """Return a port that nobody uses now on any of these addresses, 127.0.0.1 if none is named; never one again."""
    while True:
        # The system's own generator, since tests that make theirs repeatable make this module's so too.
        port = random.SystemRandom().choice(_RANGE)
        if port in _given:
            continue
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for address in addresses or ("127.0.0.1",):
                stack.enter_context(socket.socket()).bind((address, port))
            _given.add(port)
            return port
