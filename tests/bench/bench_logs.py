"""What reading log files takes: nginx's access log to the wire, and a hundred files in which nothing happens."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bson

from bench_sysmon import _cpu_s
from eventstorm_integrations.logs.nginx import NginxParser
from eventstorm_integrations.logs.settings import LogsSettings
from harness import COMMAND, Result, Subject, Worker, alternate, free_port, process, script

AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0",
    "curl/8.5.0",
]
PLAIN = re.compile(r'([^ ]*) - ([^ ]*) \[([^\]]*)\] "([^"]*)" ([^ ]*) ([^ ]*) "([^"]*)" "([^"]*)"\Z')
NAMES = ("address", "user", "time", "request", "status", "size", "referer", "agent")
FILES = 100
# More than caches hold, so that none holds all of it.
SAMPLE, PART = 50_000, 1000


def lines(count: int) -> Iterator[str]:
    """Yield lines of nginx's `combined`, a thousand for each second.

    As in real logs, few values are frequent and most are rare (Zipf's law): of 50,000 clients, 20,000 paths and 2,000
    browsers, and nearly every query is another one; a kinder log would flatter who keeps what was seen before.
    """
    chance = random.Random(7)

    def zipf(most: int) -> int:
        return int(most ** chance.random())

    for number in range(count):
        at = number // 1000
        client, agent = zipf(50_000), zipf(2_000)
        browser = AGENTS[agent % len(AGENTS)].replace(".0", f".{agent // len(AGENTS)}")
        query = f"?page={chance.randrange(100)}&q={chance.randrange(10**6)}" if chance.random() < 0.4 else ""
        yield (
            f"{client % 223 + 1}.{client // 223 % 256}.{client * 7 % 256}.{client * 31 % 256} - - "
            f"[24/Nov/2026:{at // 3600 % 24:02}:{at // 60 % 60:02}:{at % 60:02} +0000] "
            f'"GET /shop/item/{zipf(20_000)}{query} HTTP/1.1" {(200, 200, 304, 404)[number % 4]} '
            f'{number * 31 % 99_991} "https://shop.example/list/{zipf(1000)}" "{browser}"'
        )


def _parts() -> Iterator[list[str]]:
    """Yield the sample's lines, some at a time, again and again."""
    sample = list(lines(SAMPLE))
    return itertools.cycle([sample[at : at + PART] for at in range(0, SAMPLE, PART)])


@contextlib.contextmanager
def least() -> Iterator[Subject]:
    """One match of a compiled regular expression, and an encoded document of its groups: the least possible."""
    parts, match, encode = _parts(), PLAIN.match, bson.encode

    def call() -> None:
        for line in next(parts):
            encode(dict(zip(NAMES, match(line).groups(), strict=True)))  # type: ignore[union-attr]

    yield Subject(call)


@contextlib.contextmanager
def parsed() -> Iterator[Subject]:
    """A line becomes a `http.hit`, which is encoded."""
    parts, encode = _parts(), NginxParser(LogsSettings(timezone="UTC")).encode

    def call() -> None:
        for line in next(parts):
            encode(line, 0.0)

    yield Subject(call)


def run(quick: bool) -> list[Result]:
    """Measure."""
    return [*_parsing(quick), *_to_the_wire(quick), _at_rest(quick)]


def _parsing(quick: bool) -> list[Result]:
    workers = {"least": Worker(least), "parsed": Worker(parsed)}
    try:
        samples = alternate(workers, 5 if quick else 15, lambda worker: worker.sample(SAMPLE // PART))
    finally:
        for worker in workers.values():
            worker.stop()
    medians = {name: statistics.median(each) for name, each in samples.items()}
    ratio = medians["least"] / medians["parsed"]
    detail = f"{medians['parsed'] / PART / 1e3:.2f} µs a line, against one `re` match and `bson.encode` of its groups"
    return [
        Result(
            "nginx `combined` parsed and encoded: speed / the least possible", ratio, "x", at_least=0.5, detail=detail
        )
    ]


def _to_the_wire(quick: bool) -> list[Result]:
    """Read a file with the program, and, if it is there, with GoAccess (``apt-get install goaccess``)."""
    count = 100_000 if quick else 600_000
    with tempfile.TemporaryDirectory() as folder:
        path, empty = Path(folder, "access.log"), Path(folder, "empty.log")
        path.write_text("".join(f"{line}\n" for line in lines(count)))
        empty.write_text(next(lines(1)) + "\n")
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        with process(*script("listener.py", endpoint, ""), ready="ready"):
            samples = []
            for _ in range(3 if quick else 5):
                idle_s, idle_cpu_s = _once(empty, endpoint)
                busy_s, busy_cpu_s = _once(path, endpoint)
                samples.append((count / (busy_s - idle_s), count / (busy_cpu_s - idle_cpu_s)))
        elapsed, cpu = (statistics.median(each) for each in zip(*samples, strict=True))
        peer = _goaccess(path, elapsed, count)
    detail = f"{count} lines, without the start of the program; {cpu:,.0f} lines a second of CPU time"
    return [Result("nginx `combined`, file → wire", elapsed, "lines/s", at_least=150_000, detail=detail), *peer]


def _goaccess(path: Path, lines_s: float, count: int) -> list[Result]:
    """Compare with GoAccess, which reads the same lines and counts what is in them, if it is there."""
    if not (program := shutil.which("goaccess")):
        return []
    samples = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [program, str(path), "--log-format=COMBINED", "--no-progress", "-o", f"{path}.json"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        samples.append(count / (time.perf_counter() - start))
    theirs = statistics.median(samples)
    detail = f"which counts {theirs:,.0f} lines/s"
    return [Result("the same / GoAccess", lines_s / theirs, "x", at_least=1.0, detail=detail)]


def _once(path: Path, endpoint: str) -> tuple[float, float]:
    """Read a file; returns the seconds that it took, and those of CPU time."""
    start = time.perf_counter()
    with subprocess.Popen(
        [f"{COMMAND}-logs", "nginx", "--once", "--endpoint", endpoint, str(path)], stderr=subprocess.DEVNULL
    ) as running:
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise RuntimeError(f"it ended with {running.returncode}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def _at_rest(quick: bool) -> Result:
    measured_s = 10 if quick else 60
    with tempfile.TemporaryDirectory() as folder:
        for number in range(FILES):
            Path(folder, f"{number}.log").write_text(next(lines(1)) + "\n")
        command = [f"{COMMAND}-logs", "nginx", "--print", "--state", f"{folder}/state", f"{folder}/*.log"]
        with process(*command, ready="ready", stdout=subprocess.DEVNULL) as follower:
            time.sleep(3.0)  # until it has seen that nothing happens
            before_s, start = _cpu_s(follower.pid), time.perf_counter()
            time.sleep(measured_s)  # what is measured is what it takes meanwhile
            share = (_cpu_s(follower.pid) - before_s) / (time.perf_counter() - start) * 100
    return Result(
        f"{FILES} followed files at rest, of one core", share, "%", at_most=0.2, detail=f"over {measured_s} s"
    )
