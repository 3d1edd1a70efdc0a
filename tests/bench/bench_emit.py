"""What emit() costs its caller, against bare encoding and against peers.

Two ways to look at it: the median of single calls, each timed, is what a caller waits; the mean of 2,000 calls in a row
also holds what the thread in the background takes of the interpreter meanwhile. Peers are compared by the second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from statistics import median, quantiles

import subjects
from harness import Result, Subject, Worker, alternate, free_port, process, script

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
        contextlib.ExitStack() as stack,
    ):

        def worker(make: Callable[..., AbstractContextManager[Subject]], *arguments: object) -> Worker:
            started = Worker(make, *arguments)
            stack.callback(started.stop)
            return started

        workers = {
            "bson": worker(subjects.bson_encode),
            "mapping": worker(subjects.eventstorm_emit, heard, True, False),
            "keywords": worker(subjects.eventstorm_emit, heard, True, True),
            "unheard": worker(subjects.eventstorm_emit, unheard, False, False),
        }
        peers = {name: worker(make) for name, make in PEERS.items()}
        calls = alternate(workers, rounds, lambda each: each.each(5000))
        means = alternate({**workers, **peers}, rounds, lambda each: each.sample(2000))
    single = {name: median(chain(*samples)) for name, samples in calls.items()}
    mean = {name: median(samples) for name, samples in means.items()}
    p99 = quantiles(chain(*calls["keywords"]), n=100)[98]
    return [
        _against(
            "`emit(topic, name=value, …)`, 7 fields, heard / `bson.encode`", single["keywords"], single["bson"], 1.6
        ),
        _against("`emit(topic, mapping)`, 7 fields, heard / `bson.encode`", single["mapping"], single["bson"], 1.6),
        _against("`emit()` unheard / `bson.encode`", single["unheard"], single["bson"], 0.35),
        _against("`emit()` p99 / its median, the sender busy", p99, single["keywords"], 5),
        _against("`emit()` 2,000 times, all included / `bson.encode`", mean["keywords"], mean["bson"], None),
        *(_against(f"`emit()` 2,000 times / {name}", mean["keywords"], mean[name], 1) for name in PEERS),
    ]


def _against(what: str, ours_ns: float, theirs_ns: float, at_most: float | None) -> Result:
    detail = f"{ours_ns:,.0f} ns against {theirs_ns:,.0f} ns"
    return Result(what, ours_ns / theirs_ns, "x", at_most=at_most, detail=detail)
