"""The limit of a real control group; skipped where none can be made."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstorm_integrations.sysmon.cgroups import find_groups

PROGRAM = str(Path(sys.executable).with_name("eventstorm-sysmon"))
# As long as a busy machine may take.
DEADLINE_S = 60.0


@pytest.fixture
def limited() -> Iterator[Path]:
    """A cgroup below our own that may use a fifth of a core; skipped where none can be made, since that takes root."""
    try:
        group = find_groups(Path("/"))["cpu"]
        folder = group.levels[0] / f"eventstorm-test-{os.getpid()}"
        folder.mkdir()
    except (OSError, KeyError) as error:
        pytest.skip(f"no cgroup can be made here: {error!r}")
    try:
        try:
            if group.version == 2:
                (folder / "cpu.max").write_text("20000 100000")
            else:
                (folder / "cpu.cfs_period_us").write_text("100000")
                (folder / "cpu.cfs_quota_us").write_text("20000")
        except OSError as error:
            pytest.skip(f"the controller cpu cannot be used below our cgroup: {error!r}")
        yield folder
    finally:
        give_up = time.monotonic() + DEADLINE_S
        while folder.is_dir() and time.monotonic() < give_up:
            with contextlib.suppress(OSError):  # busy until the kernel has buried its processes
                folder.rmdir()
            time.sleep(0.01)


def _cpu(line: bytes) -> dict[str, Any]:
    return json.loads(line)["data"]["container"]["cpu"]  # type: ignore[no-any-return]


def test_the_kernels_own_limit_holds_back_what_is_told(limited: Path) -> None:
    """A busy process beside it in the same cgroup uses all that it may, and is held back."""
    measure = f"{PROGRAM} --print --interval 0.5 --topic container.usage"
    command = f"echo $$ > {limited}/cgroup.procs; (while :; do :; done) & exec {measure}"
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, start_new_session=True) as running:
        try:
            assert running.stdout
            # On a busy machine they do not always get as much as they may have; and a wait counts when it is over.
            give_up = time.monotonic() + DEADLINE_S
            while not all((cpu := _cpu(running.stdout.readline()))["throttled"].values()):
                assert time.monotonic() < give_up, cpu
        finally:
            os.killpg(running.pid, signal.SIGKILL)

    assert cpu["limit"] == 0.2
    assert cpu.get("utilization", 1.0) > 0.2, "left out where the time is counted in another hierarchy"
