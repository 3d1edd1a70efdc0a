"""Certificates that a test makes for itself, by the program openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def make_certificates(folder: Path) -> Path:
    """Make ``ca.pem``, and ``server.pem`` with ``server.key`` for 127.0.0.1, which it signs; return the folder."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    folder.mkdir(exist_ok=True)
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-keyout", "ca.key", "-out", "ca.pem"]
    openssl("req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=a test's authority", *authority)
    openssl("req", *_KEY, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed_by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", *signed_by, "-days", "2", "-out", "server.pem")
    return folder
