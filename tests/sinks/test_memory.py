"""What a backlog takes: about what the queue says, and when it is stored, nothing any more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Memory is asked of a process of its own, since this one's is anybody's.
PROGRAM = """
import json, os, sys, time, bson
from eventstorm.wire import Header, decode_message, encode_event, encode_message
from sinks.test_write import Memory, wait_for
from eventstorm_sinks import _memory
from eventstorm_sinks.write import Writer

_memory.GIVE_BACK_S = 0.2
size, messages, host = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
event = encode_event(1_700_000_000_000, bson.encode({"text": "x" * size}))
each = 1 if len(host) > 1 else 65_000 // len(event)
store = Memory()
writer = Writer("memory:", store, queue_bytes=2**28, commit_s=0.01, batch_events=5_000)
writer.start()
before = resident()
store.gate.clear()
kept = []  # as other parts of a sink keep something now and then: what lies between that is not free at the end
for number in range(messages):
    header = Header(b"s" * 12, 0, number * each, each, 0, 0, host, "s", 1)
    writer.put(decode_message(encode_message("a.b", header, event * each)))
    kept.append(bytes(1000))
told, waiting = writer.stats().queue_bytes, resident() - before
store.gate.set()
wait_for(lambda: not writer.stats().queue_bytes)
store.seqs.clear()
deadline = time.monotonic() + 20
while resident() - before > told / 2 and time.monotonic() < deadline:
    time.sleep(0.05)
print(json.dumps([told, waiting, resident() - before]))
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for memory")
@pytest.mark.parametrize(
    ("size", "messages", "host"),
    [(10, 300, "h"), (120, 500, "h"), (120, 3000, "h" * 3800 + "\N{CLOUD WITH TORNADO}")],
    ids=["small events", "usual events", "hostile names"],
)
def test_a_backlog_takes_what_the_queue_says_and_is_given_back(size: int, messages: int, host: str) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(size), str(messages), host]
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[1], check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    told, waiting, left = json.loads(done.stdout)
    assert waiting < 1.25 * told
    assert left < told / 2  # a part stays with Python, for later objects


def test_a_python_without_ctypes_runs_a_sink() -> None:
    code = """
import sys
sys.modules["_ctypes"] = None
import eventstorm_sinks.sink, eventstorm_sinks.stores.mongodb
from eventstorm_sinks._memory import Backlog
backlog = Backlog()
backlog.note(2**30)
backlog.give_back(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
