"""DuckDB keeps the promises of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstorm_sinks.stores.conformance import StoreConformance


class TestDuckdb(StoreConformance):
    """All of the kit."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """A new file."""
        return f"duckdb:{tmp_path / 'events.duckdb'}"
