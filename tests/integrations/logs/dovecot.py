"""Dovecot, of which only the part runs that Postfix asks whether a password is right."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .servers import program, running, wait

_CONFIGURATION = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols =
ssl = no
auth_mechanisms = plain login cram-md5
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
service auth {{
  unix_listener {folder}/auth {{
    mode = 0666
  }}
}}
# Else each wrong password makes the next answer later.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


@contextlib.contextmanager
def password_server(folder: Path) -> Iterator[Path]:
    """Run it, with a user ``ada@here.test`` whose password is ``right``; yields the socket at which it is asked."""
    folder.mkdir()
    (folder / "users").write_text("ada@here.test:{PLAIN}right\n")
    (folder / "dovecot.conf").write_text(_CONFIGURATION.format(folder=folder))
    command = [program("dovecot"), "-F", "-c", str(folder / "dovecot.conf")]
    with running(command, folder / "output") as process:
        wait(lambda: process.poll() is not None or (folder / "auth").exists(), "Dovecot listens")
        assert process.poll() is None, (folder / "output").read_text()
        yield folder / "auth"
