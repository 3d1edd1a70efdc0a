"""Programs that run under ``eventstorm-instrument``, and a router with a subscriber that hears what they emit."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdk.peer import DEADLINE_S, Peer, settle

BIN = Path(sys.executable).parent
INSTRUMENT = str(BIN / "eventstorm-instrument")
HIT, RECORD = "http.hit", "log.record"

FLASK = """
import logging
from flask import Flask

app = Flask(__name__)

@app.get("/item/<int:number>")
def item(number):
    logging.getLogger("shop").warning("item %d", number)
    return f"item {number}"
"""

STARLETTE = """
import logging
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def item(request):
    number = request.path_params["number"]
    logging.getLogger("shop").warning("item %d", number)
    return PlainTextResponse(f"item {number}")

app = Starlette(routes=[Route("/item/{number:int}", item)])
"""

FASTAPI = """
import logging
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse

router = APIRouter(prefix="/item")

@router.get("/{number}", response_class=PlainTextResponse)
def item(number: int):
    logging.getLogger("shop").warning("item %d", number)
    return f"item {number}"

app = FastAPI()
app.include_router(router)
"""

LITESTAR = """
import logging
from litestar import Litestar, MediaType, get

@get("/item/{number:int}", media_type=MediaType.TEXT, sync_to_thread=False)
def item(number: int) -> str:
    logging.getLogger("shop").warning("item %d", number)
    return f"item {number}"

app = Litestar([item], logging_config=None)
"""

DJANGO = """
import logging, sys
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(DEBUG=True, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")

def item(request, number):
    logging.getLogger("shop").warning("item %d", number)
    return HttpResponse(f"item {number}")

urlpatterns = [path("item/<int:number>", item)]

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
else:
    app, asgi = get_wsgi_application(), get_asgi_application()
"""

WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"item 7"]
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"item 7"})
"""


def environment(endpoint: str, **variables: str) -> dict[str, str]:
    """Return this process's environment, as a user's shell has it, with other variables."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    return {**kept, "PATH": path, "EVENTSTORM_ENDPOINT": endpoint, "PYTHONUNBUFFERED": "1", **variables}


def run(
    folder: Path, endpoint: str, *command: str, launcher: str = INSTRUMENT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command under the launcher to its end."""
    done = subprocess.run(
        [launcher, *command] if launcher else command,
        cwd=folder,
        env=environment(endpoint, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    settle(endpoint)
    return done


@contextlib.contextmanager
def serving(folder: Path, endpoint: str, port: int, *command: str, **variables: str) -> Iterator[Path]:
    """Run a server under the launcher until the block ends; yield the file of what it printed."""
    log = folder / f"log-{port}"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [INSTRUMENT, *command],
            cwd=folder,
            env=environment(endpoint, **variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not _answers(port):
            assert server.poll() is None, f"it ended with {server.returncode}:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"it does not serve:\n{log.read_text()}"
            time.sleep(0.05)  # between two looks at another process
        yield log
    finally:
        # The whole group, as Ctrl-C does: reloaders and workers too. But a worker of gunicorn with threads, which its
        # master tells to quit as well, then sometimes waits for its own lock for ever, without eventstorm too.
        tell = os.kill if "--threads" in command else os.killpg
        with contextlib.suppress(ProcessLookupError):
            tell(server.pid, signal.SIGINT)
        try:
            server.wait(DEADLINE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def get(port: int, path: str) -> tuple[int, str]:
    """GET a path; return the status and the body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def hits(peer: Peer) -> list[tuple[Any, Any, Any]]:
    """Return path, status and route of each request that was recorded, in order of paths."""
    return sorted(
        (hit["url"]["path"], hit["http"]["response"].get("status_code"), hit["http"].get("route") or "")
        for hit in peer.events(HIT)
    )
