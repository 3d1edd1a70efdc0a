"""The page over several sinks: what it refuses, before it opens anything. Its work is tested with real servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink
from web_serving import until

PROGRAM = str(Path(sys.executable).with_name("eventstorm"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "no store: name the one that the sinks share"),
        (("duckdb:events.duckdb",), "only the process that writes it can read it; let the sink that writes it serve"),
        (("jsonl:events.jsonl",), "answers no questions"),
        (("mongodb://127.0.0.1:9/x", "--http", "0.0.0.0:5580"), "--insecure"),
        (("mongodb://127.0.0.1:9/x", "--http", ""), "a page needs an address"),
        (("mongodb://u:secret@127.0.0.1:9/x", "mongodb://u:secret@127.0.0.1:9/x"), "names a store twice"),
        (("mangodb://127.0.0.1:9/x",), "mongodb"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    (tmp_path / "events.jsonl").touch()
    done = subprocess.run([PROGRAM, "page", *options], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_sink_says_when_no_router_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent fleet and a dead router look the same to a subscription."""
    monkeypatch.setattr("eventstorm_sinks.receive.AWAY_S", 0.1)
    with Sink(
        SinkSettings(egress="tcp://127.0.0.1:9", http="", stores=(f"jsonl:{tmp_path / 'events.jsonl'}",))
    ) as sink:
        until(lambda: "no router answers at tcp://127.0.0.1:9" in " ".join(sink.problems()))
