"""What is recorded under ``eventstorm-instrument``: each request once, as the program wants it, if it is enabled."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

from eventstorm_integrations import _framework
from eventstorm_integrations._framework import needs
from eventstorm_integrations.instrument.table import find_rows
from integrations.instrumented import FLASK, HIT, RECORD, STARLETTE, get, hits, run, serving
from ports import free_port
from sdk.peer import Peer, wait_until

RULE, PATH = "/item/<int:number>", "/item/{number:int}"
HOOK = """
def hook(hit, request):
    hit["mine"] = True
    return "8" not in hit["url"]["path"]
"""
GUNICORN = "gunicorn --no-control-socket -b 127.0.0.1:PORT shop:app"
UVICORN = "uvicorn --port PORT shop:app"
OWN: dict[str, tuple[str, str]] = {
    "a middleware in Flask": (
        FLASK + "from eventstorm_integrations.wsgi import EventstormMiddleware\n"
        "app.wsgi_app = EventstormMiddleware(app.wsgi_app, hook=hook)\n",
        GUNICORN,
    ),
    "a middleware around Flask": (
        FLASK + "from eventstorm_integrations.wsgi import EventstormMiddleware\n"
        "app = EventstormMiddleware(app, hook=hook)\n",
        GUNICORN,
    ),
    "one application of Flask": (
        FLASK + "from eventstorm_integrations.flask import instrument_app\ninstrument_app(app, hook=hook)\n",
        GUNICORN,
    ),
    "all of Flask": (
        FLASK + "from eventstorm_integrations.flask import instrument\ninstrument(hook=hook)\n",
        GUNICORN,
    ),
    "flask run": (
        FLASK + "from eventstorm_integrations.flask import instrument\ninstrument(hook=hook)\n",
        "flask --app shop run --port PORT",
    ),
    "a middleware in Starlette": (
        STARLETTE + "from eventstorm_integrations.asgi import EventstormMiddleware\n"
        "app.add_middleware(EventstormMiddleware, hook=hook)\n",
        UVICORN,
    ),
    "a middleware around Starlette": (
        STARLETTE + "from eventstorm_integrations.asgi import EventstormMiddleware\n"
        "app = EventstormMiddleware(app, hook=hook)\n",
        UVICORN,
    ),
    "one application of Starlette": (
        STARLETTE + "from eventstorm_integrations.starlette import instrument_app\ninstrument_app(app, hook=hook)\n",
        UVICORN,
    ),
    "all of Starlette": (
        STARLETTE + "from eventstorm_integrations.starlette import instrument\ninstrument(hook=hook)\n",
        UVICORN,
    ),
    "all of FastAPI": (
        STARLETTE + "from eventstorm_integrations.fastapi import instrument\ninstrument(hook=hook)\n",
        UVICORN,
    ),
    "one application of Flask in Starlette": (
        FLASK + "from a2wsgi import WSGIMiddleware\n"
        "from eventstorm_integrations.flask import instrument_app\n"
        "from starlette.applications import Starlette\n"
        "from starlette.routing import Mount\n"
        "instrument_app(app, hook=hook)\n"
        "app = Starlette(routes=[Mount('/', WSGIMiddleware(app))])\n",
        UVICORN,
    ),
    "all of gunicorn": (
        FLASK + "from eventstorm_integrations.gunicorn import instrument\ninstrument(hook=hook)\n",
        GUNICORN,
    ),
}


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Who listens to requests and records."""
    with Peer(b"http.hit\0", b"log.record\0") as started:
        yield started


@pytest.mark.parametrize("way", OWN)
def test_what_the_program_asks_for_is_what_is_recorded_once_and_without_a_warning(
    way: str, peer: Peer, tmp_path: Path
) -> None:
    code, command = OWN[way]
    port = free_port()
    (tmp_path / "shop.py").write_text(HOOK + code)

    with serving(tmp_path, peer.endpoint, port, *command.replace("PORT", str(port)).split()) as log:
        for number in (7, 8, 9):
            assert get(port, f"/item/{number}") == (200, f"item {number}")
        wait_until(lambda: peer.count(HIT) >= 2, "the hits")
        printed = log.read_text()

    assert hits(peer) == [(f"/item/{number}", 200, RULE if "Flask" in code else PATH) for number in (7, 9)]
    assert all(hit["mine"] for hit in peer.events(HIT))
    assert "instrumented already" not in printed
    assert "RuntimeWarning" not in printed


@pytest.mark.parametrize("own", ["", "logging.getLogger().addHandler(EventstormHandler())", "instrument()"])
def test_a_record_is_one_event_whatever_handlers_the_program_has(own: str, peer: Peer, tmp_path: Path) -> None:
    code = f"""
import logging
from eventstorm_integrations.logging import EventstormHandler, instrument
{own}
logging.warning("once")
print(logging.Logger.callHandlers.__qualname__, len(logging.getLogger("x").handlers))
"""
    done = run(tmp_path, peer.endpoint, "python", "-c", code)

    assert (done.returncode, done.stdout) == (0, "Logger.callHandlers 0\n")
    assert "already" not in done.stderr
    assert [event["body"] for event in peer.wait_for(1, RECORD)] == ["once"]


@pytest.mark.parametrize(
    ("disabled", "found", "logged"),
    [
        ("", [RULE], True),
        ("logging", [RULE], False),
        ("flask", [""], True),
        ("werkzeug, logging", [RULE], False),
        ("flask,werkzeug", [], True),
        ("*", [], False),
    ],
)
@pytest.mark.parametrize("place", ["variable", "file"])
def test_what_is_disabled_does_nothing(
    disabled: str, found: list[str], logged: bool, place: str, peer: Peer, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(FLASK)
    names = [f'"{name.strip()}"' for name in disabled.split(",")]
    variables = {"EVENTSTORM_INSTRUMENT_DISABLE": disabled} if place == "variable" else {}
    if place == "file" and disabled:
        (tmp_path / "eventstorm.toml").write_text(f"[instrument]\ndisable = [{', '.join(names)}]\n")
    code = """
import threading, urllib.request
from werkzeug.serving import make_server
import eventstorm, shop
server = make_server("127.0.0.1", 0, shop.app)
threading.Thread(target=server.serve_forever).start()
print(urllib.request.urlopen(f"http://127.0.0.1:{server.port}/item/7").read().decode())
server.shutdown()
server.server_close()
eventstorm.emit("http.hit", url={"path": "end"}, http={"response": {}})
"""
    done = run(tmp_path, peer.endpoint, "python", "-W", "error", "-c", code, **variables)

    assert (done.returncode, done.stdout) == (0, "item 7\n"), done.stderr
    wait_until(lambda: ("end", None, "") in hits(peer), "the last event")
    assert [route for path, _, route in hits(peer) if path != "end"] == found
    assert bool([event for event in peer.events(RECORD) if event["logger"] == "shop"]) == logged


def test_a_name_that_is_none_of_an_integration_is_told_and_the_program_runs(tmp_path: Path) -> None:
    done = run(tmp_path, "tcp://127.0.0.1:9", "python", "-c", "print(7)", EVENTSTORM_INSTRUMENT_DISABLE="flaks")

    assert (done.returncode, done.stdout) == (0, "7\n")
    assert done.stderr == (
        "eventstorm-instrument: EVENTSTORM_INSTRUMENT_DISABLE: "
        "there is no integration 'flaks' here; did you mean 'flask'?\n"
    )


# Stands for a framework, in a folder that comes before the installed ones.
OLD = {
    "django": ("__version__ = '4.1.9'", "django.core.handlers.wsgi"),
    "fastapi": ("__version__ = '0.99.1'", "fastapi.routing"),
    "flask": ("__version__ = '2.1.3'", "flask"),
    "gunicorn": ("__version__ = '19.9.0'", "gunicorn.workers.base"),
    "hypercorn": ("__version__ = '0.13.2'", "hypercorn.app_wrappers"),
    "litestar": ("__version__ = '1.51'", "litestar"),
    "starlette": ("__version__ = '0.26.1'", "starlette.applications"),
    "uvicorn": ("__version__ = '0.19.0'", "uvicorn"),
    "waitress": ("__version__ = '2.0.0'", "waitress"),
    "werkzeug": ("__version__ = '2.1.2'", "werkzeug"),
}


@pytest.mark.parametrize("name", OLD)
def test_a_framework_that_is_too_old_is_skipped_and_refused_by_its_name(name: str, tmp_path: Path) -> None:
    content, trigger = OLD[name]
    package = tmp_path / "old"
    for part in trigger.split("."):
        package = package / part
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(content)
    code = f"import {trigger}; print({name}.__version__)"

    skipped = run(tmp_path, "tcp://127.0.0.1:9", "python", "-c", code, PYTHONPATH="old")
    by_name = run(
        tmp_path, "tcp://127.0.0.1:9", "python", "-c", f"import eventstorm_integrations.{name}", PYTHONPATH="old"
    )

    version = content.split("'")[1]
    assert (skipped.returncode, skipped.stdout, skipped.stderr) == (0, f"{version}\n", "")
    assert by_name.returncode == 1
    assert f"ImportError: {name} {version} is older than " in by_name.stderr
    assert f"install it with: pip install --upgrade 'eventstorm-integrations[{name}]'" in by_name.stderr


@pytest.mark.parametrize("name", OLD)
def test_a_framework_that_is_missing_is_refused_by_its_name(name: str) -> None:
    code = f"""
import sys
sys.modules["{name}"] = None
if "{name}" == "fastapi":  # which brings it
    sys.modules["starlette"] = None
import eventstorm_integrations.{name}
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"install it with: pip install 'eventstorm-integrations[{name}]'")


@pytest.mark.parametrize("name", OLD)
def test_the_oldest_version_is_that_of_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class Noted(needs):
        def __init__(self, framework: str, least: str) -> None:
            super().__init__(framework, least)
            asked.append((framework, least))

    monkeypatch.setattr(_framework, "needs", Noted)
    module = sys.modules.pop(f"eventstorm_integrations.{name}", None)
    __import__(f"eventstorm_integrations.{name}")
    if module is not None:
        monkeypatch.setitem(sys.modules, module.__name__, module)

    ((framework, least),) = [each for each in asked if each[0] == name]
    declared = [line.replace(" ", "").replace('"', "'") for line in requires("eventstorm-integrations") or ()]
    assert f"{framework}>={least};extra=='{name}'" in declared


def test_the_page_has_every_integration_with_its_oldest_version() -> None:
    page = (Path(__file__).parents[2] / "docs/instrument.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| ([\w.]+) \|", page, re.MULTILINE))
    declared = [line.replace(" ", "") for line in requires("eventstorm-integrations") or ()]

    assert set(listed) == {
        module.rpartition(".")[2] for _, module, _ in find_rows() if module.startswith("eventstorm_")
    }
    for name, version in listed.items():
        assert version == "any" or any(line.startswith(f"{name}>={version};") for line in declared), name


@pytest.mark.parametrize("version", ["2.2", "2.2.0", "2.2rc1", "2.10", "3", "v3.1.dev4+local", "dev"])
def test_versions_are_compared_as_numbers(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "framework", type(sys)("framework"))
    monkeypatch.setattr(sys.modules["framework"], "__version__", version, raising=False)
    if version == "dev":
        with (
            pytest.raises(ImportError, match=r"framework dev is older than 2\.2; install it with"),
            needs("framework", "2.2"),
        ):
            pass
    else:
        with needs("framework", "2.2"):
            pass
