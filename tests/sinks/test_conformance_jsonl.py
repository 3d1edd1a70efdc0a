"""JSON lines keep the promises of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstorm_sinks.stores.conformance import StoreConformance


class TestJsonl(StoreConformance):
    """All of the kit."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """A new file."""
        return f"jsonl:{tmp_path / 'events.jsonl'}"
