"""A real nginx, driven by real clients: the events equal what the clients did, one for one."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ports import free_port

from .following import Running
from .nginx_configuration import MAIN, SITES
from .servers import answers, program, running, wait

pytestmark = pytest.mark.servers


@dataclass
class Nginx:
    """A running nginx."""

    folder: Path
    process: subprocess.Popen[bytes]
    combined: int
    timed: int
    as_json: int
    inner: int
    dead: int
    to_syslog: int
    syslog: int

    def log(self, name: str) -> Path:
        return self.folder / "logs" / name

    def reopen(self) -> None:
        """Let it write to new files, as logrotate does."""
        self.process.send_signal(signal.SIGUSR1)


@pytest.fixture
def nginx(open_path: Path, request: pytest.FixtureRequest) -> Iterator[Nginx]:
    """A running nginx with a configuration of its own; if nothing else is said, its log is in the order of requests."""
    folder = open_path / "nginx"
    for name in ("logs", "conf.d", "www", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "www/index.html").write_text("hello")
    (folder / "passwords").write_text("ada:{PLAIN}right\n")
    named = ("combined", "timed", "as_json", "inner", "dead", "to_syslog", "syslog")
    ports = {name: free_port() for name in named}
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/tmp/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        MAIN.format(
            folder=folder,
            user="root" if os.geteuid() == 0 else "nobody",
            temporary=temporary,
            workers=getattr(request, "param", 1),
        )
    )
    (folder / "conf.d/sites.conf").write_text(SITES.format(folder=folder, **ports))
    command = [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with running(command, folder / "output", signal.SIGQUIT) as process:
        wait(lambda: process.poll() is not None or answers(ports["combined"]), "nginx listens")
        assert process.poll() is None, (folder / "output").read_text()
        yield Nginx(folder, process, **ports)


def curl(*arguments: str) -> int:
    """Make a request; returns the size of the body that came."""
    done = subprocess.run(
        [program("curl"), "-sS", "--globoff", "--path-as-is", "-o", os.devnull, "-w", "%{size_download}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return int(done.stdout)


def send(port: int, data: bytes) -> bytes:
    """Send bytes, whatever they are, and return what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while got := connection.recv(65536):
                answer += got
    return answer


def hits(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["topic"] == "http.hit"]


def test_each_request_of_curl_is_a_hit_with_what_curl_sent_and_got(
    nginx: Nginx, follow: Callable[..., Running]
) -> None:
    running = follow("nginx", "--print", "--config", str(nginx.folder / "nginx.conf"))
    base = f"http://127.0.0.1:{nginx.combined}"
    cases: list[tuple[list[str], dict[str, Any]]] = [
        ([f"{base}/?q=1"], {"path": "/", "query": "q=1", "status": 200}),
        (["-X", "DELETE", f"{base}/a"], {"path": "/a", "method": "DELETE", "status": 405}),
        ([f"{base}/no/where"], {"path": "/no/where", "status": 404}),
        (["-A", 'quote " back \\ é', f"{base}/agent"], {"path": "/agent", "status": 404, "agent": 'quote " back \\ é'}),
        (["-e", "http://x/?a=b", f"{base}/ref"], {"path": "/ref", "status": 404, "referer": "http://x/?a=b"}),
        (["-A", "", f"{base}/nobody"], {"path": "/nobody", "status": 404, "agent": None}),
        ([f"{base}/%22%00?%5C=é"], {"path": "/%22%00", "query": "%5C=é", "status": 400, "agent": None}),
        (["-u", "ada:right", f"{base}/secret"], {"path": "/secret", "status": 200, "user": "ada"}),
        (["-u", "ada:wrong", f"{base}/secret"], {"path": "/secret", "status": 401, "user": "ada"}),
        (["--http1.0", f"{base}/old"], {"path": "/old", "status": 404, "version": "1.0"}),
        (["-I", f"{base}/"], {"path": "/", "method": "HEAD", "status": 200}),
        (["-d", "x" * 100, f"{base}/"], {"path": "/", "method": "POST", "status": 405}),
        ([f"http://[::1]:{nginx.combined}/six"], {"path": "/six", "status": 404, "client": "::1"}),
        (["--unix-socket", f"{nginx.folder}/nginx.sock", "http://x/u"], {"path": "/u", "client": "unix:"}),
        (["-X", "PROPFIND", f"{base}/dav"], {"path": "/dav", "method": "PROPFIND", "status": 405}),
    ]  # fmt: skip
    sizes = []
    for arguments, _ in cases:  # one after the other, since nginx logs a request when its connection is free again
        sizes.append(curl(*arguments))
        running.wait(lambda: len(hits(running.events)) == len(sizes))
    running.stop()

    for hit, (arguments, expected), size in zip(hits(running.events), cases, sizes, strict=True):
        request = hit["http"]["request"]
        found = {
            "path": hit["url"]["path"],
            "query": hit["url"].get("query"),
            "method": request.get("method_original", request["method"]),
            "status": hit["http"]["response"]["status_code"],
            "client": hit["client"]["address"],
            "user": hit.get("user", {}).get("name"),
            "agent": hit.get("user_agent", {}).get("original"),
            "referer": request.get("header", {}).get("referer"),
            "version": hit["network"]["protocol"]["version"],
        }
        usual = {
            "status": 404,
            "query": None,
            "method": "GET",
            "client": "127.0.0.1",
            "user": None,
            "referer": None,
            "version": "1.1",
        }
        if "agent" not in expected:
            assert found.pop("agent").startswith("curl/")
        assert found == {**usual, **expected}
        assert hit["http"]["response"]["body"]["size"] == (0 if "-I" in arguments else size)


def test_each_hostile_request_is_a_hit_with_its_bytes(nginx: Nginx, follow: Callable[..., Running]) -> None:
    running = follow("nginx", "--print", str(nginx.log("access.log")))
    requests = [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b'GET / HTTP/1.1 "quoted"',
        b"\xff\xfe \\x22 \\",
        b"'; DROP TABLE events; --",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1",
        b"GET /caf\xc3\xa9/\xe9?\x7f=\x80 HTTP/1.1\r\nHost: x",
        b"GET http://other.example:81/proxied?x HTTP/1.1\r\nHost: x",
        b"GET / HTTP/9.9",
        b"GET /0.9",
        b"OPTIONS * HTTP/1.1\r\nHost: x",
        b"get / HTTP/1.1",
        b"GET /\x1b[31m HTTP/1.1\r\nHost: x",
        b'GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: " "-" \\" \x01\xff',
        b"CONNECT x:443 HTTP/1.1\r\nHost: x",
    ]
    statuses = []
    for request in requests:
        answer = send(nginx.combined, request + b"\r\nConnection: close\r\n\r\n")
        statuses.append(int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0)
        running.wait(lambda: len(running.events) >= len(statuses))
    running.stop()

    assert {event["topic"] for event in running.events} == {"http.hit"}
    for hit, request, status in zip(hits(running.events), requests, statuses, strict=True):
        line = request.split(b"\r\n")[0].decode("utf-8", "backslashreplace")
        told = hit["http"]["request"]
        if "line" in told:
            assert line.startswith(told["line"])
        else:
            method = told.get("method_original", told["method"])
            url = hit["url"]
            target = url["path"] + (f"?{url['query']}" if "query" in url else "")
            if "scheme" in url:
                target = f"{url['scheme']}://{hit['server']['address']}:{hit['server']['port']}{target}"
            version = hit.get("network", {}).get("protocol", {}).get("version", "")
            whole = " ".join(filter(None, [method, target, version and f"HTTP/{version}"]))
            assert line == whole or (status == 414 and line.startswith(whole))
        if status:  # HTTP/0.9 has none
            assert hit["http"]["response"]["status_code"] == status
    agents = [hit["user_agent"]["original"] for hit in hits(running.events) if "user_agent" in hit]
    assert agents == ['" "-" \\" \x01\\xff']


def test_the_formats_of_the_configuration_are_read_with_upstreams_and_json(
    nginx: Nginx, follow: Callable[..., Running]
) -> None:
    running = follow("nginx", "--print", "--config", str(nginx.folder / "nginx.conf"))
    curl(f"http://127.0.0.1:{nginx.timed}/tried-two")
    curl(f"http://127.0.0.1:{nginx.timed}/inner")
    curl(f"http://127.0.0.1:{nginx.timed}/here")
    curl("-A", 'a "quoted" \\ é', "-H", "Host: json.example", f"http://127.0.0.1:{nginx.as_json}/j?a=b")
    running.wait(lambda: len(hits(running.events)) == 4)
    running.stop()

    by_path = {hit["url"]["path"]: hit for hit in hits(running.events)}
    two = by_path["/tried-two"]["nginx"]
    assert [each["address"] for each in two["upstream"]] == [f"127.0.0.1:{nginx.dead}", f"127.0.0.1:{nginx.inner}"]
    assert [each["status_code"] for each in two["upstream"]] == [502, 201]
    assert all(0 <= each["duration"] < 10 for each in two["upstream"])
    assert two["upstream_header"]["x-made"] == 'in "here'
    assert by_path["/tried-two"]["client"]["port"] > 0
    assert 0 <= by_path["/tried-two"]["duration"] < 10
    assert [each["status_code"] for each in by_path["/inner"]["nginx"]["upstream"]] == [201]
    assert "upstream" not in by_path["/here"].get("nginx", {})
    json_hit = by_path["/j"]
    assert json_hit["user_agent"]["original"] == 'a "quoted" \\ é'
    assert json_hit["server"]["address"] == "json.example"
    assert json_hit["http"]["response"] == {"status_code": 200, "body": {"size": 1}}


def test_errors_are_records_with_the_request_they_are_about(nginx: Nginx, follow: Callable[..., Running]) -> None:
    running = follow("nginx", "--print", str(nginx.log("error.log")))
    base = f"http://127.0.0.1:{nginx.combined}"
    curl("-H", "Host: shop.example", "-e", "http://from/", f"{base}/not-there?x=1")
    curl("-u", "ada:wrong", f"{base}/secret")
    curl("-u", "bob:any", f"{base}/secret")
    curl(f"http://127.0.0.1:{nginx.timed}/tried-two")
    curl(f"{base}/slow")
    curl(f"{base}/slow")

    def told(word: str) -> list[dict[str, Any]]:
        return [event["data"] for event in running.events if word in event["data"].get("body", "")]

    running.wait(lambda: len(told("limiting")) == 1)
    running.stop()

    assert {event["topic"] for event in running.events} == {"log.record"}
    (missing,) = told("not-there")
    assert missing["severity_text"] == "error"
    assert missing["url"] == {"path": "/not-there", "query": "x=1"}
    assert missing["server"] == {"address": "shop.example"}
    assert missing["client"] == {"address": "127.0.0.1"}
    assert missing["http"]["request"]["header"] == {"referer": "http://from/"}
    assert missing["nginx"]["server_name"] == "plain"
    assert [each["user"]["name"] for each in told('user "')] == ["ada", "bob"]
    (refused,) = told("Connection refused")
    assert refused["nginx"]["upstream"] == f"http://127.0.0.1:{nginx.dead}/tried-two"
    assert told("limiting")[0]["nginx"]["limit"]["zone"] == "slow"


def test_what_nginx_logs_to_syslog_is_told_as_what_it_logs_to_files(
    nginx: Nginx, follow: Callable[..., Running]
) -> None:
    running = follow("nginx", "--print", "--syslog", f"udp://127.0.0.1:{nginx.syslog}")
    assert f"udp://127.0.0.1:{nginx.syslog}" in running.ready
    for number in range(50):
        curl("-A", 'a "b" é', f"http://127.0.0.1:{nginx.to_syslog}/{number}")
    running.wait(lambda: len(running.events) >= 100)
    running.stop()

    assert [hit["url"]["path"] for hit in hits(running.events)] == [f"/{number}" for number in range(50)]
    assert {hit["user_agent"]["original"] for hit in hits(running.events)} == {'a "b" é'}
    errors = [event["data"] for event in running.events if event["topic"] == "log.record"]
    assert [error["url"]["path"] for error in errors] == [f"/{number}" for number in range(50)]


@pytest.mark.parametrize("nginx", [2], indirect=True, ids=["two workers"])
def test_no_hit_is_lost_or_told_twice_through_rotation_truncation_and_restarts(
    nginx: Nginx, follow: Callable[..., Running], tmp_path: Path
) -> None:
    path = nginx.log("access.log")
    expected: list[str] = []
    seen: list[str] = []

    def request(count: int) -> None:
        for _ in range(count):
            target = f"/{len(expected)}"
            send(nginx.combined, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            expected.append(target)

    def caught_up() -> None:
        running.wait(lambda: len(seen) + len(hits(running.events)) >= len(expected))

    def restart() -> Running:
        seen.extend(hit["url"]["path"] for hit in hits(running.events))
        return follow("nginx", "--print", str(path))

    running = follow("nginx", "--print", str(path))
    request(20)
    caught_up()
    # As logrotate does by default: the old file is written to until nginx is told.
    path.rename(f"{path}.1")
    request(20)
    nginx.reopen()
    wait(path.exists, "nginx reopens its log")
    request(20)
    caught_up()
    # Stopped, rotated and compressed meanwhile.
    running.stop()
    request(20)
    Path(f"{path}.1").rename(f"{path}.2")
    path.rename(f"{path}.1")
    nginx.reopen()
    wait(path.exists, "nginx reopens its log")
    packed = Path(f"{path}.1.gz")
    packed.write_bytes(gzip.compress(Path(f"{path}.1").read_bytes()))
    shutil.copystat(f"{path}.1", packed)
    Path(f"{path}.1").unlink()
    request(20)
    running = restart()
    caught_up()
    # Killed: nothing was going on, so its positions are on the disk.
    wait(lambda: _saved(path, tmp_path / "state"), "positions are saved")
    running.kill()
    request(20)
    running = restart()
    caught_up()
    # Copied and truncated.
    shutil.copy2(path, f"{path}.0")
    os.truncate(path, 0)
    request(20)
    caught_up()
    running.stop()
    seen.extend(hit["url"]["path"] for hit in hits(running.events))

    # Each once; two workers may write the end of one request before the end of the request before it.
    assert sorted(seen) == sorted(expected)


def _saved(path: Path, state: Path) -> bool:
    about = path.stat()
    # This file's, not that of one which was as long.
    marks = (f'"inode": {about.st_ino},', f'"offset": {about.st_size},')
    return any(all(mark in each.read_text() for mark in marks) for each in state.glob("*.json"))
