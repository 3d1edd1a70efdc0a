"""The hooks: integrations come with their frameworks, and modules are what they would be without hooks."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from eventstorm_integrations.instrument.table import Row, decode, disabled_names, encode, find_rows
from integrations.instrumented import run

NOWHERE = "tcp://127.0.0.1:9"

# Installs hooks for the framework of a test, whose integration says when it is used.
START = """
import importlib, sys
from eventstorm_integrations.instrument.hooks import Hooks
sys.path.insert(0, "library")
hooks = Hooks([("x", "integration", ("framework",)), ("y", "other", ("framework.part", "framework.late"))])
sys.meta_path.insert(0, hooks)
"""
INTEGRATION = """
import framework
def instrument(): print("instrumented with", framework.value)
"""
OTHER = """
def instrument_by_default(): print("by default")
def instrument(): raise AssertionError
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A framework and its integrations."""
    package = tmp_path / "library" / "framework"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("value = 7\n")
    (package / "part.py").write_text("from framework import value\n")
    (package / "late.py").write_text("")
    (package / "data.txt").write_text("data")
    (tmp_path / "library" / "integration.py").write_text(INTEGRATION)
    (tmp_path / "library" / "other.py").write_text(OTHER)
    return tmp_path


def printed(folder: Path, code: str, start: str = START) -> list[str]:
    """Run a program without the launcher; return the lines that it printed."""
    done = run(folder, NOWHERE, sys.executable, "-W", "error", "-c", start + code, launcher="")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def test_an_integration_is_used_once_its_framework_has_been_imported(folder: Path) -> None:
    assert printed(folder, "print(1)\nimport framework\nprint(2)\nimport framework") == [
        "1",
        "instrumented with 7",
        "2",
    ]


def test_a_program_that_imports_the_integration_itself_is_instrumented_too(folder: Path) -> None:
    assert printed(folder, "import integration\nprint(1)\nimport framework") == ["instrumented with 7", "1"]


def test_each_module_that_it_waits_for_counts(folder: Path) -> None:
    code = "import framework.part\nprint(1)\nimport framework.late\nimport framework.late"

    assert printed(folder, code) == ["instrumented with 7", "by default", "1", "by default"]


def test_a_framework_that_was_there_before_is_instrumented_at_once(folder: Path) -> None:
    code = "import sys; sys.path.insert(0, 'library'); import framework"

    assert printed(folder, f"{code}\n{START}hooks.catch_up()", start="") == ["instrumented with 7"]


def test_a_module_keeps_its_loader_its_spec_and_all_that_can_be_asked_of_them(folder: Path) -> None:
    code = """
import importlib.resources, importlib.util, inspect
from importlib.machinery import SourceFileLoader
found = importlib.util.find_spec("framework")
print(type(found.loader) is SourceFileLoader, found.loader.get_source("framework"), found.submodule_search_locations)
import framework
print(type(framework.__loader__) is SourceFileLoader, framework.__loader__ is framework.__spec__.loader)
print(sorted(vars(framework.__loader__)), inspect.getsource(framework), framework.__spec__.cached)
print(importlib.resources.files(framework).joinpath("data.txt").read_text())
framework.value = 8
print(importlib.reload(framework).value, importlib.util.find_spec("framework").loader.__class__.__name__)
"""
    plain = printed(folder, code, 'import importlib, sys\nsys.path.insert(0, "library")\n')
    hooked = printed(folder, code)

    assert [line for line in hooked if line != "instrumented with 7"] == plain
    assert "instrumented with 7" in hooked


def test_only_the_import_that_succeeds_counts(folder: Path) -> None:
    (folder / "library/framework/__init__.py").write_text(
        "import builtins\nif not hasattr(builtins, 'ready'): raise ImportError('not yet')\nvalue = 9\n"
    )
    code = """
import builtins
for _ in range(2):
    try: import framework
    except ImportError as error: print(error)
builtins.ready = True
import framework
"""
    assert printed(folder, code) == ["not yet", "not yet", "instrumented with 9"]


def test_archives_lazy_modules_and_namespaces_are_imported(folder: Path) -> None:
    with zipfile.ZipFile(folder / "library.zip", "w") as archive:
        for path in sorted((folder / "library").rglob("*.py")):
            archive.write(path, path.relative_to(folder / "library"))
    zipped = START.replace('"library"', '"library.zip"')
    lazy = """
import importlib.util
spec = importlib.util.find_spec("framework")
spec.loader = importlib.util.LazyLoader(spec.loader)
module = sys.modules["framework"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print("lazy")
print(module.value)
"""
    code = "import importlib.util as u\nu.find_spec('framework.part')\nimport framework.late\nimport framework.part"
    assert printed(folder, code, zipped) == ["instrumented with 7", "by default", "by default"]
    assert printed(folder, lazy) == ["lazy", "instrumented with 7", "7"]

    (folder / "library/framework/__init__.py").unlink()
    assert printed(folder, "import framework.late\nprint(list(framework.__path__) != [])") == ["by default", "True"]


def test_modules_in_c_and_frozen_ones_are_let_alone(folder: Path) -> None:
    code = """
from importlib.machinery import BuiltinImporter, FrozenImporter
before = dict(vars(BuiltinImporter)), dict(vars(FrozenImporter))
builtin = next(name for name in sys.builtin_module_names if name not in sys.modules)
sys.meta_path[0] = Hooks([("x", "integration", (builtin, "__hello__"))])
print(__import__(builtin).__loader__ is BuiltinImporter, __import__("__hello__").__loader__ is FrozenImporter)
print((dict(vars(BuiltinImporter)), dict(vars(FrozenImporter))) == before)
"""
    assert printed(folder, code)[-1] == "True"


def test_what_other_finders_do_is_theirs(folder: Path) -> None:
    code = """
class Finds:
    def find_spec(self, name, path, target=None):
        if name == "framework":
            print("asked for", name, path)
            raise ImportError("forbidden")
sys.meta_path.insert(1, Finds())
try: import framework
except ImportError as error: print(error)
del sys.meta_path[1]
sys.meta_path.insert(0, Finds())
try: import framework
except ImportError as error: print(error)
sys.meta_path[:2] = []
import framework
print(hooks.find_spec("framework"))
"""
    assert printed(folder, code) == ["asked for framework None", "forbidden"] * 2 + ["None"]


BROKEN = [
    "raise RuntimeError('broken')",
    "import sys; sys.exit(3)",
    "def instrument(): raise RuntimeError('broken')",
    "def instrument(): raise SystemExit(3)",
    "def instrument(wants, something): pass",
    "instrument = None",
    "x = 1",
    "syntax error",
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_integration_breaks_nothing_and_is_counted_and_logged(content: str, folder: Path) -> None:
    (folder / "library/integration.py").write_text(content)
    code = "import framework.part, eventstorm_integrations\nprint(framework.value, eventstorm_integrations.stats())"

    done = run(folder, NOWHERE, sys.executable, "-c", START + code, launcher="")

    assert (done.returncode, done.stdout) == (0, "by default\n7 {'instrument.fault': 1}\n")
    assert done.stderr.startswith(
        "eventstorm-instrument: x is not instrumented; at most one such line a minute\nTraceb"
    )


def test_an_integration_that_refuses_is_skipped_quietly_but_told_to_who_debugs(folder: Path) -> None:
    (folder / "library/integration.py").write_text("raise ImportError('framework 7 is too old')")

    assert printed(folder, "import framework.part, eventstorm_integrations as e\nprint(e.stats())") == [
        "by default",
        "{}",
    ]
    done = run(
        folder,
        NOWHERE,
        sys.executable,
        "-c",
        f"{START}import logging\nlogging.basicConfig(level='DEBUG')\nimport framework",
        launcher="",
    )
    assert done.stderr == (
        "DEBUG:eventstorm_integrations.instrument.hooks:x is not instrumented: framework 7 is too old\n"
    )


def test_a_program_may_have_a_module_of_its_own_that_is_called_logging(tmp_path: Path) -> None:
    (tmp_path / "logging.py").write_text("value = 7\n")
    (tmp_path / "program.py").write_text("import logging; print(logging.value)")

    done = run(tmp_path, NOWHERE, "python", "program.py")

    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_an_interrupt_is_nobodys_fault(folder: Path) -> None:
    (folder / "library/integration.py").write_text("raise KeyboardInterrupt")

    assert printed(folder, "try: import framework\nexcept KeyboardInterrupt: print('interrupted')") == ["interrupted"]


def test_the_table_passes_through_a_variable() -> None:
    rows: list[Row] = [("a", "b.c", ("d", "e.f")), ("x", "y", ("x",))]

    assert decode(encode(rows)) == rows
    assert (decode(encode([])), decode("")) == ([], [])
    assert decode(encode(find_rows())) == find_rows()
    for wrong in ("x", "a b", "a b c d", ";"):
        with pytest.raises(ValueError, match="values to unpack"):
            decode(wrong)


def test_every_integration_of_ours_is_there_with_what_it_waits_for() -> None:
    rows = {name: (module, triggers) for name, module, triggers in find_rows()}

    assert rows["flask"] == ("eventstorm_integrations.flask", ("flask",))
    assert rows["starlette"] == ("eventstorm_integrations.starlette", ("starlette.applications",))
    assert rows["django"][1] == ("django.core.handlers.asgi", "django.core.handlers.wsgi")


@pytest.mark.parametrize("text", ["flask,logging", "flask logging", " flask , logging,", "logging,flask,flask"])
def test_disabled_names_are_listed_with_commas_or_spaces(text: str) -> None:
    assert disabled_names(text) == {"flask", "logging"}
