"""A process that emits at full speed with no router. Usage: memory.py ENDPOINT SECONDS; prints bytes as JSON."""

from __future__ import annotations

import json
import sys
import time

import psutil

import eventstorm
from harness import FIELDS, TOPIC


def main() -> None:
    """Emit, and watch."""
    eventstorm.configure(endpoint=sys.argv[1], service="bench")
    own = psutil.Process()
    base = peak = own.memory_info().rss
    emitted = 0
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        for _ in range(10_000):
            eventstorm.emit(TOPIC, FIELDS)
        emitted += 10_000
        peak = max(peak, own.memory_info().rss)
    print(json.dumps({"base": base, "peak": peak, "emitted": emitted}))


main()
