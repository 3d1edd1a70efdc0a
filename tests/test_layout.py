"""What the folders promise: four distributions in lockstep, small modules, one way through the code."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import EntryPoint, distribution
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "eventstorm": ROOT / "sdk/python",
    "eventstorm-router": ROOT / "router",
    "eventstorm-integrations": ROOT / "integrations",
    "eventstorm-sinks": ROOT / "sinks",
}
PROJECTS: dict[str, dict[str, Any]] = {
    name: tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"] for name, folder in FOLDERS.items()
}
VERSION = PROJECTS["eventstorm"]["version"]
MODULES = {
    ".".join(path.relative_to(folder / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for folder in FOLDERS.values()
    for path in sorted((folder / "src").rglob("*.py"))
}
ENTRIES = [
    (name, group, entry, target)
    for name, project in PROJECTS.items()
    for group, entries in {**project.get("entry-points", {}), "console_scripts": project.get("scripts", {})}.items()
    for entry, target in entries.items()
]

# A library or kernel facility is used where its name is on the door, and nowhere else.
ROOMS = {
    "cassandra": ("eventstorm_sinks.stores.cassandra",),
    "django": ("eventstorm_integrations.django",),
    "duckdb": ("eventstorm_sinks.stores.duckdb",),
    "fastapi": ("eventstorm_integrations.fastapi",),
    "flask": ("eventstorm_integrations.flask",),
    "gunicorn": ("eventstorm_integrations.gunicorn",),
    "hypercorn": ("eventstorm_integrations.hypercorn",),
    "inotify_simple": ("eventstorm_integrations.logs.watch",),
    "litestar": ("eventstorm_integrations.litestar",),
    "nanoarrow": ("eventstorm_sinks.stores.duckdb",),
    "pymongo": ("eventstorm_sinks.stores.mongodb",),
    "psutil": ("eventstorm_integrations.sysmon",),
    "starlette": ("eventstorm_sinks.web", "eventstorm_integrations.starlette"),
    "uvicorn": ("eventstorm_sinks.web", "eventstorm_sinks.commands", "eventstorm_integrations.uvicorn"),
    "waitress": ("eventstorm_integrations.waitress",),
    "websockets": ("eventstorm_sinks.web",),
    "werkzeug": ("eventstorm_integrations.flask", "eventstorm_integrations.werkzeug"),
}


def imports_of(path: Path) -> set[str]:
    """Return the full names of the modules, and of what is imported from them, anywhere in a file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("name", FOLDERS)
def test_all_distributions_have_one_version_and_ask_for_each_other_in_it(name: str) -> None:
    project = PROJECTS[name]
    package = (FOLDERS[name] / "src" / name.replace("-", "_") / "__init__.py").read_text("utf-8")
    ours = [each for each in project["dependencies"] if each.startswith("eventstorm")]

    assert project["version"] == VERSION
    assert f'__version__ = "{VERSION}"' in package
    assert all(each.endswith(f"=={VERSION}") for each in ours)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_distribution_has_a_readme_the_licence_and_types(name: str) -> None:
    folder = FOLDERS[name]
    readme = (folder / "README.md").read_text("utf-8")

    assert readme.startswith(f"# {name}\n")
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (folder / "src" / name.replace("-", "_") / "py.typed").exists()


@pytest.mark.parametrize(("name", "group", "entry", "target"), ENTRIES)
def test_every_entry_point_leads_somewhere(name: str, group: str, entry: str, target: str) -> None:
    assert EntryPoint(entry, target, group).load() is not None
    installed = {(each.group, each.name, each.value) for each in distribution(name).entry_points}
    assert (group, entry, target) in installed, "run the installation again: pyproject.toml has changed"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_small_and_says_what_it_is_for(module: str) -> None:
    text = MODULES[module].read_text("utf-8")

    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("module", MODULES)
def test_a_distribution_uses_only_the_public_names_of_the_others(module: str) -> None:
    own = module.partition(".")[0]
    strange = {
        name
        for name in imports_of(MODULES[module])
        if name.startswith("eventstorm") and name.partition(".")[0] != own and "._" in name
    }

    assert not strange


@pytest.mark.parametrize("library", ROOMS)
def test_a_library_is_imported_only_in_its_own_room(library: str) -> None:
    users = {
        module
        for module, path in MODULES.items()
        if any(name.partition(".")[0] == library for name in imports_of(path))
    }

    assert not {module for module in users if not module.startswith(ROOMS[library])}


@pytest.mark.parametrize(
    "name", sorted({*PROJECTS["eventstorm-integrations"]["optional-dependencies"]} - {"all", "logs", "sysmon"})
)
def test_the_oldest_framework_that_is_tested_is_the_oldest_that_is_taken(name: str) -> None:
    (asked,) = PROJECTS["eventstorm-integrations"]["optional-dependencies"][name]
    oldest = (ROOT / "tests/integrations/oldest.txt").read_text("utf-8").splitlines()
    code = MODULES[f"eventstorm_integrations.{name}"].read_text("utf-8")
    version = asked.removeprefix(f"{name}>=")

    assert f"{name}=={version}" in oldest
    assert f'needs("{name}", "{version}")' in code


def test_the_router_decodes_no_event() -> None:
    decoders = {"eventstorm.wire.decode_message", "eventstorm.wire.Message", "bson.decode", "bson.decode_all"}

    for module, path in MODULES.items():
        if module.startswith("eventstorm_router"):
            assert not imports_of(path) & decoders


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_listed_in_order(module: str) -> None:
    for node in ast.parse(MODULES[module].read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(at, ast.Name) and at.id == "__all__" for at in node.targets):
            names = ast.literal_eval(node.value)
            # As ruff sorts them: constants, then classes, then the rest.
            assert names == sorted(names, key=lambda each: (not each.isupper(), not each[0].isupper(), each))
