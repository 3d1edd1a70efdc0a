"""The examples of docs/logging.md, each a program of its own: what they record is what the page says."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

import eventstorm.testing
from documents import ROOT, Block, blocks
from eventstorm_integrations.logging import EventstormHandler
from sdk.peer import Peer, run

PAGE = ROOT / "docs/logging.md"
BLOCKS = blocks(PAGE)
EXAMPLES = [block for block in BLOCKS if block.language == "python"]


def recorded(block: Block, folder: Path) -> list[dict[str, Any]]:
    """Run an example; return the events of its records."""
    for each in BLOCKS:
        if each.language == "ini" and (name := re.match(r"# ([\w.-]+)\n", each.text)):
            (folder / name[1]).write_text(each.text, "utf-8")
    with Peer(b"log.record\0") as peer:
        exit_code, _, err, _ = run(block.text, peer.endpoint, folder)
        assert exit_code == 0, err
        assert "Logging error" not in err
        return peer.events("log.record")


@pytest.mark.parametrize("block", [each for each in EXAMPLES if not each.mark], ids=str)
def test_each_way_records_one_record(block: Block, tmp_path: Path) -> None:
    (event,) = recorded(block, tmp_path)

    assert event["logger"] == "shop"
    assert event["body"] in ("order 4711 is late", "by a dictionary", "by a file")


def example(mark: str) -> Block:
    (block,) = [each for each in EXAMPLES if each.mark == mark]
    return block


def test_structlog_hands_over_its_fields_and_exceptions(tmp_path: Path) -> None:
    order, failed = recorded(example("structlog"), tmp_path)

    assert (order["body"], order["template"], order["logger"]) == ("order 4711", "order %s", "shop")
    assert order["extra"] == {"customer": "ada", "total": 42.5}
    assert order["code"]["file"]["path"].endswith("program.py")
    assert (failed["body"], failed["severity_text"], failed["extra"]) == ("no order", "ERROR", {"customer": "ada"})
    assert failed["exception"]["type"] == "ZeroDivisionError"
    assert failed["exception"]["stacktrace"].startswith("Traceback")


def test_loguru_hands_over_its_fields_and_exceptions(tmp_path: Path) -> None:
    order, failed = recorded(example("loguru"), tmp_path)

    assert (order["body"], order["severity_text"], order["severity_number"]) == ("order 4711", "SUCCESS", 11)
    assert order["extra"] == {"customer": "ada"}
    assert order["code"]["file"]["path"].endswith("program.py")
    assert "template" not in order
    assert (failed["body"], failed["severity_text"]) == ("no order", "ERROR")
    assert failed["exception"]["type"] == "ZeroDivisionError"
    assert failed["exception"]["stacktrace"].startswith("Traceback")


def test_the_table_has_every_field_and_no_other() -> None:
    logger = logging.Logger("shop")
    logger.addHandler(EventstormHandler())
    with eventstorm.testing.capture_events() as events:
        logger.error("order %s", 1, exc_info=ValueError("x"), stack_info=True, extra={"a": 1})
        (event,) = events.of("log.record")
    del event["extra"]["a"]
    table = re.findall(r"^\| (`.*?`) \|", PAGE.read_text("utf-8"), re.MULTILINE)

    assert sorted(re.findall(r"`([\w.]+)`", " ".join(table))) == sorted(_paths(event))


def _paths(document: dict[str, Any], before: str = "") -> list[str]:
    found = []
    for name, value in document.items():
        found += _paths(value, f"{before}{name}.") if isinstance(value, dict) and value else [f"{before}{name}"]
    return found
