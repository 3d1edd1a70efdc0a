"""How long an event takes from emit() to the line that `eventstorm tap` prints, at 1,000 events a second."""

from __future__ import annotations

import json
import subprocess
import time
from statistics import median, quantiles

from harness import COMMAND, TOPIC, Result, free_port, process, script

RATE = 1000


def run(quick: bool) -> list[Result]:
    """Measure."""
    events = RATE * (3 if quick else 20)
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    with (
        process(COMMAND, "router", "--ingress", ingress, "--egress", egress, ready=ingress),
        process(
            COMMAND, "tap", "--json", TOPIC, environment={"EVENTSTORM_EGRESS": egress}, stdout=subprocess.PIPE
        ) as tap,
        subprocess.Popen(script("emitter.py", ingress, str(events), str(RATE)), stdout=subprocess.DEVNULL) as emitter,
    ):
        assert tap.stdout is not None
        delays = []
        for _ in range(events):
            line = tap.stdout.readline()
            delays.append(time.time_ns() - _emitted_at(json.loads(line)))
        emitter.wait(30)
    delays_ms = [delay / 1e6 for delay in delays]
    p99 = quantiles(delays_ms, n=100)[98]
    return [
        Result(
            "`emit()` → `eventstorm tap`, p99 at 1,000 events/s",
            p99,
            "ms",
            at_most=60,
            detail=f"median {median(delays_ms):.1f} ms, worst {max(delays_ms):.1f} ms of {events:,}",
        )
    ]


def _emitted_at(event: dict[str, object]) -> int:
    data = event["data"]
    assert isinstance(data, dict)
    t = data["t"]
    return int(t["$numberLong"]) if isinstance(t, dict) else int(t)
