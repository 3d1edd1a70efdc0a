"""What all benchmarks share: results and their table, workers that are measured in turn, processes and waiting."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import platform
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
COMMAND = str(Path(sysconfig.get_path("scripts")) / "eventstorm")
TOPIC = "http.hit"
# Seven fields as a web application has them: text, numbers and a nested document.
FIELDS: dict[str, Any] = {
    "method": "GET",
    "route": "/shop/{item}",
    "path": "/shop/4711",
    "status": 200,
    "size": 15_388,
    "duration": 0.01234,
    "client": "192.0.2.17",
}


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    what: str
    value: float
    unit: str
    """The unit of `value`, or ``x`` for a ratio."""
    at_most: float | None = None
    at_least: float | None = None
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the target is met; without one, yes."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


@dataclass(frozen=True)
class Subject:
    """Something that is timed."""

    call: Callable[[], object]
    settle: Callable[[], object] = lambda: None
    """Waits until the work that calls left behind is done, so that it does not disturb the next sample."""


def machine() -> str:
    """Describe this machine in one line."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return (
        f"{model}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def table(results: list[Result]) -> str:
    """Lay results out as a Markdown table."""
    lines = ["| what | measured | target | | |", "|---|---:|---:|---|---|"]
    for each in results:
        target, verdict = "", ""
        if each.at_most is not None:
            target, verdict = f"≤ {_number(each.at_most)}", "met" if each.passed else "**missed**"
        elif each.at_least is not None:
            target, verdict = f"≥ {_number(each.at_least)}", "met" if each.passed else "**missed**"
        lines.append(f"| {each.what} | {_number(each.value)} {each.unit} | {target} | {verdict} | {each.detail} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Worker:
    """A process of its own that holds one subject, so that the threads of one do not disturb another.

    `make` is a module's function that takes `arguments` and returns a context manager of a `Subject`.
    """

    def __init__(self, make: Callable[..., AbstractContextManager[Subject]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        assert self._connection.recv() == "ready"

    def sample(self, calls: int) -> float:
        """Return the mean nanoseconds of one call among `calls` in a row."""
        return self._ask("sample", calls)  # type: ignore[no-any-return]

    def each(self, calls: int) -> list[int]:
        """Return the nanoseconds of each of `calls` in a row."""
        return self._ask("each", calls)  # type: ignore[no-any-return]

    def stop(self) -> None:
        """End the process."""
        self._connection.send(("stop", 0))
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def _ask(self, what: str, calls: int) -> Any:
        self._connection.send((what, calls))
        return self._connection.recv()


def _serve(
    connection: multiprocessing.connection.Connection,
    make: Callable[..., AbstractContextManager[Subject]],
    arguments: tuple[object, ...],
) -> None:
    clock = time.perf_counter_ns
    with make(*arguments) as subject:
        call = subject.call
        for _ in range(1000):  # warm up
            call()
        subject.settle()
        connection.send("ready")
        while True:
            what, calls = connection.recv()
            if what == "stop":
                return
            answer: object
            if what == "sample":
                start = clock()
                for _ in range(calls):
                    call()
                answer = (clock() - start) / calls
            else:
                times = []
                for _ in range(calls):
                    start = clock()
                    call()
                    times.append(clock() - start)
                answer = times
            subject.settle()
            connection.send(answer)


def alternate(workers: dict[str, Worker], rounds: int, sample: Callable[[Worker], T]) -> dict[str, list[T]]:
    """Sample the workers in turn, one at a time, starting with another one each round."""
    names = list(workers)
    samples: dict[str, list[T]] = {name: [] for name in names}
    for index in range(rounds):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            samples[name].append(sample(workers[name]))
    return samples


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(
    *command: str, ready: str = "", environment: dict[str, str] | None = None, stdout: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program, yield it once it has printed a line with `ready` to standard error, and end it afterwards."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSTORM_")}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=stdout, text=True, env={**clean, **(environment or {})}
    ) as running:
        try:
            assert running.stderr is not None
            if ready and not any(ready in line for line in iter(running.stderr.readline, "")):
                raise RuntimeError(f"{command} ended without being ready: {running.wait(10)}")
            yield running
        finally:
            running.terminate()
            try:
                running.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                running.kill()


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a helper script beside this file."""
    return (sys.executable, str(Path(__file__).parent / name), *arguments)


def until(probe: Callable[[], Any], deadline_s: float, pause_s: float = 0.01) -> Any:
    """Return `probe()` once it is true; an OSError counts as not yet."""
    give_up = time.monotonic() + deadline_s
    while True:
        with contextlib.suppress(OSError):
            if value := probe():
                return value
        if time.monotonic() > give_up:
            raise TimeoutError(f"not within {deadline_s} s: {probe}")
        time.sleep(pause_s)
