"""Daemons stop on the first signal, and a second one has its usual effect."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from eventstorm.daemon import announce_ready, stop_signal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event_and_the_handlers_of_before_come_back(number):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_signal() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_interrupt_interrupts():
    with stop_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(monkeypatch, tmp_path, capsys, abstract):
    name = f"eventstorm-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.settimeout(5)
        notify.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        announce_ready("here I am")
        assert notify.recv(100) == b"READY=1"
    assert capsys.readouterr().err == "here I am\n"


def test_a_supervisor_that_is_gone_is_no_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    announce_ready("here I am")
    assert capsys.readouterr().err == "here I am\n"


def test_a_thread_that_hangs_does_not_keep_the_process():
    code = """if True:
        import sys, threading
        from eventstorm.daemon import leave
        threading.Thread(target=threading.Event().wait, name="stuck").start()
        print("all of it")
        sys.exit(leave(7))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (7, "all of it\n")
    assert done.stderr == "stuck does not end; not waiting for it\n"


def test_a_librarys_daemon_thread_is_not_waited_for():
    code = """if True:
        import sys, threading
        from eventstorm.daemon import leave
        threading.Thread(target=threading.Event().wait, name="event_loop", daemon=True).start()
        sys.exit(leave(7))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (7, "")
