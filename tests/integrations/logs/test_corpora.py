"""What other projects expect of real lines, held against what we make of them.

Their lines and expectations are not part of this repository, but may lie beside it; what must hold in every checkout is
in the other tests here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from .corpora import FOLDER, Row, events, rows, value_at

# Rows whose expectation is not ours, each with the reason. Others' values are counted as misses all the same.
MISSES: dict[str, str] = {
    "datadog-6": "a line of the Kubernetes controller around nginx, not of nginx",
    "datadog-25": "the end of a session without its begin, its process or its address",
    "datadog-27": "says the same as the line after it, with which the session is told",
}


def wrong(row: Row) -> dict[str, tuple[Any, Any]]:
    """Return the facts of a row that our events do not have: expected, found."""
    found = events(row)
    if not row.facts:
        told = [event for event in found if event.topic != "log.record"]
        return {"events": (0, len(told))} if told and row.program == "sshd" else {}
    if not found:
        return {name: (value, "no event") for name, value in row.facts.items()}
    event = found[0]
    problems = {}
    for name, expected in row.facts.items():
        value = event.ts_s if name == "ts" else value_at(event.data, name)
        if value == "_OTHER":
            value = value_at(event.data, f"{name}_original")
        same = value is not None and str(value).startswith(expected) if str(expected).endswith("excess: ") else False
        if not same and value != expected and not (isinstance(value, float) and value == pytest.approx(expected)):
            problems[name] = (expected, value)
    return problems


def test_at_least_99_percent_of_the_fields_that_others_state_are_right() -> None:
    if not FOLDER.is_dir():
        pytest.skip(
            f"nothing is compared with others' expectations: {FOLDER} is not there, and may not be part of this"
        )
    every = list(rows())
    problems = {row.name: (row.line, bad) for row in every if (bad := wrong(row))}
    stated = sum(max(1, len(row.facts)) for row in every)
    missed = sum(len(bad) for _, bad in problems.values())
    print(f"{stated - missed} of {stated} facts in {len(every)} rows are right")
    unexplained = {name: each for name, each in problems.items() if name not in MISSES}

    assert not unexplained, json.dumps(unexplained, indent=1, default=str)
    assert set(MISSES) <= set(problems), "a miss that is none any more"
    assert missed <= stated / 100
