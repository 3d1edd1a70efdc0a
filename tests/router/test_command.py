"""``eventstorm-router`` as a daemon: how it starts, stops and refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq

from eventstorm.errors import SettingError, StartError
from eventstorm_router import Router, RouterSettings

PROGRAM = str(Path(sys.executable).with_name("eventstorm-router"))
ANYWHERE = {"ingress": "tcp://127.0.0.1:0", "egress": "tcp://127.0.0.1:0"}


def _run(*options, **environ):
    return subprocess.run(
        [PROGRAM, *options], capture_output=True, text=True, timeout=60, check=False, env=os.environ | environ
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_two_seconds_under_load(start_router, connect, number):
    router = start_router()
    source, sink = connect(zmq.XPUB, router.ingress), connect(zmq.SUB, router.egress, b"")
    assert source.recv() == b"\x01"
    over = threading.Event()

    def load():
        while not over.is_set():
            source.send_multipart([b"t\0", b"h", bytes(1000)])

    loading = threading.Thread(target=load)
    loading.start()
    try:
        for _ in range(1000):
            sink.recv_multipart()
        started = time.monotonic()
        router.process.send_signal(number)
        assert router.process.wait(timeout=60) == 0
        assert time.monotonic() - started < 10  # at once, and what a busy machine adds
    finally:
        over.set()
        loading.join()
    assert router.process.stderr.read() == ""


@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_a_port_in_use_is_named_and_ends_it_with_3(side):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        options = [f"--{name}={value}" for name, value in {**ANYWHERE, side: endpoint}.items()]
        ended = _run(*options)
    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1
    assert f"router.{side}" in ended.stderr
    assert endpoint in ended.stderr


def test_a_path_in_use_is_not_taken_from_its_owner(tmp_path):
    endpoint = f"ipc://{tmp_path}/router"
    second = Router(RouterSettings(ingress=endpoint, egress="tcp://127.0.0.1:0"))
    with (
        Router(RouterSettings(ingress=endpoint, egress=f"ipc://{tmp_path}/egress")),
        pytest.raises(StartError, match=r"router\.ingress: cannot bind ipc://"),
    ):
        second.start()
    with Router(RouterSettings(ingress=endpoint, egress="tcp://127.0.0.1:0")) as router:
        assert router.ingress == endpoint


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://10.1.2.3:0"])
@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_it_refuses_to_be_reached_from_elsewhere(side, endpoint):
    with pytest.raises(SettingError, match=rf"router\.{side}: .*--insecure"):
        Router(RouterSettings(**{**ANYWHERE, side: endpoint}))


def test_insecure_lets_it_be_reached_from_elsewhere(start_router):
    router = start_router("--insecure", ingress="tcp://0.0.0.0:0")
    assert router.ingress.startswith("tcp://0.0.0.0:")


def test_wrong_usage_ends_it_with_2():
    for options, said in [
        (["--ingress", "tcp://127.0.0.1"], "HOST:PORT"),
        (["--upstream", "udp://x:1"], "tcp://HOST:PORT"),
        (["--hwm", "many"], "router.hwm: 'many' is not a whole number"),
        (["--egress", "tcp://0.0.0.0:1"], "--insecure"),
        (["--stats-s", "nan"], "not a number"),
    ]:
        ended = _run(*options)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


def test_variables_set_it_too(start_router, monkeypatch):
    monkeypatch.setenv("EVENTSTORM_ROUTER_INGRESS", "tcp://0.0.0.0:0")
    ended = _run()
    assert ended.returncode == 2
    assert "tcp://0.0.0.0:0" in ended.stderr


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(start_router, monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.settimeout(5)
        notify.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        router = start_router()
        assert notify.recv(100) == b"READY=1"
        router.process.terminate()
        assert notify.recv(100) == b"STOPPING=1"


def test_an_embedded_router_binds_free_ports_and_leaves_nothing_behind(connect):
    before = threading.active_count()
    with Router(RouterSettings(**ANYWHERE)) as router:
        source, sink = connect(zmq.XPUB, router.ingress), connect(zmq.SUB, router.egress, b"t\0")
        assert source.recv() == b"\x01t\0"
        source.send_multipart([b"t\0", b"", b""])
        assert sink.recv_multipart() == [b"t\0", b"", b""]
        assert router.failure is None
    assert threading.active_count() == before
    router.stop()
    with socket.create_server(("127.0.0.1", int(router.ingress.rpartition(":")[2]))):
        pass


def test_ipv6_works(connect):
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with Router(RouterSettings(ingress="tcp://[::1]:0", egress="tcp://[::1]:0")) as router:
        assert router.ingress.startswith("tcp://[::1]:")
        with socket.create_connection(("::1", int(router.ingress.rpartition(":")[2])), timeout=5):
            pass
