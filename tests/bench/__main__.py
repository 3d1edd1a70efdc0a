"""Run the benchmarks: ``nox -s bench``, or ``python tests/bench [--quick] [--json FILE] [NAME…]``.

Each ``bench_*.py`` beside this file that has ``run(quick)`` is one; NAME is what follows ``bench_``. The exit code is 1
if a target is missed. ``python tests/bench soak`` is a run of minutes into one store, see ``soak.py``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import soak
from harness import Result, machine, table

HERE = Path(__file__).parent


def main() -> int:
    """Run what was asked for, print the table, and return the exit code."""
    if sys.argv[1:2] == ["soak"]:
        return soak.main(sys.argv[2:])
    names = sorted(
        path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py") if "def run(" in path.read_text()
    )
    parser = argparse.ArgumentParser(prog="tests/bench", description="Measure; ratios are taken in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(names)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="short and rough: shows that it works, not how fast it is")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in names:
            parser.error(f"no benchmark {name!r}; there are {', '.join(names)}")
    results: list[Result] = []
    for name in arguments.names or names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        results += importlib.import_module(f"bench_{name}").run(arguments.quick)
    print(f"{machine()}{', --quick' if arguments.quick else ''}\n\n{table(results)}")
    if arguments.json:
        document = {"machine": machine(), "quick": arguments.quick, "results": [asdict(each) for each in results]}
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    return 0 if all(each.passed for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
