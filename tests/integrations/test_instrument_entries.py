"""The launcher finds what is registered as `importlib.metadata` does, without waiting for its import."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, DistributionFinder, entry_points
from pathlib import Path

import pytest

from eventstorm_integrations.instrument.entries import entries
from integrations.instrumented import run

GROUP = "made.up"


def by_the_library(group: str) -> list[tuple[str, str]]:
    return sorted((entry.name, entry.value) for entry in entry_points(group=group))


def register(folder: Path, distribution: str, text: str) -> None:
    (folder / distribution).mkdir(parents=True)
    (folder / distribution / "METADATA").write_text(f"Name: {distribution}\nVersion: 1\n")
    (folder / distribution / "entry_points.txt").write_text(text)


@pytest.mark.parametrize("group", ["eventstorm.instrumentors", "eventstorm.triggers", "console_scripts", "pytest11"])
def test_what_is_installed_here_is_found_as_by_the_library(group: str) -> None:
    found = sorted(entries(group)[0])

    assert found
    assert found == by_the_library(group)


@pytest.mark.parametrize(
    ("distributions", "found"),
    [
        ({"a/one-1.dist-info": f"[{GROUP}]\nx=m.x\n\n# no\n y = m:y \n[other]\nz = m.z"}, [("x", "m.x"), ("y", "m:y")]),
        ({"a/one.egg-info": f"[other]\nz=m.z\n[{GROUP}]\nx = m.x [extra]"}, [("x", "m.x [extra]")]),
        ({"a/My.One-1.dist-info": f"[{GROUP}]\nx=a", "b/my_one-2.dist-info": f"[{GROUP}]\nx=b"}, [("x", "a")]),
        ({"a/one-1.dist-info": f"[{GROUP}]\nx=a", "b/two-1.dist-info": f"[{GROUP}]\nx=b"}, [("x", "a"), ("x", "b")]),
        ({"a/one-1.dist-info": "", "b/two-1.data": f"[{GROUP}]\nx=b"}, []),
    ],
    ids=["text", "egg-info", "twice", "two", "none"],
)
def test_folders_are_read_as_by_the_library(
    distributions: dict[str, str], found: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in distributions.items():
        register(tmp_path / name.partition("/")[0], name.partition("/")[2], text)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "a"), str(tmp_path / "missing"), str(tmp_path / "b")])

    assert sorted(entries(GROUP)[0]) == by_the_library(GROUP) == found


def test_an_archive_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("one-1.dist-info/METADATA", "Name: one\nVersion: 1\n")
        archive.writestr("one-1.dist-info/entry_points.txt", f"[{GROUP}]\nx = m.x\n")
    monkeypatch.syspath_prepend(str(tmp_path / "all.zip"))

    assert entries(GROUP) == [[("x", "m.x")]]


def test_a_finder_of_distributions_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(tmp_path, "one-1.dist-info", f"[{GROUP}]\nx = m.x\n")

    class Finder(DistributionFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None: ...

        def find_distributions(self, context: object = None) -> Iterator[Distribution]:
            yield Distribution.at(tmp_path / "one-1.dist-info")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])

    assert entries(GROUP) == [[("x", "m.x")]]


def test_an_ordinary_program_waits_for_few_imports(tmp_path: Path) -> None:
    done = run(tmp_path, "tcp://127.0.0.1:9", "true", PYTHONPROFILEIMPORTTIME="1")

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "eventstorm_integrations.instrument.command" in imported
    assert not imported & {"eventstorm", "bson", "argparse", "dataclasses", "importlib.metadata", "re", "shutil"}
