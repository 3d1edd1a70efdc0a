"""One emitting process, a router, a counting sink: three processes, against pyzmq with one event a message."""

from __future__ import annotations

import json
import subprocess
from statistics import median

from harness import COMMAND, Result, free_port, process, script


def run(quick: bool) -> list[Result]:
    """Measure, in turn."""
    rounds, events = (1, 200_000) if quick else (5, 2_000_000)
    batched, single, lost = [], [], []
    for _ in range(rounds):
        rate, arrived = _pass("batch", events)
        batched.append(rate)
        lost.append(1 - arrived / events)
        single.append(_pass("one", events // 10)[0])
    detail = f"median of {rounds}; {max(lost):.2%} lost at most"
    return [
        Result("one process → router → counting sink", median(batched), "events/s", at_least=200_000, detail=detail),
        Result(
            "the same / pyzmq with one event a message",
            median(batched) / median(single),
            "x",
            at_least=3,
            detail=f"{median(single):,.0f} events/s",
        ),
    ]


def _pass(kind: str, events: int) -> tuple[float, int]:
    """Return events a second that arrived, and how many."""
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    with (
        process(COMMAND, "router", "--ingress", ingress, "--egress", egress, ready=ingress),
        process(*script("counter.py", egress, kind, "2"), ready="ready", stdout=subprocess.PIPE) as counter,
    ):
        emitter = (
            script("emitter.py", ingress, str(events), "0")
            if kind == "batch"
            else script("raw_emitter.py", ingress, str(events))
        )
        subprocess.run(emitter, check=True, stdout=subprocess.DEVNULL, timeout=300)
        assert counter.stdout is not None
        answer = json.loads(counter.stdout.readline())
    return answer["events"] / answer["seconds"], answer["events"]
