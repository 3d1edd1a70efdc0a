"""Servers made of jars of Maven Central, which are fetched once for all runs."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

_POM = """
<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>eventstorm</groupId><artifactId>server</artifactId><version>1</version>
<dependencies><dependency>
<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>
</dependency></dependencies></project>
"""


def fetched(group: str, artifact: str, version: str) -> Path:
    """Return the folder with an artifact's jar and all that it needs."""
    cached = platformdirs.user_cache_path("eventstorm-tests") / f"{artifact}-{version}"
    if not cached.exists():
        missing = [name for name in ("java", "javac", "mvn") if not shutil.which(name)]
        assert not missing, f"{', '.join(missing)} missing: install a JDK and Maven (default-jdk-headless, maven)"
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as made:
            (Path(made) / "pom.xml").write_text(_POM.format(group=group, artifact=artifact, version=version))
            command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={made}/jars"]
            subprocess.run(command, cwd=made, check=True)
            with contextlib.suppress(OSError):  # another run was faster
                (Path(made) / "jars").rename(cached)
    return cached


def compiled(source: Path, jars: Path) -> Path:
    """Return the folder with a class, compiled of its source; once for all runs."""
    text = hashlib.sha256(source.read_bytes()).hexdigest()
    classes = jars.with_name(f"{jars.name}-{source.stem}-{text[:12]}")
    if not classes.exists():
        with tempfile.TemporaryDirectory(dir=jars.parent) as made:
            subprocess.run(["javac", "-cp", f"{jars}/*", "-d", f"{made}/classes", source], check=True)
            with contextlib.suppress(OSError):  # another run was faster
                (Path(made) / "classes").rename(classes)
    return classes
