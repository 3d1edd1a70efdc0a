"""What the tests of sinks share."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstorm_sinks.settings import SinkSettings
from sinks.raw_source import ANY_PORT

pytest.register_assert_rewrite("eventstorm_sinks.stores.conformance")


@pytest.fixture
def settings(tmp_path: Path) -> SinkSettings:
    """A sink with a router of its own and one store."""
    return SinkSettings(
        ingress=ANY_PORT,
        egress=ANY_PORT,
        embed_router=True,
        stores=(f"jsonl:{tmp_path / 'events.jsonl'}",),
        http="",
        commit_s=0.05,
    )
