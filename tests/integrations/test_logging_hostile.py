"""Programs whose records do what no record should, and which `instrument` must not change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.peer import Peer, run

START = """
import logging, os, signal, sys
from eventstorm_integrations.logging import EventstormHandler, instrument

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))

class Signalled:
    def __str__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return "text"

    __repr__ = __str__

class SignalledError(Exception):
    __str__ = Signalled.__str__

logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
"""


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Who listens to records, and to nothing else."""
    with Peer(b"log.record\0") as started:
        yield started


@pytest.mark.parametrize("way", ["instrument()", "logging.getLogger().addHandler(EventstormHandler())"])
@pytest.mark.parametrize(
    "record",
    [
        'logging.info("of %s", Signalled())',
        'logging.info("with", extra={"value": Signalled()})',
        'logging.info("failed", exc_info=SignalledError())',
    ],
)
def test_a_signal_that_ends_a_program_ends_it_in_the_middle_of_a_record_too(
    record: str, way: str, peer: Peer, tmp_path: Path
) -> None:
    exit_code, _, err, _ = run(f"{START}{way}\nlogging.info('first')\n{record}\nsys.exit(7)", peer.endpoint, tmp_path)

    assert (exit_code, err) == (3, "")
    assert [event["body"] for event in peer.events("log.record")] == ["first"]


def test_a_first_record_at_the_end_of_the_stack_is_lost_without_a_word_and_the_next_is_recorded(
    peer: Peer, tmp_path: Path
) -> None:
    code = """
instrument()
sys.setrecursionlimit(200)

def deep():
    try:
        deep()
    except RecursionError:
        if "eventstorm" not in sys.modules:
            logging.warning("deep")

deep()
sys.setrecursionlimit(1000)
while "eventstorm" not in sys.modules:
    logging.warning("waits")
logging.warning("last")
"""
    exit_code, _, err, _ = run(START + code, peer.endpoint, tmp_path)

    assert (exit_code, err) == (0, "")
    assert peer.events("log.record")[-1]["body"] == "last"
