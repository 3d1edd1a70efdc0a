"""Look into the four built wheels: what belongs there is there, and nothing else. Usage: check_wheels.py FOLDER."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "eventstorm": ROOT / "sdk/python",
    "eventstorm_router": ROOT / "router",
    "eventstorm_integrations": ROOT / "integrations",
    "eventstorm_sinks": ROOT / "sinks",
}


def main(folder: Path) -> int:
    """Print what is wrong with the wheels in `folder`; return the exit code."""
    problems = [problem for name, source in PACKAGES.items() for problem in _check(folder, name, source)]
    print("\n".join(problems) or f"{len(PACKAGES)} wheels hold what they should")
    return 1 if problems else 0


def _check(folder: Path, name: str, source: Path) -> list[str]:
    wheels = list(folder.glob(f"{name}-*.whl"))
    if len(wheels) != 1:
        return [f"{name}: {len(wheels)} wheels in {folder}, where one is expected"]
    with zipfile.ZipFile(wheels[0]) as wheel:
        packed = {path for path in wheel.namelist() if not path.endswith("/")}
    package = source / "src" / name
    wanted = {
        path.relative_to(source / "src").as_posix()
        for path in package.rglob("*")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.parts)
    }
    metadata = {path for path in packed if ".dist-info/" in path}
    problems = [f"{name}: {path} is missing" for path in sorted(wanted - packed)]
    problems += [f"{name}: {path} does not belong there" for path in sorted(packed - wanted - metadata)]
    if f"{name}/py.typed" not in packed:
        problems.append(f"{name}: {name}/py.typed is missing")
    if not any(path.endswith("/licenses/LICENSE") for path in metadata):
        problems.append(f"{name}: the licence is missing")
    return problems


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
