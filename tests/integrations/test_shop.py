"""The example's shops under real servers: what is stored is what their customers saw, to the request."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from documents import ROOT
from integrations.instrumented import BIN, INSTRUMENT
from ports import free_port
from sinks.test_up import PROGRAM, Up, running, wait_until

SHOP = ROOT / "examples/shop"
REQUESTS = 400
DEADLINE_S = 60.0

SERVERS = {
    "shop": "gunicorn --workers 2 --no-control-socket --bind 127.0.0.1:PORT MODULE:app",
    "fast_shop": "uvicorn --port PORT MODULE:app",
}
# A worker of gunicorn leaves its listening socket to the interpreter's end.
WARNINGS = "error,ignore:unclosed <socket:ResourceWarning"
FRAMEWORKS = {"shop": "flask", "fast_shop": "fastapi"}
# What stands for the number in a path, which is the last of it.
PARAMETERS = {"shop": "<int:number>", "fast_shop": "{number}"}

HITS = """
    SELECT data.http.request.method::VARCHAR AS method, data.url.path::VARCHAR AS path,
           data.http.response.status_code::INT AS status, data.http.request.body.size::INT AS sent_bytes,
           data.http.response.body.size::INT AS received_bytes, data.http.route::VARCHAR AS route, count(*) AS requests
    FROM events WHERE topic = 'http.hit' GROUP BY ALL
"""
RECORDS = "SELECT count(*) AS records FROM events WHERE topic = 'log.record' AND data.body::VARCHAR LIKE 'sold out:%'"
ORDERS = """
    SELECT count(*) AS orders FROM events AS order_, events AS hit
    WHERE order_.topic = 'shop.order' AND hit.topic = 'http.hit' AND hit.data.url.path::VARCHAR = '/order'
      AND order_.data.trace_id::VARCHAR = hit.data.trace_id::VARCHAR
"""


@contextlib.contextmanager
def serving(command: list[str], up: Up, folder: Path, port: int) -> Iterator[None]:
    """Run a server; it is told to end afterwards, and does."""
    log = folder / "server.log"
    variables = {"EVENTSTORM_ENDPOINT": up.hint("emit")[3], "PYTHONPATH": str(SHOP), "PYTHONWARNINGS": WARNINGS}
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **variables}, stderr=output, stdout=output)
    try:
        wait_until(lambda: _listens(port) or server.poll() is not None, log.read_text)
        assert server.poll() is None, log.read_text()
        yield
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE_S) in (0, -signal.SIGTERM), log.read_text()
        errors = set(re.findall(r"^\w+(?:Error|Warning|Exception)\b", log.read_text(), re.MULTILINE))
        assert errors == {"ZeroDivisionError"}, log.read_text()
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def customers(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the load script to its end."""
    command = [sys.executable, "-W", "error", str(SHOP / "load.py"), "--url", f"http://127.0.0.1:{port}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def ask(up: Up, query: str) -> list[dict[str, Any]]:
    """Ask the running store; return its answer's rows."""
    command = [PROGRAM, "sql", "--json", "--url", up.url, query]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return rows(done.stdout)


def rows(lines: str) -> list[dict[str, Any]]:
    """Return the objects of JSON lines."""
    return [json.loads(line) for line in lines.splitlines()]


@pytest.mark.parametrize("module", ["shop", "fast_shop"])
@pytest.mark.parametrize("way", ["eventstorm-instrument", "instrument_app"])
def test_the_hits_stored_are_the_requests_made(way: str, module: str, tmp_path: Path) -> None:
    port, served = free_port(), module
    if way == "instrument_app":
        served = "recorded"
        code = f"from eventstorm_integrations.{FRAMEWORKS[module]} import instrument_app\nfrom {module} import app\n"
        (tmp_path / "recorded.py").write_text(f"{code}instrument_app(app)\n")
    program, *options = SERVERS[module].replace("PORT", str(port)).replace("MODULE", served).split()
    command = [str(BIN / program), *options]

    with running(tmp_path, "--no-sysmon") as up:
        with serving([INSTRUMENT, *command] if way == "eventstorm-instrument" else command, up, tmp_path, port):
            done = customers(port, "--requests", str(REQUESTS), "--json")
        assert done.returncode == 0, done.stderr
        seen = rows(done.stdout)
        sold = sum(each["requests"] for each in seen if each["status"] == 201)
        up.wait_for("http.hit", REQUESTS)
        up.wait_for("shop.order", sold)
        stored, orders, records = ask(up, HITS), ask(up, ORDERS), ask(up, RECORDS)
        losses = up.get("/api/ledger")["losses"]

    assert counted(stored) == counted([{**each, "route": route(module, each["path"])} for each in seen])
    assert counted(stored).total() == REQUESTS
    assert orders == [{"orders": sold}]
    sold_out = sum(each["requests"] for each in seen if each["status"] == 409)
    assert records == [{"records": sold_out if way == "eventstorm-instrument" else 0}]
    assert losses == []
    assert {each["method"] for each in seen} == {"GET", "HEAD", "POST", "PUT", "DELETE"}
    assert {each["status"] for each in seen} == {200, 201, 204, 308, 404, 409, 500}


def counted(found: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Return how often there was each request and its answer."""
    counts = Counter[tuple[Any, ...]]()
    for row in found:
        counts[tuple(sorted((name, value) for name, value in row.items() if name != "requests"))] += row["requests"]
    return counts


def route(module: str, path: str) -> str | None:
    """Return what a shop's code says of a path."""
    return None if path.startswith("/nowhere") else re.sub(r"\d+$", PARAMETERS[module], path)


def test_the_load_script_makes_the_same_requests_in_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SHOP)
    import load  # type: ignore[import-not-found]

    assert list(load.wishes(200, seed=7)) == list(load.wishes(200, seed=7))
    assert list(load.wishes(200, seed=7)) != list(load.wishes(200, seed=8))
    assert len(list(load.wishes(200, seed=7))) == 200


def test_the_load_script_says_that_no_shop_is_there() -> None:
    done = customers(free_port(), "--requests", "1")

    assert done.returncode == 1
    assert "is the shop running?" in done.stderr
    assert "Traceback" not in done.stderr
