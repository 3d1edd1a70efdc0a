"""``eventstorm check`` and the ``eventstorm`` command itself, as processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).with_name("eventstorm"))


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the command in an empty folder."""

    def run(*arguments):
        return subprocess.run(
            [PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_good_file_is_ok(run, tmp_path):
    (tmp_path / "eventstorm.toml").write_text("[sdk]\n[router]\nhwm = 5\n")
    ended = run("check")
    assert (ended.returncode, ended.stdout) == (0, "eventstorm.toml: ok ([router], [sdk])\n")


def test_no_file_is_fine_too(run):
    ended = run("check")
    assert ended.returncode == 0
    assert "all settings have defaults" in ended.stdout


def test_faults_end_it_with_1(run, tmp_path, monkeypatch):
    (tmp_path / "x.toml").write_text("[router]\nhwm = 0\n")
    monkeypatch.setenv("EVENTSTORM_NONSENSE", "1")
    ended = run("check", "x.toml")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[0] == "x.toml, line 2: router.hwm: 0 is not from 1 to 1000000"
    assert "warning: EVENTSTORM_NONSENSE" in ended.stdout
    found = json.loads(run("check", "x.toml", "--json").stdout)
    assert (found["ok"], found["problems"][0]["line"], len(found["warnings"])) == (False, 2, 1)


def test_a_file_that_is_not_there_is_a_fault(run):
    ended = run("check", "none.toml")
    assert (ended.returncode, ended.stdout) == (1, "none.toml: cannot read it: No such file or directory\n")


def test_help_lists_the_commands(run):
    ended = run("--help")
    assert ended.returncode == 0
    for name in ("check", "router", "tap"):
        assert f"  {name} " in ended.stdout


def test_an_unknown_command_names_the_nearest(run):
    ended = run("rooter")
    assert (ended.returncode, ended.stderr) == (2, "eventstorm: no command 'rooter'; did you mean 'router'?\n")


@pytest.mark.parametrize("command", ["check", "router", "tap"])
def test_every_command_explains_itself(run, command):
    ended = run(command, "--help")
    assert ended.returncode == 0
    assert "Exit codes" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 90
