"""``sensor.usage``: temperatures, fans and the battery, where the hardware tells of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import inf, isfinite
from typing import Any

import psutil

from eventstorm_integrations.sysmon.text import printable

__all__ = ["SensorCollector"]

log = logging.getLogger(__name__)

# Some chips take milliseconds to answer, and nothing gets warm within a second.
_EVERY_S = 5.0
# Where there is none one may be plugged in.
_LOOK_S = 60.0


class SensorCollector:
    """Asks all sensors, more seldom than every interval."""

    def __init__(self) -> None:
        self._due_s = -inf
        self._noted = False
        self._broken: set[str] = set()

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return one event for each sensor; none if they are not due yet."""
        if now_s < self._due_s:
            return []
        temperatures, fans = _temperatures(self._ask("temperatures")), _fans(self._ask("fans"))
        events = [{"hw": each} for each in (*temperatures, *fans, *_battery(self._ask("battery")))]
        # A little earlier, since measurements come a little early or late too.
        self._due_s = now_s + (_EVERY_S if events else _LOOK_S) - 0.5
        if not events and not self._noted:
            self._noted = True
            log.info("no sensors here: sensor.usage is left out")
        return events

    def _ask(self, kind: str) -> Any:
        """Ask psutil for one kind of sensors; None for none.

        It stumbles over what drivers write: a fan without a number, a chip without a name, no folder for batteries.
        """
        ask = getattr(psutil, f"sensors_{kind}", None)  # not on all platforms
        try:
            return ask() if ask else None
        except (OSError, ValueError, TypeError, ArithmeticError) as error:
            if kind not in self._broken:
                self._broken.add(kind)
                log.info("no %s in sensor.usage: they cannot be read: %s", kind, ascii(str(error))[1:-1])
            return None


def _temperatures(chips: Any) -> Iterator[dict[str, Any]]:
    for chip, index, each in _all(chips):
        limits = {"high": each.high, "critical": each.critical}
        known = {name: round(value, 1) for name, value in limits.items() if _is_number(value)}
        if _is_number(each.current):
            yield {
                **_identity("temperature", chip, index, each.label),
                "temperature": round(each.current, 1),
                **({"limit": known} if known else {}),
            }


def _fans(chips: Any) -> Iterator[dict[str, Any]]:
    for chip, index, each in _all(chips):
        if _is_number(each.current):
            yield {**_identity("fan", chip, index, each.label), "fan": {"speed": round(each.current)}}


def _battery(battery: Any) -> Iterator[dict[str, Any]]:
    if battery is None or not _is_number(battery.percent):
        return
    told: dict[str, Any] = {"charge": round(battery.percent / 100, 4)}
    # Negative numbers stand for "unlimited" and "unknown".
    if battery.secsleft is not None and battery.secsleft >= 0:
        told["time_left"] = int(battery.secsleft)
    state = {} if battery.power_plugged is None else {"state": "charging" if battery.power_plugged else "discharging"}
    yield {"id": "battery", "type": "battery", "name": "battery", **state, "battery": told}


def _all(chips: Any) -> Iterator[tuple[str, int, Any]]:
    for chip, sensors in (chips or {}).items():
        for index, each in enumerate(sensors):
            yield chip, index, each


def _identity(kind: str, chip: str, index: int, label: str) -> dict[str, str]:
    chip = printable(chip)
    return {"id": f"{chip}-{kind}-{index}", "type": kind, "name": f"{chip} {printable(label)}".rstrip()}


def _is_number(value: float | None) -> bool:
    return value is not None and isfinite(value)
