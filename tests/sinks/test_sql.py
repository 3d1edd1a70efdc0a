"""``eventstorm sql``: the server if it runs, the file if not."""

from __future__ import annotations

import http.server
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest

from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch, Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores.duckdb import DuckdbStore

COMMAND = [str(Path(sys.executable).with_name("eventstorm")), "sql"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store's file that no process has open, with one hostile event."""
    place = tmp_path / "events.duckdb"
    store = DuckdbStore(str(place), SinkSettings())
    event = Event(0, 1_700_000_000_000, bson.encode({"name": "[red]\x1b[2J\ttab\nline\u202e"}))
    store.write([Batch("shop.order", Source(b"0123456789ab", "h", "s", 1), 0, Events.of([event]))], [])
    store.close()
    return place


class Server(http.server.ThreadingHTTPServer):
    """Answers as ``POST /api/sql`` does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.answer: tuple[int, bytes] = (200, b"")
        self.left = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, "header": self.headers["X-Eventstorm"], **body})
        status, answer = self.server.answer
        if status == 0:  # a query that does not end: wait until whoever asked is gone
            assert self.rfile.read(1) == b""
            self.server.left.set()
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def sql(
    *arguments: str, stdin: str = "", folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, text=True, timeout=60, env=environment
    )


def test_without_a_server_the_file_is_asked_and_printed_without_control_characters(path: Path) -> None:
    done = sql("--store", f"duckdb:{path}", "SELECT topic, data.name AS name, NULL AS nothing, source.pid FROM events")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "topic\tname\tnothing\tpid\nshop.order\t[red]\\x1b[2J\\ttab\\nline\\u202e\t\t1\n"


def test_the_file_is_the_one_of_the_settings_when_nothing_is_said_and_no_server_runs(path: Path) -> None:
    variables = {"EVENTSTORM_SINK_STORES": f"jsonl:- duckdb:{path}", "EVENTSTORM_SINK_HTTP": "127.0.0.1:1"}
    done = sql("SELECT count(*) AS n FROM events", **variables)
    assert (done.stdout, done.stderr) == ("n\n1\n", "")


def test_json_gives_an_object_a_line_and_all_columns(path: Path) -> None:
    done = sql("--store", str(path), "--json", "-", stdin="SELECT 1 AS x, 2 AS x, ['a'] AS list, ts FROM events")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"x": 1, "x_2": 2, "list": ["a"], "ts": "2023-11-14T22:13:20Z"}
    ]


def test_rows_beyond_the_bound_are_told_of(path: Path) -> None:
    done = sql("--store", str(path), "--rows", "2", "FROM range(5)")
    assert done.stdout == "range\n0\n1\n"
    assert "the first 2 rows" in done.stderr


def test_a_terminal_gets_a_table_whose_values_are_no_markup_and_no_control_sequences(path: Path) -> None:
    controller, terminal = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"}
    command = [*COMMAND, "--store", str(path), "SELECT data.name AS name, NULL AS nothing FROM events"]
    with subprocess.Popen(command, stdout=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                chunk = os.read(controller, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not chunk:
                break
            shown += chunk
    os.close(controller)
    assert process.returncode == 0
    assert b"[red]\\x1b[2J\\ttab\\nline\\u202e" in shown
    assert b"NULL" in shown
    assert b"\x1b[2J" not in shown
    assert b"\x1b[3" not in shown, "no colours"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["FROM nope"], 1, "LINE 1: FROM nope"),
        (["DROP TABLE events"], 1, "nothing can be changed"),
        ([" "], 2, "no query"),
        (["--rows", "0", "SELECT 1"], 2, "sql_rows"),
        (["--timeout", "0.2", "SELECT count(*) FROM range(1000000000000) a, range(1000000) b"], 1, "more than 0.2 s"),
    ],
)
def test_errors_are_clear_and_give_their_exit_code(path: Path, arguments: list[str], code: int, message: str) -> None:
    done = sql("--store", str(path), *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""


def test_a_file_that_is_not_there_or_in_use_is_said_so(path: Path, tmp_path: Path) -> None:
    done = sql("--store", str(tmp_path / "none"), "SELECT 1")
    assert (done.returncode, "there is no store" in done.stderr) == (3, True)
    store = DuckdbStore(str(path), SinkSettings())
    done = sql("--store", str(path), "SELECT 1")
    store.close()
    assert (done.returncode, f"in use by process {os.getpid()}" in done.stderr) == (3, True)


def test_a_running_server_is_asked_with_the_header_that_it_wants(server: Server) -> None:
    answer = {"columns": ["n", "v"], "types": ["BIGINT", "VARIANT"], "rows": [[1, {"a": None}]], "truncated": True}
    server.answer = (200, json.dumps(answer).encode())
    done = sql("--url", server.url, "--rows", "7", "--timeout", "3", "FROM x")
    assert done.stdout == 'n\tv\n1\t{"a": null}\n'
    assert server.asked == [{"path": "/api/sql", "header": "1", "query": "FROM x", "rows": 7, "timeout_s": 3.0}]
    found = sql("FROM x", EVENTSTORM_SINK_HTTP=server.url.removeprefix("http://"))
    assert found.stdout == done.stdout


def test_what_the_server_refuses_is_said_in_its_words(server: Server) -> None:
    server.answer = (400, b'{"error": "the query failed: no"}')
    done = sql("--url", server.url, "FROM x")
    assert (done.returncode, done.stderr) == (1, "eventstorm sql: the query failed: no\n")


@pytest.mark.parametrize("answer", [(404, b"<html>"), (200, b"{}"), (500, b"[]"), (200, b"")])
def test_a_server_that_is_not_ours_is_said_so(server: Server, answer: tuple[int, bytes]) -> None:
    server.answer = answer
    done = sql("--url", server.url, "FROM x")
    assert done.returncode == 1
    assert "is not Eventstorm's" in done.stderr


@pytest.mark.parametrize(("url", "code"), [("http://127.0.0.1:1", 1), ("127.0.0.1:1", 2), ("ftp://x", 2)])
def test_a_server_that_was_named_and_is_not_there_is_an_error(url: str, code: int) -> None:
    done = sql("--url", url, "FROM x")
    assert done.returncode == code
    assert url in done.stderr


def test_ctrl_c_leaves_the_server_so_that_it_ends_the_query(server: Server) -> None:
    server.answer = (0, b"")
    with subprocess.Popen([*COMMAND, "--url", server.url, "FROM x"], stderr=subprocess.PIPE) as process:
        deadline = threading.Event()
        while not server.asked and process.poll() is None:
            deadline.wait(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert server.left.wait(10)


SLOW = "SELECT count(*) FROM range(1000000000000) a, range(1000000) b WHERE hash(a.range, b.range) = 1"


def test_ctrl_c_ends_a_query_of_the_file(path: Path) -> None:
    log = path.with_name("events.duckdb")
    with subprocess.Popen([*COMMAND, "--store", str(path), SLOW]) as process:
        opened = Path(f"/proc/{process.pid}/fd")
        waiting = threading.Event()
        while process.poll() is None and not any(_target(each) == str(log) for each in opened.iterdir()):
            waiting.wait(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_ctrl_c_ends_a_query_that_is_about_to_begin(path: Path) -> None:
    code = f"""
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from eventstorm.cli import main
submit = ThreadPoolExecutor.submit
def submit_and_stop(*arguments, **keywords):
    future = submit(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGINT)
    return future
ThreadPoolExecutor.submit = submit_and_stop
sys.argv = ["eventstorm", "sql", "--store", {str(path)!r}, {SLOW!r}]
sys.exit(main())
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=20, check=False).returncode == 130


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


@pytest.mark.parametrize("where", ["option", "configuration"])
def test_a_store_that_does_not_speak_sql_is_named_without_its_password(tmp_path: Path, where: str) -> None:
    """And what does instead."""
    url = "mongodb://me:hush@127.0.0.1:1/db"
    option = ["--store", url] if where == "option" else []
    (tmp_path / "eventstorm.toml").write_text(f'[sink]\nhttp = "127.0.0.1:1"\nstores = ["{url}"]\n')
    done = subprocess.run([*COMMAND, "SELECT 1", *option], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "mongodb://me:***@127.0.0.1:1/db" in done.stderr
    assert "DuckDB does" in done.stderr
    assert "hush" not in done.stderr
