"""Run the test suites of Flask, Starlette and uvicorn with and without ``eventstorm-instrument``: nothing may differ.

    transparency.py FOLDER [SUITE…]

The suites are those of the versions that are installed beside the Python that runs this, out of their source
distributions; each gets an environment of its own in FOLDER. What comes out differently is tried again both ways, by
whole files, and must be equal then or the next time. A sink listens meanwhile, so that events are really encoded and
sent, and tells how many: a run that emitted none fails too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 900.0  # many times what a suite takes
RETRIES = 2  # as many as a test needs that depends on how busy the machine is

Outcomes = Mapping[str, str]
"""What became of each test."""


@dataclass(frozen=True)
class Suite:
    """A library's own tests."""

    name: str
    group: str
    """What its pyproject.toml calls their requirements."""
    fewest: int
    """With fewer tests than these, something went wrong."""
    topics: tuple[str, ...]
    """What an instrumented run emits."""


SUITES = {
    "flask": Suite("flask", "tests", 450, ("http.hit", "log.record")),
    "starlette": Suite("starlette", "dev", 1200, ("http.hit",)),
    "uvicorn": Suite("uvicorn", "dev", 1200, ("http.hit", "log.record")),
}


@dataclass(frozen=True)
class Comparison:
    """A suite without, and with, ``eventstorm-instrument``; `again` holds the last try of what differed."""

    suite: Suite
    bare: Outcomes
    instrumented: Outcomes
    again: tuple[Outcomes, Outcomes]
    emitted: Mapping[str, int]

    def problems(self) -> Iterator[str]:
        """Yield what must not be."""
        if len(self.bare) < self.suite.fewest:
            yield f"{len(self.bare)} tests were run, of at least {self.suite.fewest}"
        for topic in self.suite.topics:
            if not self.emitted.get(topic):
                yield f"no {topic} was emitted: nothing was instrumented"
        for test in self.changed:
            without, with_it = (outcomes.get(test, "absent") for outcomes in self.again)
            yield f"{test}: {without} without eventstorm-instrument, {with_it} with it"

    def notes(self) -> Iterator[str]:
        """Yield what is no problem, and that a reader should know."""
        for test in self.differing:
            if test not in self.changed:
                yield f"{test}: differed, and not in another try"
        for test, outcome in self.bare.items():
            if outcome in ("failure", "error") and test not in self.differing:
                yield f"{test}: {outcome}, without eventstorm-instrument too"

    @property
    def differing(self) -> list[str]:
        """The tests that only one run had, or whose outcomes differ."""
        tests = {*self.bare, *self.instrumented}
        return sorted(test for test in tests if self.bare.get(test) != self.instrumented.get(test))

    @property
    def changed(self) -> list[str]:
        """Those of them that differ in the last try too, or were not there any more."""
        bare, instrumented = self.again
        return [test for test in self.differing if test not in bare or bare[test] != instrumented.get(test)]


class Runner:
    """Fetches a suite, makes its environment, and runs it."""

    def __init__(self, suite: Suite, folder: Path) -> None:
        """Take the folder for it; what is there of an earlier run of the same version is used again."""
        self.suite, self.folder = suite, folder
        self.version = version(suite.name)
        self._place = folder / f"{suite.name}-{self.version}"
        self._programs = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
        self._pip = [str(self._programs / "python"), "-m", "pip", "-q"]
        if not (self._place / "ready").exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._prepare()
            (self._place / "ready").touch()
        # Each time, since entry points may have changed.
        ours = [word for path in ("sdk/python", "integrations") for word in ("-e", str(ROOT / path))]
        self._call([*self._pip, "install", *ours])

    def compare(self) -> Comparison:
        """Run it both ways, and what differs again."""
        events = self.folder / "events.jsonl"
        events.unlink(missing_ok=True)
        settings = SinkSettings(
            ingress="tcp://127.0.0.1:0",
            egress="tcp://127.0.0.1:0",
            embed_router=True,
            stores=(f"jsonl:{events}",),
        )
        with Sink(settings) as sink:
            bare = self._run(sink, instrumented=False)
            instrumented = self._run(sink, instrumented=True)
            emitted = Counter[str]()
            for row in sink.snapshot().rows:
                if not row.topic.startswith("eventstorm."):  # the sink's own
                    emitted[row.topic] += row.received
            comparison = Comparison(self.suite, bare, instrumented, ({}, {}), emitted)
            files = sorted({test.partition("::")[0] for test in comparison.differing})
            for _ in range(RETRIES if files else 0):
                again = self._run(sink, False, files), self._run(sink, True, files)
                comparison = Comparison(self.suite, bare, instrumented, again, emitted)
                if not comparison.changed:
                    break
        return comparison

    def _prepare(self) -> None:
        self._call([sys.executable, "-m", "venv", "--clear", str(self.folder / "environment")])
        self._call([*self._pip, "install", "pip>=25.1"])  # the first that knows dependency groups
        wanted = f"{self.suite.name}=={self.version}"
        self._call(
            [*self._pip, "download", "--no-deps", "--no-binary", self.suite.name, "-d", str(self.folder), wanted]
        )
        (archive,) = self.folder.glob(f"*-{self.version}.tar.gz")
        # Not the library itself: what is tested is what is installed.
        parts = tuple(f"{self._place.name}/{part}" for part in ("tests/", "pyproject.toml", "uv.lock"))
        with tarfile.open(archive) as opened:
            members = [each for each in opened if each.name.startswith(parts)]
            opened.extractall(self.folder, members, filter="data")
        constraints = self.folder / "constraints.txt"
        constraints.write_text("\n".join(_locked(self._place / "uv.lock")), "utf-8")
        group = ["--group", f"{self._place / 'pyproject.toml'}:{self.suite.group}", "-c", str(constraints)]
        self._call([*self._pip, "install", wanted, *group])

    def _run(self, sink: Sink, instrumented: bool, files: Sequence[str] = ()) -> Outcomes:
        way = "instrumented" if instrumented else "bare"
        report = self.folder / f"{way}.xml"
        report.unlink(missing_ok=True)
        launcher = [str(self._programs / "eventstorm-instrument")] if instrumented else []
        pytest = [str(self._programs / "pytest"), "-p", "no:cacheprovider"]
        # The older form of the report names files.
        reporting = [f"--junitxml={report}", "-o", "junit_family=xunit1"]
        start_s = time.monotonic()
        self._call([*launcher, *pytest, *reporting, *files], self._place, endpoint=sink.ingress, fine=(0, 1))
        print(f"{self.suite.name} {self.version}: {way} in {time.monotonic() - start_s:.0f} s", flush=True)
        return outcomes(report)

    def _call(
        self,
        command: Sequence[str],
        cwd: Path | None = None,
        *,
        endpoint: str | None = None,
        fine: tuple[int, ...] = (0,),
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTSTORM_", "PYTHON"))}
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**kept, "EVENTSTORM_ENDPOINT": endpoint or ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=DEADLINE_S,
            check=False,
        )
        if done.returncode not in fine:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-5000:]}")


def outcomes(report: Path) -> dict[str, str]:
    """Return what became of each test, out of pytest's report."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("file", "")
        place = case.get("classname", "").removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
        test = "::".join(filter(None, (file, place, case.get("name"))))
        kinds = [each for each in case if each.tag in ("failure", "error", "skipped")]
        # An expected failure is a kind of skipping there.
        found[test] += [each.get("type", "").removeprefix("pytest.") or each.tag for each in kinds] or ["passed"]
    return {test: ", ".join(sorted(kinds)) for test, kinds in found.items()}


def _locked(lock: Path) -> Iterator[str]:
    """Yield constraints: no newer versions than those that the suite was released with, if it tells them."""
    versions: defaultdict[str, list[Version]] = defaultdict(list)
    if lock.exists():
        for package in tomllib.loads(lock.read_text("utf-8"))["package"]:
            if "registry" in package["source"]:
                versions[package["name"]].append(Version(package["version"]))
    for name, each in versions.items():
        yield f"{name}<={max(each)}"


def main() -> int:
    """Compare the suites, and tell; return the exit code."""
    runners = [Runner(SUITES[name], Path(sys.argv[1]).resolve() / name) for name in sys.argv[2:] or SUITES]
    found = [(runner, runner.compare()) for runner in runners]
    print(f"\n{'suite':<18}{'tests':>6}{'equal':>7}  {'without eventstorm-instrument':<42}emitted with it")
    for runner, comparison in found:
        equal = len(comparison.bare) - len(comparison.differing)
        told = ", ".join(f"{n:,} {kind}" for kind, n in Counter(comparison.bare.values()).most_common())
        events = ", ".join(f"{n:,} {topic}" for topic, n in sorted(comparison.emitted.items()))
        name = f"{runner.suite.name} {runner.version}"
        print(f"{name:<18}{len(comparison.bare):>6,}{equal:>7,}  {told:<42}{events}")
    problems = [f"{runner.suite.name}: {each}" for runner, comparison in found for each in comparison.problems()]
    notes = [f"{runner.suite.name}: {each}" for runner, comparison in found for each in comparison.notes()]
    print("", *notes, *problems, sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
