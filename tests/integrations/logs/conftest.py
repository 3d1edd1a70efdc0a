"""Fixtures of the tests of log files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .following import Running


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that servers reach which give up their rights: pytest's own are closed by each run that begins."""
    with tempfile.TemporaryDirectory(prefix="eventstorm-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start the command, with positions in a folder of the test's own."""
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        program, *others = arguments
        started.append(Running(program, "--state", str(tmp_path / "state"), *others))
        return started[-1]

    yield start
    for each in started:
        if each.process.returncode is None:
            each.kill()
