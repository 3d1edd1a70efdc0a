"""What the documents say is so: settings, links, dependencies."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from documents import ROOT, pages
from test_layout import PROJECTS


def test_every_setting_is_documented_as_it_is() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/document_settings.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_every_page_is_in_the_index(page: Path) -> None:
    assert page.name == "README.md" or f"]({page.name})" in (ROOT / "docs/README.md").read_text("utf-8")


def test_every_dependency_has_its_reason_in_the_change_log() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").lower()
    wanted = [
        each
        for project in PROJECTS.values()
        for each in chain(project["dependencies"], *project.get("optional-dependencies", {}).values())
    ]
    names = {re.split(r"[^\w-]", each)[0] for each in wanted}

    assert {name for name in names if not name.startswith("eventstorm") and name not in text} == set()
