"""Units of systemd, and other cgroups, as the system metrics find and measure them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

from eventstorm_integrations.sysmon.cgroups import mount_points
from eventstorm_integrations.sysmon.chosen import choices
from eventstorm_integrations.sysmon.units import find_unit, pids_in
from integrations.sysmon_processes import FORKS, Watched, running, until


def tree(root: Path, kind: str, *folders: str) -> Path:
    """Write a hierarchy of cgroups with one process of ours in each folder."""
    (root / "proc/self").mkdir(parents=True)
    mount = "31 23 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    if kind == "2":
        mount = "31 23 0:27 / /sys/fs/cgroup/systemd rw - cgroup2 cgroup2 rw\n"
    (root / "proc/self/mountinfo").write_text(f"1 1 0:1 / / rw - ext4 /dev/sda rw\n{mount}")
    top = root / "sys/fs/cgroup/systemd"
    top.mkdir(parents=True)
    for folder in folders:
        (top / folder).mkdir(parents=True)
        (top / folder / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return top


@pytest.mark.parametrize("kind", ["1", "2"])
@pytest.mark.parametrize(
    "folder",
    [
        "system.slice/shop.service",
        "system.slice/system-shop.slice/shop.service",
        "user.slice/user-1000.slice/user@1000.service/app.slice/shop.service",
        "shop.service",
    ],
)
def test_a_unit_of_systemd_is_its_cgroup(kind: str, folder: str, tmp_path: Path) -> None:
    top = tree(tmp_path, kind, folder, "system.slice/shop.service.d", "system.slice/other.service")
    watched = Watched(services=("shop.service",), root=tmp_path)

    assert find_unit(tmp_path, "shop.service") == top / folder
    event = watched.only()
    assert event["service"] == {"name": "shop.service"}
    assert event["process"]["count"] == 1


def test_a_unit_has_the_processes_of_all_that_is_in_it(tmp_path: Path) -> None:
    top = tree(tmp_path, "2", "shop.slice/a.service/worker", "shop.slice/b.service")
    (top / "shop.slice/b.service/cgroup.procs").write_text(f"{os.getppid()}\n1\n")
    (top / "shop.slice/threaded").mkdir()
    (top / "shop.slice/threaded/cgroup.procs").write_bytes(b"\xff")

    assert pids_in(top / "shop.slice") == [os.getppid(), 1, os.getpid()]
    assert pids_in(top / "gone.slice") is None


def test_a_unit_that_stops_and_starts_is_found_again_but_not_looked_for_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    module = sys.modules[choices.__module__]
    monkeypatch.setattr(module, "find_unit", lambda root, name: looked.append(name) or find_unit(root, name))
    (unit,) = choices((), ("shop.service",), tmp_path)
    assert unit.members(0.0, None) is None, "no cgroups at all"
    top = tree(tmp_path, "2")
    assert [unit.members(float(now_s), None) for now_s in range(1, 10)] == [None] * 9
    assert len(looked) == 1

    (top / "shop.service").mkdir()
    (top / "shop.service/cgroup.procs").write_text("1\n")
    assert unit.members(10.0, None) == {1: None}
    (top / "shop.service/cgroup.procs").unlink()
    (top / "shop.service").rmdir()
    assert unit.members(21.0, None) is None
    assert [unit.members(now_s, None) for now_s in (22.0, 30.0)] == [None, None]
    assert len(looked) == 3


def test_a_cgroup_of_the_kernel_is_measured_too() -> None:
    name = f"eventstorm-test-{os.getpid()}.service"
    for kind in ("name=systemd", ""):
        for point in mount_points(Path("/"), kind):
            with contextlib.suppress(OSError):
                (point / name).mkdir()
                break
    folder = find_unit(Path("/"), name)
    if folder is None:
        pytest.skip("no cgroup can be made here, which takes root")
    try:
        with running(FORKS) as process:
            try:
                (folder / "cgroup.procs").write_text(f"{process.pid}")
            except OSError as error:
                pytest.skip(f"no process can be moved there: {error}")
            assert Watched(services=(name,)).only()["process"]["count"] == 1, "its children stay where they are"
    finally:
        until(lambda: not _busy(folder))


def _busy(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # until the kernel has buried its processes
        folder.rmdir()
    return folder.is_dir()
