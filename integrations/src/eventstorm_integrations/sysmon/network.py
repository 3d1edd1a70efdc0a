"""``network.usage``: what goes in and out through the network interfaces."""

from __future__ import annotations

import re
from typing import Any

import psutil

from eventstorm_integrations.sysmon.rates import Rates

__all__ = ["NetworkCollector"]

# Linux and the BSDs number it; Windows has a long name for it.
_is_loopback = re.compile(r"lo\d*|Loopback.*").fullmatch


class NetworkCollector:
    """Reads the interfaces' counters. Its first sample is empty: rates are differences."""

    def __init__(self) -> None:
        self._rates = Rates()

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return one event for each interface that has ever carried anything, but for the loopback."""
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        rates = self._rates.update(
            {
                name: tuple(nic)
                for name, nic in counters.items()
                if not _is_loopback(name) and (nic.bytes_recv or nic.bytes_sent)
            },
            now_s,
        )
        return [{"system": {"network": _document(name, rounded)}} for name, rounded in _rounded(rates)]


def _rounded(rates: dict[str, list[float]]) -> list[tuple[str, list[float]]]:
    return [(name, [round(value, 1) for value in values]) for name, values in rates.items()]


def _document(name: str, rates: list[float]) -> dict[str, Any]:
    sent, received, packets_out, packets_in, errors_in, errors_out, dropped_in, dropped_out = rates
    return {
        "interface": {"name": name},
        "io": {"receive": received, "transmit": sent},
        "packets": {"receive": packets_in, "transmit": packets_out},
        "errors": {"receive": errors_in, "transmit": errors_out},
        "dropped": {"receive": dropped_in, "transmit": dropped_out},
    }
