"""What the launcher adds to the start of a program that imports Flask, in CPU time, beside OpenTelemetry's."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from statistics import median

from harness import Result, free_port

SCRIPTS = Path(sysconfig.get_path("scripts"))
PROGRAM = (sys.executable, "-c", "import flask")
# An exporter that does nothing, as with the requests.
QUIET = {f"OTEL_{each}_EXPORTER": "none" for each in ("TRACES", "METRICS", "LOGS")}


def run(quick: bool) -> list[Result]:
    """Start each in turn, and take medians."""
    commands = {"bare": PROGRAM, "eventstorm": (str(SCRIPTS / "eventstorm-instrument"), *PROGRAM)}
    peer = SCRIPTS / "opentelemetry-instrument"
    if peer.exists():
        commands["opentelemetry"] = (str(peer), *PROGRAM)
    else:
        print("no OpenTelemetry: opentelemetry-instrument is not installed", file=sys.stderr)
    environment = {**os.environ, **QUIET, "EVENTSTORM_ENDPOINT": f"tcp://127.0.0.1:{free_port()}"}
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(5 if quick else 21):
        for name, command in commands.items():
            samples[name].append(_cpu_s(command, environment))
    bare = median(samples.pop("bare"))
    added = {name: median(each) - bare for name, each in samples.items()}
    what = "a program that imports Flask, started by eventstorm-instrument: added CPU time"
    rows = [Result(what, added["eventstorm"] * 1000, "ms", detail=f"to {bare * 1000:.0f} ms, the launcher's own in")]
    if "opentelemetry" in added:
        theirs = added["opentelemetry"]
        detail = f"which adds {theirs * 1000:.0f} ms"
        rows.append(
            Result("the same / opentelemetry-instrument", added["eventstorm"] / theirs, "x", at_most=1.0, detail=detail)
        )
    return rows


def _cpu_s(command: tuple[str, ...], environment: dict[str, str]) -> float:
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise RuntimeError(f"{command[0]} ended with {running.returncode}")
    return usage.ru_utime + usage.ru_stime
