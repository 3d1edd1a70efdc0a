"""The settings of a router: the table ``[router]`` of ``eventstorm.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventstorm.endpoints import DEFAULT_EGRESS, DEFAULT_INGRESS, check_endpoint
from eventstorm.settings import at_least, endpoint, setting, within

__all__ = ["RouterSettings"]


def _endpoints(value: Any, place: str) -> Any:
    for each in value:
        check_endpoint(each, place)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """The settings of ``eventstorm router``."""

    ingress: str = setting(DEFAULT_INGRESS, "where sources connect", endpoint)
    egress: str = setting(DEFAULT_EGRESS, "where sinks connect", endpoint)
    upstream: tuple[str, ...] = setting((), "the ingress of routers to pass events on to", _endpoints)
    insecure: bool = setting(False, "allow addresses that other machines reach")
    stats_s: float = setting(5.0, "seconds between eventstorm.stats events", at_least(0.1))
    hwm: int = setting(
        1000, "batches that may wait for each peer; a sink that falls further behind loses some", within(1, 1_000_000)
    )
