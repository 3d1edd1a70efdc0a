"""What is wrong with an nginx.conf is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstorm.errors import SettingError
from eventstorm_integrations.logs.nginx.config import read_config


def loop(folder: Path) -> None:
    (folder / "nginx.conf").write_text("http { include a.conf; }")
    (folder / "a.conf").write_text("include b.conf;")
    (folder / "b.conf").symlink_to("a.conf")


def pipe(folder: Path) -> None:
    (folder / "nginx.conf").write_text("http { include a.*; }")
    os.mkfifo(folder / "a.conf")


def missing(folder: Path) -> None:
    (folder / "nginx.conf").write_text("http { include a.conf; }")


def quote(folder: Path) -> None:
    (folder / "nginx.conf").write_text("http { include a.conf; }")
    (folder / "a.conf").write_text('\nlog_format x "$remote_addr;')


@pytest.mark.parametrize(
    ("make", "said"),
    [(loop, "is included by itself"), (pipe, "is no file"), (missing, "No such file"), (quote, "line 2: a quote")],
)
def test_a_configuration_that_cannot_be_read_is_told_with_its_file(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path)
    with pytest.raises(SettingError, match=rf"[ab]\.conf.*{said}"):
        read_config(tmp_path / "nginx.conf")


def test_one_file_may_be_included_several_times(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("http { include a.conf; server { include a.conf; } }")
    (tmp_path / "a.conf").write_text("access_log /var/log/a.log;")
    assert read_config(tmp_path / "nginx.conf").access_logs == {"/var/log/a.log": "combined"}
