"""Cassandra keeps the promises of stores, on one node and on three, however its partitions are cut."""

from __future__ import annotations

import pytest

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores.conformance import StoreConformance


class TestOneNode(StoreConformance):
    """All of the kit, in small partitions."""

    @pytest.fixture
    def url(self, table_url: str) -> str:
        """An empty table."""
        return table_url

    @pytest.fixture
    def settings(self) -> SinkSettings:
        """Events of one test lie in several buckets and shards."""
        return SinkSettings(cassandra_layout=("*=2s/3", "shop.*=7s/2"), cassandra_columns=("number=number:int",))


class TestThreeNodes(StoreConformance):
    """All of the kit, acknowledged by two of three replicas."""

    @pytest.fixture
    def url(self, cluster_url: str) -> str:
        """An empty table."""
        return cluster_url
