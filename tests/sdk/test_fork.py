"""Children of every kind have sources of their own, whose events arrive beside their parent's."""

from __future__ import annotations

import signal
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from sdk.peer import Peer, program, run, wait_until
from sdk.test_publish import free_endpoint


def test_a_forked_child_and_its_parent_both_emit(peer: Peer, tmp_path: Path) -> None:
    code = """
import eventstorm, os
for n in range(100): eventstorm.emit("parent", n=n)
children = []
for child in range(4):
    pid = os.fork()
    if not pid:
        assert eventstorm.stats()["emitted"] == 0
        for n in range(100): assert eventstorm.emit("child", n=n)
        raise SystemExit
    children.append(pid)
for n in range(100): eventstorm.emit("parent", n=n)
for pid in children: assert os.waitpid(pid, 0)[1] == 0
"""
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
    assert (exit_code, err) == (0, "")
    peer.wait_for(200, "parent")
    peer.wait_for(400, "child")
    wait_until(lambda: len(peer.said_goodbye()) == 5, "the farewells")
    assert all(drops == 0 for _, drops in peer.numbered().values())


def test_forks_right_after_the_first_event_and_amid_other_threads_events(peer: Peer, tmp_path: Path) -> None:
    code = """
import os, threading, time, eventstorm
stop = False
def work():
    while not stop: eventstorm.emit("thread", x=b"x" * 500); time.sleep(0.0002)
def fork():
    for _ in range(10):
        pid = os.fork()
        if not pid:
            ok = eventstorm.emit("child") and eventstorm.flush(20)
            eventstorm.close(20)
            os._exit(not ok)
        assert os.waitpid(pid, 0)[1] == 0
eventstorm.emit("first")
fork()
threads = [threading.Thread(target=work) for _ in range(3)]
for each in threads: each.start()
forking = threading.Thread(target=fork); forking.start(); forking.join()
stop = True
for each in threads: each.join()
"""
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
    assert exit_code == 0, err
    assert all("buffer_full" in line for line in err.splitlines()), err
    peer.wait_for(20, "child")
    peer.numbered()


def test_a_fork_amid_emit_does_not_emit_twice(peer: Peer, tmp_path: Path) -> None:
    code = """
import collections, os, eventstorm
class Forking(collections.UserDict):
    def __iter__(self):
        global pid
        pid = os.fork()
        return super().__iter__()
eventstorm.emit("a.b", n=0)
eventstorm.emit("a.b", Forking(n=1), more=1)
if not pid:
    assert eventstorm.emit("a.c")
    eventstorm.flush()
    assert eventstorm.stats()["dropped"] == {"closed": 1}, eventstorm.stats()
    raise SystemExit
assert os.waitpid(pid, 0)[1] == 0
"""
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
    assert (exit_code, err) == (0, "1 event dropped: closed\n")
    peer.wait_for(2, "a.b")
    peer.wait_for(1, "a.c")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing(peer: Peer, tmp_path: Path, method: str) -> None:
    code = f"""
import eventstorm, multiprocessing, concurrent.futures
def work(n): eventstorm.emit("child", n=n)
if __name__ == "__main__":
    eventstorm.emit("parent")
    context = multiprocessing.get_context({method!r})
    process = context.Process(target=work, args=(0,)); process.start(); process.join()
    pool = context.Pool(2); pool.map(work, range(20)); pool.close(); pool.join()
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor: list(executor.map(work, range(20)))
    eventstorm.emit("parent")
"""
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
    assert (exit_code, err) == (0, "")
    peer.wait_for(2, "parent")
    peer.wait_for(41, "child")


APPLICATION = """
import os, eventstorm
eventstorm.emit("at.import")
def application(environ, start_response):
    eventstorm.emit("http.hit", pid=os.getpid())
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""


def _serve(
    command: list[str], address: str, peer: Peer, folder: Path, ready: Callable[[], object] = lambda: True
) -> None:
    (folder / "application.py").write_text(APPLICATION)
    code = f"import os, sys; sys.path.insert(0, '.'); os.execv({command[0]!r}, {command!r})"
    process = program(code, peer.endpoint, folder, PYTHONWARNINGS="default", PYTHONPATH=str(folder))

    def get() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=5):
                return True
        except OSError:
            assert process.poll() is None, process.communicate()
            return False

    try:
        wait_until(get, "the server")
        for _ in range(99):
            wait_until(get, "an answer")
        peer.wait_for(100, "http.hit")
        wait_until(ready, "all workers")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)  # sooner than gunicorn kills a worker that hangs, which is 30 s
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()
    assert len({event["pid"] for event in peer.events("http.hit")}) >= 1
    peer.numbered()


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_the_workers_of_gunicorn_with_preload(peer: Peer, tmp_path: Path, worker: str) -> None:
    address = free_endpoint().removeprefix("tcp://")
    # A worker told to end before it has set up its signals never hears of it, and gunicorn waits for it.
    config = "import eventstorm\ndef post_worker_init(worker): eventstorm.emit('worker.ready')\n"
    (tmp_path / "gunicorn.conf.py").write_text(config)
    gunicorn = [sys.executable, "-m", "gunicorn", "--preload", "-w", "4", "-k", worker, "--threads", "2"]
    command = [*gunicorn, "-b", address, "--no-control-socket", "application"]
    _serve(command, address, peer, tmp_path, ready=lambda: peer.count("worker.ready") == 4)
    assert peer.count("at.import") >= 1


def test_the_workers_of_uwsgi(peer: Peer, tmp_path: Path) -> None:
    """Which forks in C, unseen by Python; what its master emits while it loads the application is not sent."""
    address = free_endpoint().removeprefix("tcp://")
    uwsgi = [str(Path(sys.executable).with_name("uwsgi")), "--master", "--processes", "4", "--enable-threads"]
    _serve([*uwsgi, "--die-on-term", "--http", address, "--module", "application"], address, peer, tmp_path)


def test_nothing_is_imported_outside_of_the_loops_of_gevent(peer: Peer, tmp_path: Path) -> None:
    """Its locks guard imports, and import in turn: two threads of the system that wait for them may do it forever."""
    (tmp_path / "eventstorm.toml").write_text("[sdk]\nservice = 'shop'\n")
    code = """
from gevent import monkey; monkey.patch_all()
import sys
native_ident = monkey.get_original("_thread", "get_ident")
importing = {}
class Finder:
    def find_spec(self, name, path=None, target=None):
        importing.setdefault(native_ident(), []).append(name)
sys.meta_path.insert(0, Finder())
import eventstorm
eventstorm.emit("t")
assert eventstorm.flush(10)
assert importing.keys() == {native_ident()}, importing
"""
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
    assert (exit_code, err) == (0, "")
    peer.wait_for(1, "t")


@pytest.mark.parametrize("wait_s", [0, 0.002, 0.01])
def test_a_fork_while_a_thread_of_gevents_pool_imports_what_sends(peer: Peer, tmp_path: Path, wait_s: float) -> None:
    code = f"""
from gevent import monkey; monkey.patch_all()
import os, sys, gevent, eventstorm
sleep = monkey.get_original("time", "sleep")
gevent.get_hub().threadpool.spawn(lambda: eventstorm.emit("in.parent"))
while "zmq" not in sys.modules: sleep(0.0001)
sleep({wait_s})
child = os.fork()
if not child:
    import faulthandler; faulthandler.dump_traceback_later(20, exit=True)
    eventstorm.emit("in.child"); eventstorm.close(); os._exit(0)
assert monkey.get_original("os", "waitpid")(child, 0)[1] == 0
"""
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
    assert exit_code == 0, err
    peer.wait_for(1, "in.child")
    peer.wait_for(1, "in.parent")


def test_a_source_starts_while_another_thread_has_begun_to_import_gevent(peer: Peer, tmp_path: Path) -> None:
    code = """
import sys, types
sys.modules["gevent.monkey"] = types.ModuleType("gevent.monkey")
import eventstorm
eventstorm.emit("t")
"""
    assert run(code, peer.endpoint, tmp_path)[:3] == (0, "", "")
    peer.wait_for(1, "t")


@pytest.mark.parametrize("patch", ["before", "after"])
def test_a_program_that_gevent_has_patched(peer: Peer, tmp_path: Path, patch: str) -> None:
    lines = ["from gevent import monkey; monkey.patch_all()", "import eventstorm; eventstorm.emit('early')"]
    code = "\n".join(lines if patch == "before" else reversed(lines))
    code += """
import gevent, time
ticks = []
def tick():
    while True: ticks.append(time.monotonic()); gevent.sleep(0.005)
def work(n):
    for _ in range(50): eventstorm.emit("t", n=n); gevent.sleep(0)
    eventstorm.emit("t", bad=object())
start = time.monotonic()
ticking = gevent.spawn(tick)
gevent.joinall([gevent.spawn(work, n) for n in range(20)])
assert eventstorm.flush(10)
ticks = [start, *ticks, time.monotonic()]
ticking.kill()
print(max(b - a for a, b in zip(ticks, ticks[1:])))
"""
    exit_code, out, err, _ = run(code, peer.endpoint, tmp_path, PYTHONWARNINGS="default")
    assert exit_code == 0, err
    assert "Traceback" not in err
    assert float(out) < 0.5
    peer.wait_for(1000, "t")
    peer.wait_for(1, "early")
