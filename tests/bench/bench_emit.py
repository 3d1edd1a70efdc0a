"""What emit() costs its caller, against bare encoding and against peers."""

from __future__ import annotations

from statistics import median, quantiles

import subjects
from harness import Result, Worker, alternate, free_port, process, script

PEERS = {
    "fluent-logger asyncsender": subjects.fluent,
    "logging QueueHandler": subjects.logging_queue,
    "OpenTelemetry logger.emit": subjects.opentelemetry_logs,
    "structlog to JSON": subjects.structlog_json,
    "sentry logger.info": subjects.sentry_logs,
}


def run(quick: bool) -> list[Result]:
    """Measure."""
    rounds = 8 if quick else 60
    heard, unheard = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    with (
        process(*script("listener.py", heard, ""), ready="ready"),
        process(*script("listener.py", unheard), ready="ready"),
    ):
        workers = {
            "bson": Worker(subjects.bson_encode),
            "mapping": Worker(subjects.eventstorm_emit, heard, True, False),
            "keywords": Worker(subjects.eventstorm_emit, heard, True, True),
            "unheard": Worker(subjects.eventstorm_emit, unheard, False, False),
            **{name: Worker(make) for name, make in PEERS.items()},
        }
        try:
            samples = alternate(workers, rounds, 2000)
            each = sorted(ns for _ in range(rounds) for ns in workers["mapping"].each(5000))
        finally:
            for worker in workers.values():
                worker.stop()
    cost = {name: median(values) for name, values in samples.items()}
    bson = cost["bson"]
    p99 = quantiles(each, n=100)[98]

    def against_bson(name: str, what: str, at_most: float) -> Result:
        return Result(
            what, cost[name] / bson, "x", at_most=at_most, detail=f"{cost[name]:.0f} ns against {bson:.0f} ns"
        )

    return [
        against_bson("mapping", "`emit(topic, mapping)`, 7 fields, heard / `bson.encode`", 1.6),
        against_bson("keywords", "`emit(topic, **fields)`, 7 fields, heard / `bson.encode`", 1.6),
        against_bson("unheard", "`emit()` unheard / `bson.encode`", 0.35),
        Result(
            "`emit()` p99 / median while the sender is busy",
            p99 / median(each),
            "x",
            at_most=5,
            detail=f"{p99:.0f} ns against {median(each):.0f} ns, each call timed",
        ),
        *(
            Result(
                f"`emit()` / {name}",
                cost["keywords"] / cost[name],
                "x",
                at_most=1,
                detail=f"{cost['keywords']:.0f} ns against {cost[name]:.0f} ns",
            )
            for name in PEERS
        ),
    ]
