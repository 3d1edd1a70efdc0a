"""Supervising: a sink of several processes, which are started together, started again when they end, and stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from eventstorm.cli import WRONG_USAGE
from eventstorm.endpoints import check_bind, split_host_port
from eventstorm.errors import SettingError, StartError
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import check_sharing
from eventstorm_sinks.worker import COMMAND, Order, Report, StoreReport

if TYPE_CHECKING:
    from eventstorm_router import Router

__all__ = ["Workers"]

log = logging.getLogger(__name__)

# A worker that ends is started again after so long, twice as long after each further time, and at once again when it
# has run for a while.
FIRST_RESTART_S, LAST_RESTART_S, RAN_WELL_S = 0.2, 30.0, 60.0
# A sink stops within ten seconds; who does not is killed.
STOP_S = 12.0

_decode_report = msgspec.json.Decoder(Report).decode


class _News(NamedTuple):
    worker: _Worker
    process: subprocess.Popen[bytes]
    report: Report | None
    """None: it has ended."""


@dataclass(eq=False)
class _Worker:
    number: int
    order: bytes
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    restart_at_s: float | None = None
    restart_wait_s: float = FIRST_RESTART_S
    failure: str = ""
    page: str = ""
    last: Report = field(default_factory=Report)
    """Of the process that runs, or ran last."""


class Workers:
    """Processes that share the work of one sink, from `start` (or ``with``) until `stop`. For one thread.

    With ``settings.embed_router`` this process runs the router. With ``settings.http`` each worker serves a page of its
    own share, on ports that follow one another.
    """

    def __init__(self, settings: SinkSettings, switch_interval_s: float) -> None:
        """Check `settings`.

        Raises:
            SettingError: a store cannot be written by several processes, or an address is open to other machines and
                ``settings.insecure`` is not set.
        """
        if os.name != "posix":
            raise SettingError("sink.workers: this system's processes cannot share the work of a sink; leave it at 1")
        for url in settings.stores:
            check_sharing(url)
        if settings.http:
            check_bind(settings.http, "sink.http", insecure=settings.insecure)
        if settings.embed_router:
            check_bind(settings.ingress, "sink.ingress", insecure=settings.insecure)
            check_bind(settings.egress, "sink.egress", insecure=settings.insecure)
        self._settings, self._switch_interval_s = settings, switch_interval_s
        self._share = Share.parse(settings.share, settings.share_by, "sink.share")
        self.router: Router | None = None
        self.ingress: str | None = None
        """Where an embedded router listens, once started."""
        self.egress = settings.egress
        self._workers: list[_Worker] = []
        self._news: queue.Queue[_News] = queue.Queue()
        self._ended = Report()
        """What those did in all that ended by themselves."""
        self._threads: list[threading.Thread] = []

    @property
    def pages(self) -> list[str]:
        """Where the workers' pages are."""
        return [worker.page for worker in self._workers if worker.page]

    @property
    def processes(self) -> list[int]:
        """The process ids of those that run."""
        return [worker.process.pid for worker in self._workers if worker.process]

    def start(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        """Start the router if it is to be embedded, and the workers; return when all are ready, or `is_stopping`.

        Raises:
            SettingError: a worker says that something is wrong with the settings.
            StartError: one cannot start.
        """
        try:
            self._start(is_stopping)
        except BaseException:
            self.stop()
            raise

    def _start(self, is_stopping: Callable[[], bool]) -> None:
        if self._settings.embed_router:
            self._start_router()
        for number in range(1, self._settings.workers + 1):
            self._workers.append(_Worker(number, self._order(number)))
        for worker in self._workers:
            self._spawn(worker)
        waiting = set(self._workers)
        while waiting and not is_stopping():
            for worker, process, report in self._take_news(0.1):
                if report is None:
                    kind = SettingError if process.returncode == WRONG_USAGE else StartError
                    raise kind(worker.failure or f"worker {worker.number} ended before it was ready")
                if report.ready:
                    waiting.discard(worker)

    def _start_router(self) -> None:
        from eventstorm_router import Router, RouterSettings

        settings = self._settings
        self.router = Router(
            RouterSettings(ingress=settings.ingress, egress=settings.egress, insecure=settings.insecure)
        )
        self.router.start()
        self.ingress, self.egress = self.router.ingress, self.router.egress

    def _order(self, number: int) -> bytes:
        settings = replace(
            self._settings,
            workers=1,
            share=str(self._share.part(number, self._settings.workers)),
            embed_router=False,
            egress=self.egress,
            http=_following(self._settings.http, number - 1),
        )
        return msgspec.json.encode(Order(settings, self.ingress, self._switch_interval_s)) + b"\n"

    def _spawn(self, worker: _Worker) -> None:
        # In a session of its own: Ctrl-C is for this process, which then stops it.
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        worker.process, worker.started_s, worker.restart_at_s = process, time.monotonic(), None
        worker.failure = worker.page = ""
        thread = threading.Thread(
            target=self._listen, args=(worker, process), name=f"eventstorm-worker-{worker.number}", daemon=True
        )
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already, and is heard of so
            process.stdin.write(worker.order)
            process.stdin.flush()

    def _listen(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._news.put(_News(worker, process, _decode_report(line)))
        process.wait()
        self._news.put(_News(worker, process, None))

    def _take_news(self, wait_s: float) -> list[_News]:
        """Take in what the workers have told, waiting for the first."""
        taken: list[_News] = []
        try:
            taken.append(self._news.get(timeout=wait_s))
            while True:
                taken.append(self._news.get_nowait())
        except queue.Empty:
            pass
        for worker, _, report in taken:
            if report is None:
                continue
            worker.failure = report.failed or worker.failure
            if not report.failed:
                worker.last = report
            if report.ready:
                worker.page = report.ready.removeprefix("-")
        return taken

    def watch(self, wait_s: float) -> None:
        """Take in what the workers tell for a while, and start those again that have ended."""
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            for worker, process, report in self._take_news(min(left_s, 0.1)):
                if report is None and process is worker.process:
                    self._note_end(worker, process)
            for worker in self._workers:
                if worker.restart_at_s is not None and time.monotonic() >= worker.restart_at_s:
                    self._spawn(worker)

    def _note_end(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        _close_input(process)
        self._ended = _sum_of(self._ended, worker.last)
        worker.last = Report()
        now_s = time.monotonic()
        if now_s - worker.started_s > RAN_WELL_S:
            worker.restart_wait_s = FIRST_RESTART_S
        worker.process, worker.restart_at_s = None, now_s + worker.restart_wait_s
        log.warning(
            "worker %d of %d ended%s; what it had not stored is lost, and counted. It starts again in %g s",
            worker.number, len(self._workers), _how(process.returncode, worker.failure), worker.restart_wait_s,
        )  # fmt: skip
        worker.restart_wait_s = min(worker.restart_wait_s * 2, LAST_RESTART_S)

    def stop(self) -> None:
        """Stop the workers and the router, within 13 seconds. A second call does nothing."""
        running = [worker.process for worker in self._workers if worker.process]
        for process in running:
            _close_input(process)
        kill_at_s = time.monotonic() + STOP_S
        for process in running:
            try:
                process.wait(max(kill_at_s - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                log.error("worker %d does not stop within %g s; killed", process.pid, STOP_S)
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join()
        self._take_news(0)
        if self.router:
            self.router.stop()
            self.router = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def report(self) -> Report:
        """Return what all workers have done so far, as they last told: a second ago, of one that was killed."""
        return _sum_of(self._ended, *(worker.last for worker in self._workers))


def _sum_of(*reports: Report) -> Report:
    total = Report()
    stores: dict[str, StoreReport] = {}
    for each in reports:
        total.received += each.received
        total.lost_source += each.lost_source
        total.lost_way += each.lost_way
        total.malformed += each.malformed
        for store in each.stores:
            sum_ = stores.setdefault(store.url, StoreReport(store.url, 0, 0, 0, 0, ""))
            sum_.stored += store.stored
            sum_.refused += store.refused
            sum_.overflowed += store.overflowed
            sum_.queue_bytes += store.queue_bytes
            sum_.last_error = store.last_error or sum_.last_error
    total.stores = list(stores.values())
    return total


def _following(address: str, count: int) -> str:
    """Return the address whose port is so many further; port 0 is a free one anyway."""
    if not address:
        return ""
    _, port = split_host_port(address, "sink.http")
    host = address.rpartition(":")[0]
    return f"{host}:{port + count if port else 0}"


def _how(code: int, failure: str) -> str:
    if failure:
        return f": {failure}"
    return f" by signal {-code}" if code < 0 else f" with exit code {code}"


def _close_input(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
