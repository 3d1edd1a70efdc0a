"""Run an installed Eventstorm for real: start `up`, emit an event, ask for it, look at the page, stop. No dependencies.

Uses the `eventstorm` command beside the Python that runs this; `nox -s wheels` runs it in an environment that holds
nothing but the wheels.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

COMMAND = str(Path(sysconfig.get_path("scripts")) / "eventstorm")
DEADLINE_S = 30.0
T = TypeVar("T")


def main() -> int:
    """Do it and return the exit code; any failure is an exception, with what `up` printed."""
    with tempfile.TemporaryDirectory() as folder:
        ingress, egress, http = (_free_port() for _ in range(3))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EVENTSTORM_")},
            "EVENTSTORM_ENDPOINT": f"tcp://127.0.0.1:{ingress}",
            "EVENTSTORM_SINK_INGRESS": f"tcp://127.0.0.1:{ingress}",
            "EVENTSTORM_SINK_EGRESS": f"tcp://127.0.0.1:{egress}",
            "EVENTSTORM_SINK_HTTP": f"127.0.0.1:{http}",
            "EVENTSTORM_SINK_STORES": f"duckdb:{folder}/events.duckdb",
        }
        log = Path(folder) / "up.log"
        with log.open("w") as output:
            up = subprocess.Popen(
                [COMMAND, "up"], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            page = _until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{http}/", timeout=5).read().decode())
            assert "<script" in page, page[:200]
            _run(environment, folder, "emit", "shop.order", "total=42.5")
            query = "SELECT count(*) AS n FROM events WHERE topic = 'shop.order'"
            url = f"http://127.0.0.1:{http}"
            _until(lambda: _is_one(_run(environment, folder, "sql", "--json", "--url", url, query)))
            up.send_signal(signal.SIGTERM)
            code = up.wait(10)
            assert code == 0, f"`eventstorm up` ended with {code}"
            assert _is_one(_run(environment, folder, "sql", "--json", query)), "the event is not in the closed store"
        except BaseException:
            print(log.read_text(), file=sys.stderr)
            raise
        finally:
            if up.poll() is None:
                up.kill()
                up.wait()
    print("smoke test passed: an event went from the shell into the store and back")
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(environment: dict[str, str], folder: str, *arguments: str) -> str:
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: exit code {done.returncode}: {done.stderr}"
    return done.stdout


def _is_one(answer: str) -> bool:
    return "1" in json.dumps(json.loads(answer))  # whatever shape the rows have, the count is their only number


def _until(probe: Callable[[], T]) -> T:
    """Return `probe()` once it is true; it may raise until then."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            if value := probe():
                return value
            problem: object = value
        except OSError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_S} s: {problem}")
        time.sleep(0.05)  # between two looks at another process


if __name__ == "__main__":
    sys.exit(main())
