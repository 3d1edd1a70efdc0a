"""`sensor.usage` of hardware that a test makes up: temperatures, fans and batteries."""

from __future__ import annotations

import logging
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from eventstorm_integrations.sysmon import sensors
from eventstorm_integrations.sysmon.sensors import SensorCollector

Temperature = namedtuple("Temperature", "label current high critical")
Fan = namedtuple("Fan", "label current")
Battery = namedtuple("Battery", "percent secsleft power_plugged")


def test_sensors_are_told_of_by_the_names_of_the_semantic_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = SimpleNamespace(
        sensors_temperatures=lambda: {
            "coretemp": [Temperature("Package id 0", 45.04, 80.0, 100.0), Temperature("", 41.0, None, None)],
            "broken\udcff": [Temperature("x", None, None, None), Temperature("", float("nan"), None, None)],
        },
        sensors_fans=lambda: {"thinkpad": [Fan("", 2400)]},
        sensors_battery=lambda: Battery(62.5, 3600, False),
    )
    monkeypatch.setattr(sensors, "psutil", made_up)
    collector = SensorCollector()

    assert collector.sample(0.0) == [
        {
            "hw": {
                "id": "coretemp-temperature-0",
                "type": "temperature",
                "name": "coretemp Package id 0",
                "temperature": 45.0,
                "limit": {"high": 80.0, "critical": 100.0},
            }
        },
        {"hw": {"id": "coretemp-temperature-1", "type": "temperature", "name": "coretemp", "temperature": 41.0}},
        {"hw": {"id": "thinkpad-fan-0", "type": "fan", "name": "thinkpad", "fan": {"speed": 2400}}},
        {
            "hw": {
                "id": "battery",
                "type": "battery",
                "name": "battery",
                "state": "discharging",
                "battery": {"charge": 0.625, "time_left": 3600},
            }
        },
    ]
    assert [now_s for now_s in range(1, 12) if collector.sample(float(now_s))] == [5, 10]


@pytest.mark.parametrize(
    "platform",
    [
        SimpleNamespace(),
        SimpleNamespace(sensors_temperatures=dict, sensors_fans=lambda: {"x": []}, sensors_battery=lambda: None),
    ],
    ids=["a platform without", "a machine without"],
)
def test_what_has_no_sensors_has_no_event_which_is_noted_once(
    platform: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sensors, "psutil", platform)
    collector = SensorCollector()
    with caplog.at_level(logging.INFO):
        assert [collector.sample(float(now_s)) for now_s in range(200)] == [[]] * 200

    assert len(caplog.records) == 1


def test_a_battery_that_does_not_know_its_time_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(sensors_battery=lambda: Battery(100, psutil.POWER_TIME_UNLIMITED, True))
    monkeypatch.setattr(sensors, "psutil", full)

    (event,) = SensorCollector().sample(0.0)
    assert event["hw"]["state"] == "charging"
    assert event["hw"]["battery"] == {"charge": 1.0}


def test_a_kind_that_cannot_be_read_is_noted_once_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ValueError("invalid literal: 'N/A'")

    made_up = SimpleNamespace(sensors_fans=broken, sensors_battery=lambda: Battery(50, None, None))
    monkeypatch.setattr(sensors, "psutil", made_up)
    collector = SensorCollector()
    with caplog.at_level(logging.INFO):
        told = [collector.sample(now_s)[0]["hw"]["id"] for now_s in (0.0, 10.0)]

    assert told == ["battery", "battery"]
    assert caplog.messages == ["no fans in sensor.usage: they cannot be read: invalid literal: 'N/A'"]
