"""``eventstorm top`` as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstorm_sinks.sink import Sink
from ports import free_port
from web_serving import DEADLINE_S, Publisher, ask, served, until, url_of

TOP = [str(Path(sys.executable).with_name("eventstorm")), "top"]


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """A sink that has heard a source with an ugly name, and lost two of its events."""
    with (
        served(tmp_path_factory.mktemp("top")) as sink,
        Publisher(sink.ingress or "", host="[red]\x1b[31mhost", service="[b]x") as source,
    ):
        source.send("shop.order", {}, {})
        source.send_encoded("shop.order", b"", 0, skipped=2)
        until(lambda: ask(sink, "/api/ledger")["losses"])
        yield sink


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOP, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )


def shop(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in rows if each["topic"] == "shop.order")


def test_json_tells_rates_and_losses(sink: Sink) -> None:
    done = top("--url", url_of(sink), "--once", "--json", "--interval", "0.2")

    assert (done.returncode, done.stderr) == (0, "")
    row = shop(json.loads(done.stdout)["rows"])
    assert (row["received"], row["lost"], row["events_per_s"]) == (2, {"way": 2}, 0.0)


def test_the_rate_is_that_of_the_interval(sink: Sink) -> None:
    arguments = [*TOP, "--url", url_of(sink), "--json", "--interval", "0.5"]
    with (
        Publisher(sink.ingress or "") as source,
        subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as running,
    ):
        assert running.stdout is not None
        running.stdout.readline()  # from here on it looks every half second
        source.send("rate.one", *[{}] * 100)
        rates = []
        while sum(rates) == 0:
            rows = json.loads(running.stdout.readline())["rows"]
            rates.append(next((each["events_per_s"] for each in rows if each["topic"] == "rate.one"), 0))
        running.send_signal(signal.SIGINT)
        assert running.wait(DEADLINE_S) == 0

    assert rates[-1] == pytest.approx(200, rel=0.3)


def test_the_table_shows_names_as_they_are_and_obeys_none(sink: Sink) -> None:
    done = top("--url", url_of(sink), "--once", "--interval", "0.1")

    assert done.returncode == 0
    assert "[b]x@[red]?[31mhost:7" in done.stdout
    assert "\x1b" not in done.stdout
    assert re.search(r"shop\.order .* 2 +2 +way 2", done.stdout)


def test_no_server_is_an_error_with_the_fix() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    done = top("--url", url)

    assert (done.returncode, done.stdout) == (1, "")
    assert f"eventstorm top: {url}: no server answers" in done.stderr
    assert "eventstorm up" in done.stderr


def test_a_wrong_interval_is_wrong_usage() -> None:
    assert top("--interval", "0").returncode == 2


def test_ctrl_c_in_a_terminal_leaves_it_as_it_was(sink: Sink) -> None:
    controller, terminal = pty.openpty()
    running = subprocess.Popen(
        [*TOP, "--url", url_of(sink), "--interval", "0.1"], stdin=terminal, stdout=terminal, stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "20"}, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    give_up_s = time.monotonic() + DEADLINE_S
    while b"shop.order" not in shown and time.monotonic() < give_up_s:
        shown += os.read(controller, 65536)
    running.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(controller, 65536):
            shown += chunk
    except OSError:
        pass  # how Linux says that the other side of a terminal has gone
    os.close(controller)

    assert running.wait(DEADLINE_S) == 0
    assert b"Traceback" not in shown
    assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"\x1b[?1049h"), "back from the alternate screen"
