"""The sink's ledger counts as the wire's vectors say that every reader must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventstorm.wire import Header, Message, encode_event
from eventstorm_sinks.ledger import Ledger

SCENARIOS = json.loads((Path(__file__).parents[2] / "sdk/vectors/ledger.json").read_text("utf-8"))
EVENT = encode_event(0, b"\5\0\0\0\0")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each["name"] for each in SCENARIOS])
def test_the_ledger_counts_as_the_vectors_say(scenario: dict[str, Any]) -> None:
    ledger = Ledger()
    for numbers in scenario["headers"]:
        header = Header(b"s" * 12, 0, numbers["seq"], numbers["n"], numbers["drop"], 0, "h", "s", 1)
        ledger.observe(Message("a.b", header, EVENT * header.n), 0.0)
    (account,) = ledger.snapshot()
    assert {name: getattr(account, name) for name in scenario["account"]} == scenario["account"]
