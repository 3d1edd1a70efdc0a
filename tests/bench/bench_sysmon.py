"""What measuring this host every second takes, all topics being listened to."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil

from harness import COMMAND, Result, free_port, process, script

SETTLE_S = 3.0  # imports, the first measurements and the connection to the listener


def run(quick: bool) -> list[Result]:
    """Measure."""
    measured_s = 10 if quick else 60
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with (
        process(*script("listener.py", endpoint, ""), ready="ready"),
        process(f"{COMMAND}-sysmon", "--endpoint", endpoint, ready="ready") as sysmon,
    ):
        time.sleep(SETTLE_S)
        before_s, start = _cpu_s(sysmon.pid), time.perf_counter()
        time.sleep(measured_s)  # what is measured is what it takes meanwhile
        used_s, elapsed_s = _cpu_s(sysmon.pid) - before_s, time.perf_counter() - start
        memory = psutil.Process(sysmon.pid).memory_info().rss
    detail = f"over {measured_s} s, a host of {len(psutil.pids())} processes"
    return [
        Result("`eventstorm-sysmon` at 1 Hz, of one core", used_s / elapsed_s * 100, "%", at_most=0.5, detail=detail),
        Result("`eventstorm-sysmon`, memory", memory / 2**20, "MiB", at_most=40e6 / 2**20, detail="resident"),
    ]


def _cpu_s(pid: int) -> float:
    """Return the CPU time of all threads; Linux tells nanoseconds per thread, elsewhere it is in ticks."""
    if sys.platform == "linux":
        threads = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
