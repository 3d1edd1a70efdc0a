"""How soon `eventstorm up` is of use, and what it takes when nothing happens."""

from __future__ import annotations

import shutil
import tempfile
import time
from statistics import median

import psutil
from playwright.sync_api import Browser, sync_playwright

from harness import COMMAND, Result, free_port, process


def run(quick: bool) -> list[Result]:
    """Measure."""
    rounds, idle_s = (1, 5) if quick else (5, 60)
    ready, drawn, memory = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for index in range(rounds):
            took = _start(browser, idle_s if index == rounds - 1 else 0)
            ready.append(took[0])
            drawn.append(took[1])
            memory.append(took[2])
        browser.close()
    detail = f"median of {rounds}"
    return [
        Result("`eventstorm up`, to ready", median(ready), "s", at_most=3, detail=detail),
        Result("`eventstorm up`, to the first points on an open page", median(drawn), "s", at_most=3, detail=detail),
        Result(
            f"`eventstorm up`, memory after {idle_s} s with nobody looking",
            memory[-1] / 2**20,
            "MiB",
            at_most=250e6 / 2**20,
            detail="resident, this host's own metrics included, all processes",
        ),
    ]


def _start(browser: Browser, idle_s: float) -> tuple[float, float, float]:
    """Return seconds to ready and to points, and bytes after `idle_s`."""
    ingress, egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    http = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with process(
            *(COMMAND, "up", "--ingress", ingress, "--egress", egress, "--http", http),
            *("--store", f"duckdb:{folder}/events.duckdb"),
            ready=http,
        ) as up:
            ready = time.perf_counter() - start
            page = browser.new_page()
            with page.expect_websocket() as opened:
                page.goto(f"http://{http}/")
            opened.value.wait_for_event("framereceived", lambda frame: "cpu" in str(frame), timeout=30_000)
            drawn = time.perf_counter() - start
            page.close()
            time.sleep(idle_s)  # what is measured is what it keeps after a while
            root = psutil.Process(up.pid)
            memory = sum(each.memory_info().rss for each in [root, *root.children(recursive=True)])
    return ready, drawn, memory
