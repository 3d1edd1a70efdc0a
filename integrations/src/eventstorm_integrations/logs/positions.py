"""What is kept between runs: how far each file was read, and what its parser remembers; one small file for each."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eventstorm.errors import StartError
from eventstorm_integrations.logs.rotated import Position

__all__ = ["Saved", "default_folder"]

log = logging.getLogger(__name__)

_VERSION = 1


def default_folder() -> Path:
    """Return where positions are kept: systemd's ``StateDirectory``, else the user's own place, or root's."""
    if given := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME") or (
        "/var/lib" if os.geteuid() == 0 else os.path.expanduser("~/.local/state")
    )
    return Path(home) / "eventstorm" / "logs"


class Saved:
    """The position in one file, of one parser. Two processes cannot have it at once.

    Raises:
        StartError: the folder cannot be written to, or another process follows this file.
    """

    def __init__(self, folder: Path, parser: str, path: str) -> None:
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        self._file = folder / f"{parser}-{digest}.json"
        self._about = {"version": _VERSION, "parser": parser, "path": os.fsencode(path).decode("utf-8", "replace")}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / f"{parser}-{digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(
                f"positions cannot be kept in {folder}: {error.strerror}; name another folder with --state"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StartError(f"another process follows {path} for {parser} already") from None
        self.position: Position | None = None
        self.state: dict[str, Any] = {}
        """What the parser remembered."""
        self._read()

    def _read(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            try:
                found = json.loads(self._file.read_bytes())
                if found["version"] == _VERSION:
                    self.position = Position(**found["position"]) if found["position"] else None
                    self.state = found["state"]
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                log.warning("%s cannot be used, so the file counts as new: %s", self._file, error)

    def save(self, position: Position | None, state: dict[str, Any]) -> None:
        """Write it, whole or not at all, whatever happens to the machine. What is no file has no position.

        Raises:
            OSError: it cannot be written.
        """
        text = json.dumps({**self._about, "position": position and asdict(position), "state": state})
        new = self._file.with_suffix(".new")
        # What people's logs say is nobody else's business.
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()  # of a full disk it would keep the little that is left
            raise

    def close(self) -> None:
        """Let others have it."""
        os.close(self._lock)
