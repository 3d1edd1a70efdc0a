"""`import eventstorm` is cheap, and has no effect but on the functions that run at exit and at forks."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdk.peer import Peer, run
from sdk.test_publish import free_endpoint

HEAVY = ["argparse", "asyncio", "dataclasses", "importlib.metadata", "inspect", "logging", "multiprocessing", "socket"]


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = f"""
import bson, sys, zmq
before = set(sys.modules)
import eventstorm
print([name for name in {HEAVY} if name in sys.modules and name not in before])
"""
    assert run(code, free_endpoint(), tmp_path)[:3] == (0, "[]\n", "")


def test_no_thread_and_no_file_is_there_before_the_first_event(tmp_path: Path) -> None:
    code = """
import os
def look(): return len(os.listdir("/proc/self/task")), os.listdir("/proc/self/fd")
before = look()
import eventstorm
source = eventstorm.Source()
eventstorm.stats(); eventstorm.flush(); source.flush()
assert look() == before, look()
eventstorm.emit("a.b")
assert look() != before
"""
    assert run(code, free_endpoint(), tmp_path, EVENTSTORM_FLUSH_TIMEOUT_S="0")[0] == 0


@pytest.mark.parametrize("before", ["", "from gevent import monkey; monkey.patch_all()"], ids=["", "gevent"])
def test_a_program_in_which_zmq_cannot_be_imported_is_told_so_in_one_line(before: str, tmp_path: Path) -> None:
    """And goes on; its events are counted as not sent."""
    (tmp_path / "zmq.py").write_text("raise ImportError('no zmq here')")
    code = f"""
{before}
import eventstorm, time
eventstorm.emit("a.b")
deadline = time.monotonic() + 10
while not eventstorm.stats()["dropped"].get("fault"): assert time.monotonic() < deadline; time.sleep(0.01)
eventstorm.close()
assert eventstorm.stats()["dropped"] == {{"fault": 1, "unsent": 1}}, eventstorm.stats()
"""
    assert run(code, free_endpoint(), tmp_path)[:3] == (0, "", "no events are sent: no zmq here\n")


def test_the_import_of_what_sends_events_breaks_none_of_the_application(peer: Peer, tmp_path: Path) -> None:
    """Two threads that import importlib's modules for the first time can leave it unusable."""
    code = """
import sys
sys.setswitchinterval(1e-6)
import eventstorm
eventstorm.emit("a.b")
while "importlib" not in sys.modules: pass
import importlib.machinery
importlib.import_module("json")
"""
    for _ in range(10):
        assert run(code, peer.endpoint, tmp_path)[:3] == (0, "", "")
    peer.wait_for(10)


def test_a_part_of_json_can_be_imported_while_what_sends_events_is(peer: Peer, tmp_path: Path) -> None:
    """Two threads, of which one imports a package and the other a part of it, can wait for each other and both fail."""
    code = """
import sys, time, _thread
from importlib.machinery import SourceFileLoader
main, get_data, reading = _thread.get_ident(), SourceFileLoader.get_data, []
def slow_disk(loader, path):
    if loader.name == "json" and _thread.get_ident() != main:
        reading.append(path)
        time.sleep(0.1)
    return get_data(loader, path)
SourceFileLoader.get_data = slow_disk
import eventstorm
eventstorm.emit("a.b")
while not reading and not eventstorm.stats()["connected"]: time.sleep(0.001)
import json.decoder
"""
    assert run(code, peer.endpoint, tmp_path)[:3] == (0, "", "")
    peer.wait_for(1)


def test_a_subinterpreter_sends_events_or_says_in_one_line_that_it_cannot(tmp_path: Path) -> None:
    """Since Python 3.12 it has a lock of its own, which pyzmq does not support."""
    code = """
import sys
if sys.version_info >= (3, 13): import _interpreters as interpreters
else: import _xxsubinterpreters as interpreters
each = interpreters.create()
interpreters.run_string(each, '''
import eventstorm, time
eventstorm.emit("a.b")
time.sleep(0.5)
''')
interpreters.destroy(each)
"""
    exit_code, _, err, _ = run(code, free_endpoint(), tmp_path, EVENTSTORM_FLUSH_TIMEOUT_S="0", PYTHONWARNINGS="ignore")
    assert exit_code == 0, err
    (line,) = err.splitlines()
    assert line.startswith(("1 event not sent", "no events are sent: "))
