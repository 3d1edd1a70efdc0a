"""Programs that end: their last events arrive, and they end in time whatever the router does."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from sdk.peer import Peer, program, run, wait_until
from sdk.test_publish import free_endpoint


def test_a_program_of_one_event_is_delivered(peer: Peer, tmp_path: Path) -> None:
    code, out, err, _ = run("import eventstorm; eventstorm.emit('a.b', x=1)", peer.endpoint, tmp_path)
    assert (code, out, err) == (0, "", "")
    assert peer.wait_for(1) == [{"x": 1}]
    wait_until(peer.said_goodbye, "the farewell")


def test_a_machine_on_which_imports_take_longer_than_the_flush_may_delivers_too(peer: Peer, tmp_path: Path) -> None:
    code = """
import sys, time, eventstorm

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "zmq":
            time.sleep(1.5)

sys.meta_path.insert(0, Slow())
eventstorm.emit("a.b")
"""
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path, EVENTSTORM_FLUSH_TIMEOUT_S="0.7")
    assert (exit_code, err) == (0, "")
    peer.wait_for(1, "a.b")


def test_without_a_router_it_ends_in_time_and_says_so_once(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    code, _, err, seconds = run("import eventstorm; eventstorm.emit('a.b', x=1)", endpoint, tmp_path)
    assert code == 0
    assert err == f"1 event not sent: the router at {endpoint} did not answer in time\n"
    assert seconds < 5  # 1 s of flushing, and the start of Python on a busy machine


def test_a_program_without_a_file_left_loses_its_events_and_says_so_once(tmp_path: Path) -> None:
    code = """
import logging, resource, eventstorm

resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
print(eventstorm.emit("a.b"), eventstorm.emit("a.b"))
eventstorm.close()
print(eventstorm.stats()["dropped"])
"""
    exit_code, out, err, _ = run(code, free_endpoint(), tmp_path)
    assert (exit_code, out) == (0, "True True\n{'unsent': 2}\n")
    assert err == "2 events not sent: Too many open files\n"


def test_ctrl_c_ends_the_flush(tmp_path: Path) -> None:
    code = "import eventstorm, atexit; eventstorm.emit('a.b'); atexit.register(print, 'ending', flush=True)"
    process = program(code, free_endpoint(), tmp_path, EVENTSTORM_FLUSH_TIMEOUT_S="60")
    assert process.stdout is not None
    assert process.stdout.readline() == "ending\n"
    time.sleep(0.1)  # into the flush, which nothing announces; an earlier signal would end the program likewise
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert "Traceback" not in err


def test_only_refused_events_are_told_too(peer: Peer, tmp_path: Path) -> None:
    _, _, err, _ = run("import eventstorm; eventstorm.emit('No Topic')", peer.endpoint, tmp_path)
    assert err.startswith("1 event dropped: bad_topic (the last one: 'No Topic'")


def test_a_wrong_environment_means_the_defaults_and_a_line_in_the_log(tmp_path: Path) -> None:
    code = "import eventstorm; eventstorm.emit('a.b')"
    _, _, err, _ = run(code, "tcp://127.0.0.1:1", tmp_path, EVENTSTORM_BUFFER_BYTES="many")
    assert "the defaults are used, since a setting is wrong: EVENTSTORM_BUFFER_BYTES: 'many'" in err


@pytest.mark.parametrize("earlier", ["", "eventstorm.emit('first')"])
def test_atexit_functions_that_were_registered_after_the_import_may_emit(
    peer: Peer, tmp_path: Path, earlier: str
) -> None:
    code = f"import eventstorm, atexit\natexit.register(eventstorm.emit, 'last')\n{earlier}"
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
    assert (exit_code, err) == (0, "")
    peer.wait_for(1, "last")


def test_atexit_functions_that_were_registered_before_the_import_are_refused_and_hang_nothing(
    peer: Peer, tmp_path: Path
) -> None:
    code = """
import atexit
def last():
    print(eventstorm.emit("last"), eventstorm.stats()["dropped"])
atexit.register(last)
import eventstorm
eventstorm.emit("first")
"""
    exit_code, out, err, _ = run(code, peer.endpoint, tmp_path)
    assert (exit_code, out, err) == (0, "False {'closed': 1}\n", "")
    peer.wait_for(1, "first")


def test_daemon_threads_and_finalizers_that_emit_at_the_very_end_disturb_nothing(peer: Peer, tmp_path: Path) -> None:
    code = """
import eventstorm, threading, time
class Last:
    def __del__(self, emit=eventstorm.emit):
        emit("at.end", x=object()); emit("new.topic")
last = Last(); last.me = last
keep = Last()
def work():
    while True:
        eventstorm.emit("in.daemon", n=1); time.sleep(0.0005)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
while not eventstorm.stats()["sent"]:
    time.sleep(0.01)
"""
    exit_code, _, err, seconds = run(code, peer.endpoint, tmp_path)
    assert exit_code == 0
    assert all("closed" in line for line in err.splitlines()), err
    assert seconds < 15
    assert peer.count("in.daemon")
    peer.numbered()


def test_os_exit_hangs_nothing(peer: Peer, tmp_path: Path) -> None:
    code = "import eventstorm, os; eventstorm.emit('a.b'); eventstorm.flush(); eventstorm.emit('a.b'); os._exit(7)"
    exit_code, _, err, seconds = run(code, peer.endpoint, tmp_path)
    assert (exit_code, err) == (7, "")
    assert seconds < 10


def test_signals_that_a_program_waits_for_are_left_to_it(peer: Peer, tmp_path: Path) -> None:
    code = """
import eventstorm, signal
eventstorm.emit("a.b"); eventstorm.flush()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", flush=True)
print(signal.sigwait({signal.SIGTERM}).name)
"""
    process = program(code, peer.endpoint, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "SIGTERM\n", "")
