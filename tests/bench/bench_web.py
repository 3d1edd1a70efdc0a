"""What recording a request costs: the time that it adds, against bare encoding and peers, and a server's throughput.

Applications are called without a server first, since it would hide what is measured: the bare one and the recorded one
in turn, in processes of their own, so that their difference is the added time; it includes what the thread in the
background takes meanwhile. Then servers are put under load, as many requests a second as they can, on a core that they
share with that thread; the load comes from the other core, on which a subscriber also reads all hits.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import web_subjects
from harness import Result, Worker, alternate, free_port, process, script, until

KINDS = {"wsgi": "WSGI", "asgi": "ASGI", "flask": "Flask", "starlette": "Starlette"}
PEERS = {"opentelemetry": "OpenTelemetry", "sentry": "Sentry"}
SERVERS = {
    "gunicorn, WSGI": ("wsgi", ("gunicorn", "--workers=1", "--log-level=warning")),
    "gunicorn --threads 4, Flask": ("flask", ("gunicorn", "--workers=1", "--threads=4", "--log-level=warning")),
    "uvicorn, ASGI": ("asgi", ("uvicorn", "--http=h11", "--loop=asyncio", "--no-access-log", "--log-level=warning")),
    "uvicorn with httptools and uvloop, Starlette": (
        "starlette",
        ("uvicorn", "--http=httptools", "--loop=uvloop", "--no-access-log", "--log-level=warning"),
    ),
    "gunicorn, the example shop of Flask": ("shop", ("gunicorn", "--workers=1", "--log-level=warning")),
    "uvicorn with httptools and uvloop, the example shop of FastAPI": (
        "fast_shop",
        ("uvicorn", "--http=httptools", "--loop=uvloop", "--no-access-log", "--log-level=warning"),
    ),
}
HERE = Path(__file__).parent
SHOP = HERE.parents[1] / "examples" / "shop"


def run(quick: bool) -> list[Result]:
    """Measure."""
    results = [row for kind in KINDS for row in _added(kind, 6 if quick else 40)]
    if shutil.which("wrk") is None or shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        print("no rows under load: they need wrk (apt-get install wrk), taskset and two CPUs", file=sys.stderr)
        return results
    return results + [_under_load(name, *server, *((3, 1) if quick else (9, 5))) for name, server in SERVERS.items()]


def _added(kind: str, rounds: int) -> list[Result]:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with process(*script("listener.py", endpoint, ""), ready="ready"), contextlib.ExitStack() as stack:
        workers = {tool: Worker(web_subjects.requests, kind, tool, endpoint) for tool in ("bare", "eventstorm", *PEERS)}
        workers["bson"] = Worker(web_subjects.hit_encode, kind)
        for each in workers.values():
            stack.callback(each.stop)
        samples = alternate(workers, rounds, lambda each: each.sample(100) / web_subjects.REQUESTS)
    added = {
        tool: median(took - bare for took, bare in zip(samples[tool], samples["bare"], strict=True))
        for tool in ("eventstorm", *PEERS)
    }
    ours, encoding = added["eventstorm"], median(samples["bson"])
    name = KINDS[kind]
    return [
        Result(
            f"a request through {name}: added time / `bson.encode` of its hit",
            ours / encoding,
            "x",
            at_most=12 if kind in ("wsgi", "asgi") else None,
            detail=f"{ours / 1000:.1f} µs against {encoding / 1000:.2f} µs, heard",
        ),
        *(
            Result(
                f"the same / that of {PEERS[peer]} for {name}",
                ours / added[peer],
                "x",
                at_most=0.2,
                detail=f"{ours / 1000:.1f} µs against {added[peer] / 1000:.1f} µs",
            )
            for peer in PEERS
        ),
    ]


def _under_load(name: str, kind: str, command: tuple[str, ...], rounds: int, seconds: int) -> Result:
    """Return the ratio of requests a second that a server answers, recorded and bare."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    rates: dict[str, list[float]] = {"bare": [], "eventstorm": [], "least": [], "opentelemetry": []}
    with contextlib.ExitStack() as stack:
        stack.enter_context(process("taskset", "-c", "1", *script("listener.py", endpoint, ""), ready="ready"))
        urls = {tool: stack.enter_context(_serving(command, f"{kind}_{tool}", endpoint)) for tool in rates}
        for url in urls.values():
            _load(url, 1)  # warm up
        for index in range(rounds):
            for tool in list(rates)[:: -1 if index % 2 else 1]:
                rates[tool].append(_load(urls[tool], seconds))
    bare, recorded = median(rates["bare"]), median(rates["eventstorm"])
    ratio, least, peer = (
        median(kept / all_of_them for kept, all_of_them in zip(rates[tool], rates["bare"], strict=True))
        for tool in ("eventstorm", "least", "opentelemetry")
    )
    detail = (
        f"{recorded:,.0f} against {bare:,.0f} requests/s, heard; with OpenTelemetry {peer:.2f}; with the least that "
        f"recording takes {least:.2f}; median of {rounds}"
    )
    return Result(f"{name}: throughput recorded / bare", ratio, "x", at_least=0.95, detail=detail)


@contextlib.contextmanager
def _serving(command: tuple[str, ...], application: str, endpoint: str) -> Iterator[str]:
    """Run a server on the first core, and yield a URL there once it answers."""
    port = free_port()
    program, *options = command
    where = [f"--bind=127.0.0.1:{port}"] if program == "gunicorn" else [f"--port={port}"]
    environment = {"EVENTSTORM_ENDPOINT": endpoint, "PYTHONPATH": os.pathsep.join([str(HERE), str(SHOP)])}
    with process(
        *("taskset", "-c", "0", sys.executable, "-m", program, *options, *where, f"web_applications:{application}"),
        environment=environment,
    ):
        url = f"http://127.0.0.1:{port}/item/3?page=2"
        until(lambda: urllib.request.urlopen(url, timeout=5).status == 200, 30)
        yield url


def _load(url: str, seconds: int) -> float:
    """Return requests a second, as wrk on the second core counts them."""
    command = ["taskset", "-c", "1", "wrk", "--threads=1", "--connections=16", f"--duration={seconds}s", url]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", told)
    if found is None or "Non-2xx" in told:
        raise RuntimeError(f"wrk measured something else:\n{told}")
    return float(found[1])
