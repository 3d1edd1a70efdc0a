"""A process that emits. Usage: emitter.py ENDPOINT EVENTS RATE; RATE 0 is as fast as it goes.

Each event carries when it was emitted, as `t`, nanoseconds since 1970. Waits until the topic is heard, and prints how
many events were accepted, and what the source says of them, as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time

import eventstorm
from harness import FIELDS, TOPIC, until


def main() -> None:
    """Emit."""
    endpoint, count, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    eventstorm.configure(endpoint=endpoint, service="bench")
    eventstorm.emit("bench.hello")
    # Until the subscriptions are known every topic counts as wanted; then this one no longer does.
    until(lambda: eventstorm.wanted(TOPIC) and not eventstorm.wanted("bench.unheard"), 30)
    emit, accepted = eventstorm.emit, 0
    start = time.perf_counter()
    for index in range(count):
        if rate:
            pause = start + index / rate - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            accepted += emit(TOPIC, t=time.time_ns(), **FIELDS)
        else:
            accepted += emit(TOPIC, FIELDS)
    elapsed = time.perf_counter() - start
    eventstorm.close()
    stats = eventstorm.stats()
    account = {"source_id": stats["source_id"], **stats["topics"][TOPIC]}
    print(json.dumps({"accepted": accepted, "seconds": elapsed, **account}))


main()
