"""The frame around commands: errors become one line and an exit code."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from eventstorm.cli import run_alone
from eventstorm.errors import EventstormError, SettingError, StartError


def _command(run):
    return SimpleNamespace(HELP="", add_arguments=lambda parser: None, run=run)


@pytest.mark.parametrize(
    ("error", "code"),
    [(EventstormError("it broke"), 1), (SettingError("it broke"), 2), (StartError("it broke"), 3)],
)
def test_errors_become_one_line(capsys, error, code):
    def run(arguments):
        raise error

    assert run_alone(_command(run), "program", []) == code
    assert capsys.readouterr().err == "program: it broke\n"


def test_ctrl_c_is_130():
    def run(arguments):
        raise KeyboardInterrupt

    assert run_alone(_command(run), "program", []) == 130


def test_output_that_nobody_reads_ends_a_command_quietly_even_at_its_end():
    code = """if True:
        import sys
        from types import SimpleNamespace
        from eventstorm.cli import run_alone
        sys.stdin.read()
        command = SimpleNamespace(HELP="", add_arguments=lambda parser: None, run=lambda arguments: print("x") or 0)
        sys.exit(run_alone(command, "program", []))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"]])
def test_help_that_nobody_reads_ends_quietly(arguments):
    code = (
        f"import sys; sys.stdin.read(); sys.argv[1:] = {arguments}; from eventstorm.cli import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0
