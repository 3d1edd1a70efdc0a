"""Every command and example in the documents works, run as a reader would run it.

``sh`` and ``python`` blocks are run for real, each page in a folder of its own, beside an `eventstorm up` on ports that
are free: the default ones in the text are replaced by these, so that nobody's own Eventstorm is in the way. A ``toml``,
``ini`` or ``python`` block whose first line is a comment with a file's name is written to that file. Blocks of other
languages are not run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from documents import ROOT, Block, blocks, pages

README = blocks(ROOT / "README.md")
# What these do is the business of the run that we are part of.
_OURS = re.compile(r"^(\./scripts/test|nox|\.venv-dev/bin/nox)\b")
# These go on until they are told to stop; what runs in the background (&) is stopped by its own example.
_ENDLESS = re.compile(
    r"^(?!.*(--once|&$))eventstorm(-| )(logs|page|up|router|sink|sysmon|tap|top|instrument gunicorn)\b"
)
# And of them, these bind ports.
_BINDS = re.compile(r"^eventstorm(-| )(page|up|router)\b")
DEADLINE_S = 60.0


def _runnable(block: Block) -> bool:
    return block.mark not in ("first", "tests") and block.language in ("sh", "python") and not _OURS.match(block.text)


BLOCKS = [block for page in pages() for block in blocks(page) if _runnable(block)]


@dataclass(frozen=True)
class Place:
    """Ports and folders that nobody else uses."""

    folder: Path
    ingress: int
    egress: int
    http: int
    shop: int

    @classmethod
    def free(cls, folder: Path) -> Place:
        """Choose ports."""
        with contextlib.ExitStack() as stack:
            probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
            return cls(folder, *(probe.getsockname()[1] for probe in probes))

    def environment(self) -> dict[str, str]:
        """Return an environment in which these are the defaults, and in which no warning is overlooked."""
        ingress, egress, http = self.ingress, self.egress, self.http
        kept = {name: os.environ[name] for name in os.environ if not name.startswith(("EVENTSTORM_", "XDG_"))}
        return {
            **kept,
            "PATH": os.pathsep.join([f"{sys.prefix}/bin", os.environ["PATH"]]),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_RUNTIME_DIR": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
            "GUNICORN_CMD_ARGS": "--bind 127.0.0.1:0 --no-control-socket",
            "EVENTSTORM_ENDPOINT": f"tcp://127.0.0.1:{ingress}",
            "EVENTSTORM_EGRESS": f"tcp://127.0.0.1:{egress}",
            "EVENTSTORM_ROUTER_INGRESS": f"tcp://127.0.0.1:{ingress}",
            "EVENTSTORM_ROUTER_EGRESS": f"tcp://127.0.0.1:{egress}",
            "EVENTSTORM_SINK_INGRESS": f"tcp://127.0.0.1:{ingress}",
            "EVENTSTORM_SINK_EGRESS": f"tcp://127.0.0.1:{egress}",
            "EVENTSTORM_SINK_HTTP": f"127.0.0.1:{http}",
        }

    def translate(self, text: str) -> str:
        """Put these ports where the text has the default ones."""
        ours = {5550: self.ingress, 5551: self.egress, 5580: self.http, 8000: self.shop}
        # Nothing listens at port 1: examples are not to write into somebody's MongoDB.
        for default, port in {**ours, 27017: 1}.items():
            text = text.replace(f"127.0.0.1:{default}", f"127.0.0.1:{port}")
        return text

    def answers(self) -> bool:
        """Whether the page is there."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.http}/", timeout=5) as page:
            return b"<html" in page.read()
        return False


@contextlib.contextmanager
def started(command: str, place: Place, cwd: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a shell's command line in a process group of its own; yield it and the file with what it prints."""
    log = place.folder / f"log-{time.monotonic_ns()}"
    with log.open("wb") as output:
        running = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=cwd,
            env=place.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield running, log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def wait_until(probe: object, running: subprocess.Popen[bytes], log: Path, deadline_s: float = DEADLINE_S) -> None:
    """Return when `probe()` is true; fail when the process ends or the time is up."""
    assert callable(probe)
    give_up = time.monotonic() + deadline_s
    while not probe():
        assert running.poll() is None, f"it ended with {running.returncode}:\n{log.read_text()}"
        assert time.monotonic() < give_up, f"not within {deadline_s} s:\n{log.read_text()}"
        time.sleep(0.05)  # between two looks at another process


def interrupt(running: subprocess.Popen[bytes], log: Path) -> None:
    """Press Ctrl-C, and see it end as it should."""
    os.killpg(running.pid, signal.SIGINT)
    code = running.wait(20)
    assert code in (0, 128 + signal.SIGINT, -signal.SIGINT), f"it ended with {code}:\n{log.read_text()}"
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A running `eventstorm up`."""
    place = Place.free(tmp_path_factory.mktemp("up"))
    with started("exec eventstorm up", place, place.folder) as (running, log):
        wait_until(place.answers, running, log)
        yield place
        interrupt(running, log)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Path, Path]:
    """A folder for each page, with its configuration files, the examples, and this environment as its ``.venv``."""
    found = {}
    for page in pages():
        found[page] = tmp_path_factory.mktemp("page")
        (found[page] / ".venv").symlink_to(sys.prefix)
        (found[page] / "examples").symlink_to(ROOT / "examples")
        for block in blocks(page):
            if block.language in ("toml", "ini", "python") and (name := re.match(r"# ([\w.-]+)\n", block.text)):
                (found[page] / name[1]).write_text(block.text, "utf-8")
    return found


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_examples_work(block: Block, up: Place, folders: Mapping[Path, Path], tmp_path: Path) -> None:
    if block.text.startswith("curl") and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    cwd = folders[block.page]
    if block.language == "python":
        (tmp_path / "example.py").write_text(up.translate(block.text), "utf-8")
        _run_to_its_end(f"python -W error {tmp_path}/example.py", up, cwd)
        return
    done = ""
    for line in block.text.replace("\\\n", "").splitlines():
        if not _ENDLESS.match(line):
            done += f"{line}\n"
            continue
        place = Place.free(tmp_path) if _BINDS.match(line) else up
        with started(f"{place.translate(done)}\nexec {place.translate(line)}", place, cwd) as (running, log):
            wait_until(lambda log=log: _prints_when_something_happens(up, log), running, log)
            interrupt(running, log)
    if done:
        _run_to_its_end(up.translate(done), up, cwd)


def _run_to_its_end(command: str, place: Place, cwd: Path) -> None:
    with started(command, place, cwd) as (running, log):
        code = running.wait(DEADLINE_S)
        assert code == 0, f"{command!r} ended with {code}:\n{log.read_text()}"
        assert "Traceback" not in log.read_text()


def _prints_when_something_happens(place: Place, log: Path) -> bool:
    subprocess.run(["eventstorm", "emit", "shop.order", "total=1"], env=place.environment(), check=True, timeout=20)
    return log.stat().st_size > 0


@pytest.mark.install
@pytest.mark.timeout(600)
def test_the_first_command_installs_and_starts_everything(tmp_path: Path) -> None:
    (first,) = [block for block in README if block.mark == "first"]
    assert len(first.text.splitlines()) == 1
    checkout = tmp_path / "checkout"
    _copy_checkout(checkout)
    place = Place.free(tmp_path)

    with started(first.text, place, checkout) as (running, log):
        wait_until(place.answers, running, log, deadline_s=500)
        command = f". .venv/bin/activate && {place.translate('eventstorm emit shop.order total=42.5')}"
        _run_to_its_end(command, place, checkout)
        wait_until(lambda: _stored_orders(place, checkout) == 1, running, log)
        interrupt(running, log)
    assert _stored_orders(place, checkout) == 1, "and still there when it has stopped"


def _copy_checkout(to: Path) -> None:
    if not (shutil.which("git") and (ROOT / ".git").exists()):  # an unpacked archive
        shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        return
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def _stored_orders(place: Place, checkout: Path) -> int:
    query = "SELECT count(*) AS orders FROM events WHERE topic = 'shop.order'"
    answer = subprocess.run(
        [".venv/bin/eventstorm", "sql", "--json", query],
        cwd=checkout,
        env=place.environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return int(re.findall(r"\d+", json.dumps(json.loads(answer.stdout)))[0])


def test_the_tests_have_one_command_which_ci_runs_too() -> None:
    (tests,) = [block for block in README if block.mark == "tests"]
    found = subprocess.run(
        ["bash", "-c", _ci_line("readme_command=") + '; echo "$readme_command"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert tests.text == found.stdout
    assert len(tests.text.splitlines()) == 1
    assert 'bash -euo pipefail -c "$readme_command"' in _ci_line("bash -euo")


@pytest.mark.parametrize(
    ("has", "told"), [((), "needs Python 3.10 or newer"), (("python3",), "needs Chromium for the tests of the page")]
)
def test_the_tests_command_says_what_is_missing(has: tuple[str, ...], told: str, tmp_path: Path) -> None:
    for tool in ("sh", "dirname", "cat", "id"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    for name in has:
        (tmp_path / name).symlink_to(sys.executable)

    done = subprocess.run(
        [str(ROOT / "scripts/test")],
        env={"PATH": str(tmp_path), "EVENTSTORM_NO_APT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert told in done.stderr


def _ci_line(start: str) -> str:
    (line,) = [line for line in (ROOT / ".ci/run").read_text("utf-8").splitlines() if line.startswith(start)]
    return line
