"""``nox -s transparency`` sees each difference between two runs of a suite, and that a run was an empty one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from documents import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
try:
    from transparency import Comparison, Runner, Suite, outcomes  # type: ignore[import-not-found]
finally:
    sys.path.remove(str(ROOT / "scripts"))

SUITE = Suite("some", "tests", fewest=2, topics=("http.hit",))
GOOD = {"a.py::one": "passed", "a.py::two": "passed"}
EMITTED = {"http.hit": 1}

TESTS = """
import pytest

def test_passes(): pass
def test_fails(): assert not "this"
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.xfail
def test_expected(): assert not "this"

class TestThings:
    @pytest.mark.parametrize("n", [1, 2])
    def test_each(self, n): assert n == 1

@pytest.fixture
def broken():
    yield
    raise LookupError

def test_fails_afterwards(broken): pass
"""


def problems(bare: dict[str, str], instrumented: dict[str, str], *again: dict[str, str]) -> list[str]:
    return list(Comparison(SUITE, bare, instrumented, again or (bare, instrumented), EMITTED).problems())


def test_the_same_outcomes_are_no_problem() -> None:
    assert problems(GOOD, dict(GOOD)) == []
    assert problems({**GOOD, "a.py::three": "failure"}, {**GOOD, "a.py::three": "failure"}) == []


def test_another_outcome_and_a_test_too_many_or_too_few_are_problems() -> None:
    assert problems(GOOD, {**GOOD, "a.py::two": "failure"}) == [
        "a.py::two: passed without eventstorm-instrument, failure with it"
    ]
    assert problems({**GOOD, "a.py::two": "failure"}, GOOD)
    assert problems(GOOD, {**GOOD, "a.py::two": "skip"})
    assert problems(GOOD, {**GOOD, "a.py::three": "passed"})
    assert problems({**GOOD, "a.py::three": "passed"}, GOOD)


def test_what_is_equal_in_another_try_is_told_and_no_problem() -> None:
    comparison = Comparison(SUITE, GOOD, {**GOOD, "a.py::two": "failure"}, (GOOD, GOOD), EMITTED)

    assert list(comparison.problems()) == []
    assert list(comparison.notes()) == ["a.py::two: differed, and not in another try"]


class Scripted(Runner):
    """Runs nothing, and has the outcomes of a test, without the launcher and with it by turns."""

    def __init__(self, folder: Path, *runs: dict[str, str]) -> None:
        self.suite, self.folder, self.left = SUITE, folder, list(runs)
        self.files: list[list[str]] = []

    def _run(self, sink: object, instrumented: bool, files: Sequence[str] = ()) -> dict[str, str]:
        self.files.append([*files])
        return self.left.pop(0)


def test_what_differs_is_tried_again_twice_by_whole_files(tmp_path: Path) -> None:
    bad = {**GOOD, "a.py::two": "failure"}
    equal = Scripted(tmp_path, GOOD, GOOD)
    busy = Scripted(tmp_path, GOOD, bad, bad, GOOD, GOOD, GOOD)
    broken = Scripted(tmp_path, GOOD, bad, GOOD, bad, GOOD, bad)

    assert [runner.compare().changed for runner in (equal, busy, broken)] == [[], [], ["a.py::two"]]
    assert equal.files == [[], []]
    assert busy.files == broken.files == [[], [], *[["a.py"]] * 4]


def test_a_failure_without_the_launcher_is_told() -> None:
    failing = {**GOOD, "a.py::two": "failure"}

    assert list(Comparison(SUITE, failing, failing, ({}, {}), EMITTED).notes()) == [
        "a.py::two: failure, without eventstorm-instrument too"
    ]


def test_a_run_of_few_tests_or_without_events_is_a_problem() -> None:
    few = {"a.py::one": "passed"}

    assert problems(few, few) == ["1 tests were run, of at least 2"]
    assert list(Comparison(SUITE, GOOD, GOOD, ({}, {}), {}).problems()) == [
        "no http.hit was emitted: nothing was instrumented"
    ]


def test_each_test_has_its_outcome(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    reporting = ["--junitxml=report.xml", "-o", "junit_family=xunit1", "-p", "no:cacheprovider"]
    subprocess.run([sys.executable, "-m", "pytest", *reporting], cwd=tmp_path, capture_output=True, check=False)

    assert outcomes(tmp_path / "report.xml") == {
        "test_some.py::test_passes": "passed",
        "test_some.py::test_fails": "failure",
        "test_some.py::test_skipped": "skip",
        "test_some.py::test_expected": "xfail",
        "test_some.py::TestThings::test_each[1]": "passed",
        "test_some.py::TestThings::test_each[2]": "failure",
        "test_some.py::test_fails_afterwards": "error",
    }


def test_a_suite_that_cannot_be_collected_is_no_equal_one(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("import nothing_of_this_name")
    reporting = ["--junitxml=report.xml", "-o", "junit_family=xunit1", "-p", "no:cacheprovider"]
    subprocess.run([sys.executable, "-m", "pytest", *reporting], cwd=tmp_path, capture_output=True, check=False)

    assert problems(dict(outcomes(tmp_path / "report.xml")), {}) != []
