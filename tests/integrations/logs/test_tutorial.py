"""The tutorial in docs/parsers.md, done as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from documents import ROOT, blocks

from .following import PROGRAM


@pytest.mark.install
@pytest.mark.timeout(300)
def test_the_tutorial_gives_the_events_that_it_promises(tmp_path: Path) -> None:
    promised = ""
    for block in blocks(ROOT / "docs/parsers.md"):
        if name := re.match(r"# ([\w.-]+)\n", block.text):
            # Of a log, that line is none of its own.
            text = block.text.partition("\n")[2] if block.language == "text" else block.text
            (tmp_path / name[1]).write_text(text, "utf-8")
        if block.language == "console":
            promised = block.text
    commands = [line.removeprefix("$ ") for line in promised.splitlines() if line.startswith("$ ")]
    assert commands == ["pip install .", "eventstorm logs shop --once --print orders.log"]

    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(tmp_path / "installed"),
            str(tmp_path),
        ],
        check=True,
        timeout=200,
    )
    done = subprocess.run(
        [PROGRAM, "shop", "--once", "--print", "orders.log"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[:2] == [json.loads(line) for line in promised.splitlines() if line.startswith("{")]
    assert [event["topic"] for event in events[2:]] == ["log.unparsed"]
    assert "1 no shop line" in done.stderr
