"""Programs whose records do what no record should, and which `instrument` must not change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.peer import Peer, run

START = """
import logging, sys
from eventstorm_integrations.logging import EventstormHandler, instrument

class Ends:
    def __str__(self):
        raise SystemExit(4)

    __repr__ = __str__

class EndsAsError(Exception):
    __str__ = Ends.__str__
"""


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Who listens to records, and to nothing else."""
    with Peer(b"log.record\0") as started:
        yield started


def test_a_value_that_ends_programs_ends_none_that_does_not_look_at_it(peer: Peer, tmp_path: Path) -> None:
    code = """
instrument()
logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
logging.info("first", extra={"value": Ends()})
logging.info("of %s", Ends())
try:
    raise EndsAsError
except EndsAsError as error:
    logging.info("failed", exc_info=error)
logging.info("last")
"""
    exit_code, _, err, _ = run(START + code, peer.endpoint, tmp_path)

    assert (exit_code, err) == (0, "")
    first, failed, last = peer.events("log.record")
    assert (first["body"], first["extra"]) == ("first", {"value": "<Ends without a repr>"})
    assert failed["exception"]["message"].endswith("__str__ raises>")
    assert last["body"] == "last"


def test_a_handler_tells_a_message_that_ends_programs_as_one_that_cannot_be_formatted(
    peer: Peer, tmp_path: Path
) -> None:
    code = 'logging.getLogger().addHandler(EventstormHandler())\nlogging.warning("of %s", Ends())'

    exit_code, _, err, _ = run(START + code, peer.endpoint, tmp_path)

    assert exit_code == 0
    assert err.startswith("--- Logging error ---")


def test_a_first_record_at_the_end_of_the_stack_is_lost_without_a_word_and_the_next_is_recorded(
    peer: Peer, tmp_path: Path
) -> None:
    code = """
instrument()
logging.basicConfig(handlers=[logging.NullHandler()])
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
