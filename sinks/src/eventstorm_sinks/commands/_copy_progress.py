"""What a person sees of a copy, and how it is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from eventstorm_sinks.copying import Copied, Notice, Selection
from eventstorm_sinks.stores import Readable, TopicSummary

if TYPE_CHECKING:
    from rich.progress import Task

__all__ = ["ended_by_signal", "expected", "progress"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@contextlib.contextmanager
def ended_by_signal() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt with the exit code; a second one ends the process at once.

    What is being inserted is waited for then, since another thread does that, which no signal reaches.
    """
    codes: list[int] = []

    def handle(number: int, frame: object) -> None:
        if codes:
            os._exit(128 + number)
        codes.append(128 + number)
        raise KeyboardInterrupt(128 + number)

    usual = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception:
        if codes:  # DuckDB, for one, tells of a signal by an error of its own
            raise KeyboardInterrupt(codes[0]) from None
        raise
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


@runtime_checkable
class _Counted(Protocol):
    def topics(self) -> list[TopicSummary]:
        """Return what topics there are."""
        ...


def expected(source: Readable, selection: Selection) -> int | None:
    """Return how many events are to be read; None if the store cannot tell without reading them, or nobody looks."""
    if not sys.stderr.isatty() or not isinstance(source, _Counted):
        return None
    if not selection.is_whole():
        return None
    chooses = selection.chooser()
    return sum(each.events for each in source.topics() if chooses(each.topic))


@contextlib.contextmanager
def progress(total: int | None) -> Iterator[Notice]:
    """Show how far it is, if somebody is there to see it."""
    if not sys.stderr.isatty():
        yield lambda copied: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    # Else what is printed to standard output would pass through it, and take ten times as long.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)
    with bar:
        task = bar.add_task("looking for the first event", total=total, rate="")

        def show(copied: Copied) -> None:
            bar.update(task, completed=copied.read, description=_day(copied.last_ms), rate=_rate(bar.tasks[0]))

        yield show


def _rate(task: Task) -> str:
    return f"{task.speed:,.0f}/s" if task.speed else ""


def _day(ms: int | None) -> str:
    """Return the time of the event that it is at."""
    try:
        return "" if ms is None else f"{_EPOCH + timedelta(milliseconds=ms):%Y-%m-%d %H:%M}"
    except OverflowError:
        return ""
