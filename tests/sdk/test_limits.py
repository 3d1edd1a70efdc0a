"""A process that emits at full speed stays within its bound, whatever the router does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sdk.peer import run
from sdk.test_publish import free_endpoint

BUFFER_BYTES = 16 * 2**20

PROGRAM = """
import eventstorm, os, re, time
def rss(): return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
event = {event}
eventstorm.emit("a.b", event)
time.sleep(0.5)  # what the thread imports is not what is measured
begin = peak = rss()
end = time.monotonic() + 2
# However slow the machine is: until the buffer has been full.
while time.monotonic() < end or not eventstorm.stats()["dropped"]:
    for _ in range(200): eventstorm.emit("a.b", event)
    peak = max(peak, rss())
assert eventstorm.stats()["dropped"]["buffer_full"]
print(peak - begin)
"""
EVENTS = {"tiny": "{}", "large": "dict(x=b'x' * 100_000)"}


@pytest.mark.parametrize("event", EVENTS)
def test_memory_without_a_router(tmp_path: Path, event: str) -> None:
    program = PROGRAM.replace("{event}", EVENTS[event])
    code, out, err, _ = run(program, free_endpoint(), tmp_path, EVENTSTORM_FLUSH_TIMEOUT_S="0")
    assert code == 0, err
    assert int(out) <= BUFFER_BYTES + 10e6


STOPPED_ROUTER = """
import sys, zmq
socket = zmq.Context().socket(zmq.XSUB)
socket.bind("tcp://127.0.0.1:*")
socket.send(b"\\1")
print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
socket.recv_multipart()
print("received", flush=True)
while True: socket.recv_multipart()
"""


@pytest.mark.parametrize("event", EVENTS)
def test_memory_with_a_router_that_was_stopped(tmp_path: Path, event: str) -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED_ROUTER], stdout=subprocess.PIPE, text=True) as router:
        try:
            assert router.stdout is not None
            endpoint = router.stdout.readline().strip()
            program = PROGRAM.replace("{event}", EVENTS[event]).replace(
                "time.sleep(0.5)", f"eventstorm.flush(10); os.kill({router.pid}, {int(signal.SIGSTOP)})"
            )
            code, out, err, _ = run(program, endpoint, tmp_path, EVENTSTORM_FLUSH_TIMEOUT_S="0")
        finally:
            os.kill(router.pid, signal.SIGKILL)
    assert code == 0, err
    assert int(out) <= BUFFER_BYTES + 10e6
