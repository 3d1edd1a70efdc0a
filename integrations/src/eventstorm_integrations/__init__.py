"""Eventstorm for hosts, frameworks and logs."""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["stats"]


def stats() -> dict[str, int]:
    """Return how often the integrations left something out in this process, by reason; what never happened is absent.

    ``http.excluded``, ``http.sampled_out`` and ``http.dropped_by_hook`` are what the settings and the hook ask for.
    ``http.hook`` counts exceptions of the hook, ``http.fault`` faults of Eventstorm's own, and ``instrument.fault``
    integrations that ``eventstorm-instrument`` could not use though their framework is there: all three are logged.
    ``log.unformatted`` counts log records whose message could not be formatted where all loggers are recorded.
    """
    # Here, since every interpreter under eventstorm-instrument imports this package, and most will count nothing.
    from eventstorm_integrations._guard import guard

    return guard.counts()
