"""A worker: one of several processes of a sink, each with a share of the events.

It is started by `eventstorm_sinks.supervise`, which writes one line, the `Order`, to its standard input and keeps that
open: when it closes, whatever the reason, the worker stops. On standard output it reports, a line each, until its last
one. So passwords in URLs of stores are neither in its arguments nor in its environment.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import time

import msgspec

from eventstorm.cli import DONE, FAILED, NOT_STARTED, WRONG_USAGE
from eventstorm.daemon import leave, stop_signal
from eventstorm.errors import EventstormError, SettingError, StartError
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink

__all__ = ["COMMAND", "Order", "Report", "StoreReport", "report_of"]

# Nothing of the folder that it happens to be started in is imported: an empty entry stands for that.
COMMAND = "import sys; sys.path[:] = filter(None, sys.path); from eventstorm_sinks.worker import main; sys.exit(main())"
# How often it looks whether it is to stop, and reports.
_LOOK_S, _REPORT_S = 0.1, 1.0


class Order(msgspec.Struct):
    """What a worker is to do."""

    settings: SinkSettings
    ingress: str | None
    """The router's, if the sink's own events are to be published there."""
    switch_interval_s: float


class StoreReport(msgspec.Struct):
    """What a worker has done for one store since it started."""

    url: str
    stored: int
    refused: int
    overflowed: int
    queue_bytes: int
    last_error: str


class Report(msgspec.Struct):
    """What a worker has done since it started."""

    ready: str = ""
    """In the first report: where its page is, if it has one; a dash if it has none."""
    failed: str = ""
    """Why it ends by itself, if it does."""
    received: int = 0
    lost_source: int = 0
    lost_way: int = 0
    malformed: int = 0
    stores: list[StoreReport] = []


def main() -> int:
    """Run a worker until standard input closes, or SIGTERM."""
    with stop_signal() as stop:
        # Ctrl-C is for the process that the user started.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            order = msgspec.json.decode(_read_line(), type=Order)
        except msgspec.DecodeError:
            return WRONG_USAGE
        share = order.settings.share
        logging.basicConfig(format=f"eventstorm sink {share}: %(message)s", level=logging.WARNING)
        sys.setswitchinterval(order.switch_interval_s)
        try:
            sink = Sink(order.settings, order.ingress)
            with sink:
                _tell(report_of(sink, sink.web.url if sink.web else "-"))
                report_at_s = time.monotonic() + _REPORT_S
                while not stop.is_set() and not _input_closed():
                    if time.monotonic() >= report_at_s:
                        report_at_s = time.monotonic() + _REPORT_S
                        _tell(report_of(sink))
            _tell(report_of(sink))
        except EventstormError as error:
            _tell(Report(failed=str(error)))
            return _code(error)
    return leave(DONE)


def _code(error: EventstormError) -> int:
    if isinstance(error, StartError):
        return NOT_STARTED
    return WRONG_USAGE if isinstance(error, SettingError) else FAILED


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (read := os.read(sys.stdin.fileno(), 2**16)):
        line += read
    return line


def _input_closed() -> bool:
    """Wait a moment for standard input to close. Nothing more is written there."""
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], _LOOK_S)
    return bool(readable) and not os.read(sys.stdin.fileno(), 2**16)


def _tell(report: Report) -> None:
    line = msgspec.json.encode(report) + b"\n"
    with contextlib.suppress(BrokenPipeError):  # nobody is there any more; standard input tells so too
        os.write(sys.stdout.fileno(), line)  # in one piece: it is shorter than a pipe takes at once


def report_of(sink: Sink, ready: str = "") -> Report:
    """Return what a sink has done since it started."""
    rows = sink.ledger.snapshot()
    stats = [writer.stats() for writer in sink.writers]
    return Report(
        ready=ready,
        received=sum(row.received for row in rows),
        lost_source=sum(row.lost_source for row in rows),
        lost_way=sum(row.lost_way for row in rows),
        malformed=sum(sink.malformed.values()),
        stores=[
            StoreReport(each.url, each.stored, each.refused, each.overflowed, each.queue_bytes, each.last_error)
            for each in stats
        ],
    )
