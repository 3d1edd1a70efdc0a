"""`import eventstorm` is cheap, and has no effect but on the functions that run at exit and at forks."""

from __future__ import annotations

from pathlib import Path

from sdk.peer import run
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
