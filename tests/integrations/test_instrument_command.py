"""``eventstorm-instrument`` becomes the program, and programs and interpreters are as they would be without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventstorm_integrations.instrument.table import TABLE
from integrations.instrumented import INSTRUMENT, environment, run

NOWHERE = "tcp://127.0.0.1:9"

# What a program can see of how it was started, but for the hooks themselves.
OURS = {"__future__", "_", TABLE, "PYTHONPATH"}
LOOK = f"""
import os, sys
def others(names):
    return sorted(name for name in names if "eventstorm_integrations" not in name and name not in {OURS!r})
print(sys.argv, sys.executable, sys.flags, sys.path, sys.warnoptions, sys.orig_argv)
print(others(sys.modules), others(sys.path_importer_cache))
print([type(finder).__name__ for finder in sys.meta_path if type(finder).__name__ != "Hooks"])
print([(name, os.environ[name]) for name in others(os.environ)])
"""


def both(folder: Path, *command: str, **variables: str) -> tuple[str, str]:
    """Run a command without the launcher and with it; return what it printed each time."""
    results = [run(folder, NOWHERE, *command, launcher=launcher, **variables) for launcher in ("", INSTRUMENT)]
    assert [result.returncode for result in results] == [0, 0], results[1].stderr
    assert results[0].stderr == results[1].stderr
    return results[0].stdout, results[1].stdout


@pytest.mark.parametrize("pythonpath", [None, "", "elsewhere", "elsewhere:", ":elsewhere", ":"])
@pytest.mark.parametrize(
    "command", [("python", "program.py", "--help"), ("python", "-m", "program", "x")], ids=" ".join
)
def test_a_program_sees_the_interpreter_that_it_would_see(
    command: tuple[str, ...], pythonpath: str | None, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(LOOK)
    variables = {} if pythonpath is None else {"PYTHONPATH": pythonpath}

    without, with_it = both(tmp_path, *command, **variables)

    assert with_it == without


def test_an_ordinary_program_does_not_wait_for_the_sdk(tmp_path: Path) -> None:
    done = run(tmp_path, NOWHERE, "true", PYTHONPROFILEIMPORTTIME="1")

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "eventstorm_integrations.instrument.command" in imported
    assert not imported & {"eventstorm", "bson", "zmq", "argparse", "dataclasses"}


def test_a_package_whose_entry_points_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken-1.dist-info").mkdir()
    (tmp_path / "broken-1.dist-info/METADATA").write_text("Name: broken\nVersion: 1\n")
    (tmp_path / "broken-1.dist-info/entry_points.txt").write_text("[console_scripts]\nno equals sign\n")

    done = run(tmp_path, NOWHERE, "true", PYTHONPATH=str(tmp_path))

    (line,) = done.stderr.splitlines()
    assert done.returncode == 3
    assert "the entry points of an installed package cannot be read" in line


def test_a_command_that_no_file_can_be_named_is_not_there(tmp_path: Path) -> None:
    done = run(tmp_path, NOWHERE, "x" * 300)

    assert (done.returncode, len(done.stderr.splitlines())) == (127, 1)


def test_only_the_hooks_are_imported_before_the_program(tmp_path: Path) -> None:
    without, with_it = both(tmp_path, "python", "-c", "import sys; print(*sys.modules)")

    assert set(with_it.split()) - set(without.split()) - {"__future__"} == {
        "eventstorm_integrations",
        "eventstorm_integrations.instrument",
        "eventstorm_integrations.instrument.hooks",
        "eventstorm_integrations.instrument.table",
    }


@pytest.mark.parametrize(
    "content",
    [
        "import sys; sys.customized = __name__, __spec__.name",
        "raise RuntimeError('broken')",
        "import nothing_of_the_kind",
    ],
)
def test_the_users_own_sitecustomize_is_run_as_ever(content: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(content)
    code = "import sys; print(getattr(sys, 'customized', None), sys.modules.get('sitecustomize'))"

    without, with_it = (
        run(tmp_path, NOWHERE, "python", "-c", code, launcher=launcher, PYTHONPATH=str(tmp_path))
        for launcher in ("", INSTRUMENT)
    )

    assert (with_it.returncode, with_it.stdout) == (without.returncode, without.stdout)
    assert with_it.stderr == 2 * without.stderr, "the launcher's own interpreter runs it too"


def test_who_imports_sitecustomize_where_there_is_none_hears_so(tmp_path: Path) -> None:
    code = "try: import sitecustomize\nexcept ModuleNotFoundError as error: print(error)"

    without, with_it = both(tmp_path, "python", "-c", code)

    assert with_it == without == "No module named 'sitecustomize'\n"


@pytest.mark.parametrize("code", [0, 1, 2, 3, 7, 126, 127, 255])
def test_the_exit_code_is_the_programs(code: int, tmp_path: Path) -> None:
    assert run(tmp_path, NOWHERE, "python", "-c", f"raise SystemExit({code})").returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_signals_and_the_process_are_the_programs(number: signal.Signals, tmp_path: Path) -> None:
    code = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    with subprocess.Popen(
        [INSTRUMENT, "python", "-c", f"import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); {code}"],
        cwd=tmp_path,
        env=environment(NOWHERE),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(number)
        assert process.wait(20) == -number


def test_a_program_that_is_not_python_has_the_default_for_broken_pipes(tmp_path: Path) -> None:
    ignored = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(("SigIgn", "SigBlk"))
    ]
    done = run(tmp_path, NOWHERE, "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")

    masks = {name: int(mask, 16) for name, mask in (line.split(":\t") for line in done.stdout.splitlines())}
    assert ignored
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not masks["SigIgn"] & 1 << number - 1
    assert masks["SigBlk"] == 0


def test_standard_input_and_output_are_the_programs(tmp_path: Path) -> None:
    done = subprocess.run(
        [INSTRUMENT, "cat"], input=b"\0\xff\n", capture_output=True, env=environment(NOWHERE), timeout=60, check=True
    )

    assert (done.stdout, done.stderr) == (b"\0\xff\n", b"")


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (("no-such-program", "x"), 127, "there is no program 'no-such-program'"),
        (("./no/such",), 127, "there is no program './no/such'"),
        (("./program.py",), 126, "'./program.py' cannot be executed; run it with: eventstorm-instrument python ./prog"),
        (("./folder",), 126, "'./folder' cannot be executed"),
        (("./nonsense",), 126, "'./nonsense' cannot be executed: Exec format error"),
        ((), 2, "no COMMAND to run; see eventstorm-instrument --help"),
        (("--",), 2, "no COMMAND to run; see eventstorm-instrument --help"),
        (("--nonsense", "python"), 2, "unrecognized arguments: --nonsense"),
    ],
    ids=str,
)
def test_what_cannot_be_run_has_the_exit_code_of_a_shell(
    command: tuple[str, ...], code: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nonsense").write_bytes(b"\0\0\0")
    (tmp_path / "nonsense").chmod(0o755)

    done = run(tmp_path, NOWHERE, *command)

    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("file", "variable", "told"),
    [
        ("", "2", "EVENTSTORM_HTTP_SAMPLE_RATE: 2.0 is not from 0 to 1"),
        ("[http]\nsample_rte = 0.1\n", "", "eventstorm.toml, line 2: unknown setting 'sample_rte'; did you mean"),
        ("[http\n", "", "eventstorm.toml, line 1: not TOML"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line_before_the_program_starts(
    file: str, variable: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "eventstorm.toml").write_text(file)
    variables = {"EVENTSTORM_HTTP_SAMPLE_RATE": variable} if variable else {}

    done = run(tmp_path, NOWHERE, "python", "-c", "print('started')", **variables)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"eventstorm-instrument: {told}")
    assert done.stderr.count("\n") == 1


def test_the_help_is_of_the_launcher_unless_it_is_the_programs(tmp_path: Path) -> None:
    ours, theirs = run(tmp_path, NOWHERE, "--help"), run(tmp_path, NOWHERE, "python", "--help")

    assert (ours.returncode, theirs.returncode) == (0, 0)
    assert ours.stdout.startswith("usage: eventstorm-instrument [--help] [--list] COMMAND")
    assert "eventstorm-instrument gunicorn shop:app" in ours.stdout
    assert theirs.stdout.startswith("usage: python [option]")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("python", "-I", "x.py"), "python is given -I, and so starts without Eventstorm"),
        (("python", "-Es", "x.py"), "python is given -E, and so starts without Eventstorm"),
        (("python", "-X", "utf8", "-S", "-c", "0"), "python is given -S, and so starts without Eventstorm"),
        (("./isolated",), "python3 is given -I, and so starts without Eventstorm"),
        (("python", "x.py", "-I"), ""),
        (("python", "-c", "0", "-I"), ""),
        (("python", "-W", "ignore", "x.py"), ""),
        (("sh", "-c", "exit 0"), ""),
    ],
    ids=str,
)
def test_it_says_when_the_interpreter_starts_without_eventstorm(
    command: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    (tmp_path / "x.py").write_text("")
    (tmp_path / "isolated").write_text("#!/usr/bin/env -S python3 -I\n")
    (tmp_path / "isolated").chmod(0o755)

    done = run(tmp_path, NOWHERE, *command)

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (f"eventstorm-instrument: nothing is recorded: {told}\n" if told else "")


def test_an_interpreter_without_eventstorm_runs_as_ever_and_the_launcher_says_how_to_install_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")

    done = run(tmp_path, NOWHERE, python, "-c", "import logging, sys; print(len(sys.meta_path) < 9)")

    assert (done.returncode, done.stdout) == (0, "True\n")
    assert done.stderr == (
        f"eventstorm-instrument: nothing is recorded: {python} has no Eventstorm; "
        f"install it with: {python} -m pip install eventstorm-integrations\n"
    )


def test_interpreters_of_any_age_start(tmp_path: Path) -> None:
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    olds = [*sorted(root.glob("versions/*/bin/python")), Path(sys.executable)]

    for python in olds:
        # A shell between them, since the launcher looks only at the program that it starts.
        done = run(tmp_path, NOWHERE, "sh", "-c", f"{python} -c 'import logging; print(7)'")
        assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", ""), python


def test_a_variable_that_is_nonsense_is_said_once_and_the_program_runs(tmp_path: Path) -> None:
    code = "import os, subprocess, sys; os.environ['%s'] = 'x'; subprocess.run([sys.executable, '-c', 'print(7)'])"
    done = run(tmp_path, NOWHERE, "python", "-c", code % TABLE)

    assert (done.returncode, done.stdout) == (0, "7\n")
    assert done.stderr.startswith("eventstorm-instrument: not instrumented: ")
    assert done.stderr.count("\n") == 1


def test_the_launcher_in_itself_adds_nothing(tmp_path: Path) -> None:
    code = "import os; print(os.environ['PYTHONPATH'])"

    once, twice = (run(tmp_path, NOWHERE, *again, "python", "-c", code).stdout for again in ((), (INSTRUMENT,)))

    assert once == twice
    assert "integrations" in once


def test_all_disabled_is_as_if_the_launcher_was_not_there(tmp_path: Path) -> None:
    code = "import os, sys; print('PYTHONPATH' in os.environ, len(sys.meta_path), sorted(sys.modules))"
    done = run(tmp_path, NOWHERE, "python", "-c", code, EVENTSTORM_INSTRUMENT_DISABLE="*")
    inner = run(tmp_path, NOWHERE, "env", "EVENTSTORM_INSTRUMENT_DISABLE=*", INSTRUMENT, "python", "-c", code)

    assert done.stdout == inner.stdout == run(tmp_path, NOWHERE, "python", "-c", code, launcher="").stdout


def test_it_lists_what_can_be_instrumented(tmp_path: Path) -> None:
    done = run(tmp_path, NOWHERE, "--list", EVENTSTORM_INSTRUMENT_DISABLE="flask, logging")

    states = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert done.returncode == 0
    assert (states["flask"], states["logging"], states["starlette"]) == ("disabled", "disabled", "used")
