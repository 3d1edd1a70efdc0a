"""What a process that emits at full speed with no router grows by."""

from __future__ import annotations

import json
import subprocess

from eventstorm.settings import SdkSettings
from harness import Result, free_port, script


def run(quick: bool) -> list[Result]:
    """Measure."""
    seconds = 5 if quick else 60
    done = subprocess.run(
        script("memory.py", f"tcp://127.0.0.1:{free_port()}", str(seconds)),
        check=True,
        stdout=subprocess.PIPE,
        timeout=seconds + 60,
    )
    seen = json.loads(done.stdout)
    limit = SdkSettings().buffer_bytes
    return [
        Result(
            f"memory of a process emitting for {seconds} s with no router, above its start",
            (seen["peak"] - seen["base"]) / 2**20,
            "MiB",
            at_most=(limit + 10e6) / 2**20,
            detail=f"buffer limit {limit / 2**20:.0f} MiB; {seen['emitted']:,} calls",
        )
    ]
