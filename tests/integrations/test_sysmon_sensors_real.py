"""`sensor.usage` as psutil reads it of the kernel's files, which are made up in a mount namespace of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ASK = """
import json
from eventstorm_integrations.sysmon.sensors import SensorCollector
print(json.dumps([event["hw"] for event in SensorCollector().sample(0.0)]))
"""


def within(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees `folder` as /sys/class."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    mounted = 'mount --bind "$1" /sys/class && shift && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", *as_root, "sh", "-c", mounted, "sh", str(folder), *command],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def sys_class(tmp_path: Path) -> Path:
    try:
        tried = within(tmp_path, "true")
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here, so no hardware can be made up: apt-get install util-linux")
    if tried.returncode:
        pytest.skip(f"mount namespaces are not permitted here, so no hardware can be made up: {tried.stderr.strip()}")
    return tmp_path


def sensors(sys_class: Path, files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what is told of hardware that has these files."""
    for name, text in files.items():
        (sys_class / name).parent.mkdir(parents=True, exist_ok=True)
        (sys_class / name).write_bytes(text.encode("latin-1"))
    done = within(sys_class, sys.executable, "-c", ASK)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


CHIP = {
    "hwmon/hwmon0/name": "coretemp\n",
    "hwmon/hwmon0/temp1_input": "45040\n",
    "hwmon/hwmon0/temp1_label": "Package id 0\n",
    "hwmon/hwmon0/temp1_max": "80000\n",
    "hwmon/hwmon0/temp1_crit": "100000\n",
    "hwmon/hwmon0/temp2_input": "-1500\n",
}
CHIP_TOLD = [
    {
        "id": "coretemp-temperature-0",
        "type": "temperature",
        "name": "coretemp Package id 0",
        "temperature": 45.0,
        "limit": {"high": 80.0, "critical": 100.0},
    },
    {"id": "coretemp-temperature-1", "type": "temperature", "name": "coretemp", "temperature": -1.5},
]
FAN = {"hwmon/hwmon1/name": "thinkpad\n", "hwmon/hwmon1/fan1_input": "2400\n"}
FAN_TOLD = {"id": "thinkpad-fan-0", "type": "fan", "name": "thinkpad", "fan": {"speed": 2400}}
BATTERY = {
    "power_supply/BAT0/energy_now": "25000000\n",
    "power_supply/BAT0/energy_full": "40000000\n",
    "power_supply/BAT0/power_now": "12500000\n",
    "power_supply/BAT0/status": "Discharging\n",
    "power_supply/BAT0/capacity": "62\n",
}
BATTERY_TOLD = {
    "id": "battery",
    "type": "battery",
    "name": "battery",
    "state": "discharging",
    "battery": {"charge": 0.625, "time_left": 7200},
}


def test_chips_fans_and_the_battery_are_read_of_the_kernels_files(sys_class: Path) -> None:
    assert sensors(sys_class, {**CHIP, **FAN, **BATTERY}) == [*CHIP_TOLD, FAN_TOLD, BATTERY_TOLD]


def test_zones_are_read_where_there_are_no_chips(sys_class: Path) -> None:
    zone = {
        "thermal/thermal_zone0/temp": "51000\n",
        "thermal/thermal_zone0/type": "x86_pkg_temp\n",
        "thermal/thermal_zone0/trip_point_0_type": "critical\n",
        "thermal/thermal_zone0/trip_point_0_temp": "105000\n",
    }

    (told,) = sensors(sys_class, zone)

    assert told["name"] == "x86_pkg_temp"
    # psutil takes the one limit for both where there is one.
    assert (told["temperature"], told["limit"]) == (51.0, {"high": 105.0, "critical": 105.0})


@pytest.mark.parametrize(
    "broken",
    [
        {"hwmon/hwmon1/name": "nct6775\n", "hwmon/hwmon1/fan1_input": "N/A\n"},
        {"hwmon/hwmon1/fan1_input": "1200\n"},
        {"power_supply/BAT0/energy_now": "x\n", "power_supply/BAT0/energy_full": "0\n"},
        {"hwmon/hwmon1/name": "\xff\n", "hwmon/hwmon1/temp1_input": "nan\n"},
        {"hwmon/hwmon1/name": "chip\n", "hwmon/hwmon1/temp1_input": "\n"},
    ],
    ids=["no number", "no name", "no battery", "no text", "nothing"],
)
def test_what_is_broken_hides_nothing_else(broken: dict[str, str], sys_class: Path) -> None:
    assert [each for each in sensors(sys_class, {**CHIP, **broken}) if each in CHIP_TOLD] == CHIP_TOLD


def test_no_hardware_has_no_sensors(sys_class: Path) -> None:
    assert sensors(sys_class, {}) == []
