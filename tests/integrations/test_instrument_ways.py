"""Every way to start a program: each request is one hit, with its route, and each log record is there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from integrations.instrumented import (
    ASGI,
    DJANGO,
    FASTAPI,
    FLASK,
    HIT,
    INSTRUMENT,
    LITESTAR,
    RECORD,
    STARLETTE,
    WSGI,
    get,
    hits,
    run,
    serving,
)
from ports import free_port
from sdk.peer import Peer, wait_until

RULE, PATH = "/item/<int:number>", "/item/{number:int}"

# What a command line is made of: the application, and the command, in which PORT is one.
SERVERS: dict[str, tuple[str, str, str]] = {
    "flask run": (FLASK, RULE, "flask --app shop run --port PORT"),
    "flask run --reload": (FLASK, RULE, "flask --app shop run --reload --port PORT"),
    "python -m flask run --debug": (FLASK, RULE, "python -m flask --app shop run --debug --port PORT"),
    # A worker that is told to end before it has set up its signals never hears of it, and is killed after a while.
    "gunicorn": (FLASK, RULE, "gunicorn --no-control-socket --graceful-timeout 3 -w 2 -b 127.0.0.1:PORT shop:app"),
    "gunicorn --preload, threads": (
        FLASK,
        RULE,
        "gunicorn --no-control-socket --preload --threads 2 -b 127.0.0.1:PORT shop:app",
    ),
    "gunicorn -k gevent": (FLASK, RULE, "gunicorn --no-control-socket -k gevent -b 127.0.0.1:PORT shop:app"),
    "gunicorn --reload": (FLASK, RULE, "python -m gunicorn --no-control-socket --reload -b 127.0.0.1:PORT shop:app"),
    "gunicorn, any WSGI": (WSGI, "", "gunicorn --no-control-socket -b 127.0.0.1:PORT shop:app"),
    "gunicorn -k asgi": (STARLETTE, PATH, "gunicorn --no-control-socket -k asgi -b 127.0.0.1:PORT shop:app"),
    "gunicorn -k asgi, any ASGI": (ASGI, "", "gunicorn --no-control-socket -k asgi -b 127.0.0.1:PORT shop:app"),
    "uvicorn": (STARLETTE, PATH, "uvicorn --port PORT shop:app"),
    "uvicorn --reload": (STARLETTE, PATH, "uvicorn --reload --port PORT shop:app"),
    "uvicorn --workers 4": (STARLETTE, PATH, "python -m uvicorn --workers 4 --port PORT shop:app"),
    "uvicorn, any ASGI": (ASGI, "", "uvicorn --port PORT shop:app"),
    "uvicorn --interface wsgi": (FLASK, RULE, "uvicorn --interface wsgi --port PORT shop:app"),
    "uvicorn, FastAPI": (FASTAPI, "/item/{number}", "uvicorn --port PORT shop:app"),
    "uvicorn, Litestar": (LITESTAR, "/item/{number}", "uvicorn --port PORT shop:app"),
    "uvicorn, Django": (DJANGO, RULE, "uvicorn --port PORT shop:asgi"),
    "gunicorn, Django": (DJANGO, RULE, "gunicorn --no-control-socket -b 127.0.0.1:PORT shop:app"),
    "Django's runserver": (DJANGO, RULE, "python shop.py runserver 127.0.0.1:PORT"),
    "waitress": (FLASK, RULE, "waitress-serve --listen 127.0.0.1:PORT shop:app"),
    "waitress, any WSGI": (WSGI, "", "waitress-serve --listen 127.0.0.1:PORT shop:app"),
    "hypercorn --workers 2": (STARLETTE, PATH, "hypercorn --workers 2 -b 127.0.0.1:PORT shop:app"),
    "hypercorn --reload": (STARLETTE, PATH, "hypercorn --reload -b 127.0.0.1:PORT shop:app"),
    "hypercorn, any ASGI": (ASGI, "", "python -m hypercorn -b 127.0.0.1:PORT shop:app"),
    "hypercorn, any WSGI": (WSGI, "", "hypercorn -b 127.0.0.1:PORT shop:app"),
    "uWSGI": (FLASK, RULE, "pyuwsgi --http-socket 127.0.0.1:PORT --master --processes 2 --module shop:app"),
    "uvicorn, Flask in Starlette": (
        FLASK + "from a2wsgi import WSGIMiddleware\n"
        "from starlette.applications import Starlette\n"
        "from starlette.routing import Mount\n"
        "app = Starlette(routes=[Mount('/', WSGIMiddleware(app))])\n",
        RULE,
        "uvicorn --port PORT shop:app",
    ),
    "wsgiref": (
        FLASK + "from wsgiref.simple_server import make_server\nmake_server('127.0.0.1', PORT, app).serve_forever()\n",
        RULE,
        "python shop.py",
    ),
    "wsgiref, any WSGI": (
        WSGI + "from wsgiref.simple_server import make_server\nmake_server('127.0.0.1', PORT, app).serve_forever()\n",
        "",
        "python shop.py",
    ),
    "app.run()": (FLASK + "\nif __name__ == '__main__':\n    app.run(port=PORT)\n", RULE, "python -m shop"),
    "uvicorn.run()": (STARLETTE + "\nimport uvicorn\nuvicorn.run(app, port=PORT)\n", PATH, "python shop.py"),
}


# What older versions than these do not know.
SINCE = {
    "python -m flask run --debug": ("flask", 2, 2, 3),
    "gunicorn -k asgi": ("gunicorn", 24, 0),
    "gunicorn -k asgi, any ASGI": ("gunicorn", 24, 0),
}


def is_since(name: str, *least: int) -> bool:
    """Tell whether a framework is of that version or a later one."""
    return tuple(map(int, re.findall(r"\d+", version(name)))) >= least


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Who listens to requests and records."""
    with Peer(b"http.hit\0", b"log.record\0") as started:
        yield started


@pytest.mark.parametrize("way", SERVERS)
def test_each_request_is_one_hit_with_its_route_and_its_records(way: str, peer: Peer, tmp_path: Path) -> None:
    if way in SINCE and not is_since(*SINCE[way]):
        pytest.skip(f"{SINCE[way][0]} {version(SINCE[way][0])} has no such way")
    code, route, command = SERVERS[way]
    if not is_since("gunicorn", 25, 1):
        command = command.replace("--no-control-socket", "")
    port = free_port()
    (tmp_path / "shop.py").write_text(code.replace("PORT", str(port)))

    with serving(tmp_path, peer.endpoint, port, *command.replace("PORT", str(port)).split()):
        assert get(port, "/item/7") == (200, "item 7")
        answers = [get(port, f"/item/{number}") for number in range(8, 12)]
        # A request is recorded when it is over, which the client sees a little earlier than the server.
        wait_until(lambda: peer.count(HIT) >= 5, "the hits")

    assert [status for status, _ in answers] == [200] * 4
    assert hits(peer) == sorted((f"/item/{number}", 200, route) for number in range(7, 12))
    if route:
        records = [event for event in peer.events(RECORD) if event["logger"] == "shop"]
        assert sorted(record["body"] for record in records) == sorted(f"item {number}" for number in range(7, 12))
        traces = {hit["url"]["path"]: hit["trace_id"] for hit in peer.events(HIT)}
        assert {f"/{record['body'].replace(' ', '/')}": record["trace_id"] for record in records} == traces


LOGS = """
import logging, sys
logging.getLogger("shop").warning("started as %s", __name__)
"""


PLAIN = ("python", "program.py")
LAUNCHERS = {
    "eventstorm-instrument": (INSTRUMENT,),
    "eventstorm instrument": (INSTRUMENT.removesuffix("-instrument"), "instrument"),
    "python -m": (sys.executable, "-m", "eventstorm_integrations"),
}
STARTS = [
    *((launcher, PLAIN) for launcher in LAUNCHERS),
    *(
        ("eventstorm-instrument", command)
        for command in [
            ("python", "-m", "program"),
            ("python", "-c", "import program"),
            ("python", "-X", "utf8", "-W", "error", "program.py"),
            ("./program.py",),
            ("sh", "-c", "python program.py"),
            ("env", "python", "program.py"),
            ("timeout", "50", "python", "program.py"),
            ("--", "python", "program.py"),
        ]
    ),
]


@pytest.mark.parametrize(("launcher", "command"), STARTS, ids=str)
def test_programs_of_all_kinds_are_instrumented(
    launcher: str, command: tuple[str, ...], peer: Peer, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"#!{sys.executable}\n{LOGS}")
    program.chmod(0o755)
    front, *rest = LAUNCHERS[launcher]

    done = run(tmp_path, peer.endpoint, *rest, *command, launcher=front)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (record,) = peer.wait_for(1, RECORD)
    assert record["body"] == f"started as {'program' if '-c' in command and 'sh' not in command else '__main__'}"
    assert done.stderr == f"{record['body']}\n"


CHILDREN = {
    "subprocess": "subprocess.run([sys.executable, '-c', code], check=True)",
    "subprocess of a shell": "subprocess.run(f'{sys.executable} -c \"$CODE\"', shell=True, check=True)",
    "fork": "os.waitpid(pid, 0) if (pid := os.fork()) else exec(code)",
    "multiprocessing fork": "multiprocessing.get_context('fork').Process(target=work).start()",
    "multiprocessing spawn": "multiprocessing.get_context('spawn').Process(target=work).start()",
    "multiprocessing forkserver": "multiprocessing.get_context('forkserver').Process(target=work).start()",
    "an executor": "concurrent.futures.ProcessPoolExecutor(1).submit(work).result()",
    "os.execv": "os.execv(sys.executable, [sys.executable, '-c', code])",
}


@pytest.mark.parametrize("way", CHILDREN)
def test_children_are_instrumented_too(way: str, peer: Peer, tmp_path: Path) -> None:
    program = f"""
import concurrent.futures, multiprocessing, os, subprocess, sys
code = "import logging; logging.getLogger('child').error('said')"
os.environ["CODE"] = code
def work():
    exec(code)
if __name__ == "__main__":
    {CHILDREN[way]}
"""
    (tmp_path / "program.py").write_text(program)

    done = run(tmp_path, peer.endpoint, "python", "program.py")

    assert done.returncode == 0, done.stderr
    wait_until(lambda: peer.count(RECORD), "the record")
    assert [(event["logger"], event["body"]) for event in peer.events(RECORD)] == [("child", "said")]


def test_the_tests_of_a_project_are_instrumented(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(FLASK)
    (tmp_path / "test_shop.py").write_text("""
import shop

def test_item(caplog):
    assert shop.app.test_client().get("/item/7").text == "item 7"
    assert caplog.messages == ["item 7"]
""")
    done = run(tmp_path, peer.endpoint, "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_shop.py")

    assert done.returncode == 0, done.stdout + done.stderr
    peer.wait_for(1, HIT)
    assert hits(peer) == [("/item/7", 200, RULE)]
    assert [event["body"] for event in peer.events(RECORD) if event["logger"] == "shop"] == ["item 7"]


def test_a_program_that_emits_nothing_opens_nothing_and_so_waits_for_nobody(tmp_path: Path) -> None:
    code = (
        "import flask, logging, starlette.applications, sys; print({'eventstorm._publish', 'zmq'} & set(sys.modules))"
    )

    done = run(tmp_path, f"tcp://127.0.0.1:{free_port()}", "python", "-c", code)

    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")
