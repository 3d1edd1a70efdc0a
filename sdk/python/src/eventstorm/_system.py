"""What a source asks of the operating system and of the program that it is in."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "block_signals",
    "clean",
    "follow_uwsgi",
    "imports_take_locks_of_gevent",
    "is_uwsgi_master",
    "native",
    "program_name",
    "wake_pipe",
]


def wake_pipe() -> tuple[int, int]:
    """Make the pipe that wakes the publisher.

    It is never closed, but in a forked child, where no other thread runs: a thread of the application might be about
    to write to it, and its number could by then be that of another file.
    """
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def native(module: str, name: str) -> Any:
    """Return the operating system's own function, also where gevent replaced it."""
    # Not there yet while another thread imports gevent, which has replaced nothing by then.
    get_original = getattr(sys.modules.get("gevent.monkey"), "get_original", None)
    return getattr(sys.modules[module], name) if get_original is None else get_original(module, name)


def imports_take_locks_of_gevent() -> bool:
    """Tell whether gevent has replaced the locks by which a thread waits for another's import."""
    # Not there yet while another thread imports gevent.
    is_patched = getattr(sys.modules.get("gevent.monkey"), "is_object_patched", None)
    return is_patched is not None and bool(is_patched("_thread", "allocate_lock"))


def is_uwsgi_master() -> bool:
    """Tell whether this is uWSGI while it loads the application, from which its workers are forked.

    It forks in C, whatever the other threads do: if one holds the interpreter's lock, the worker waits for ever.
    """
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0


def follow_uwsgi(after_fork: Callable[[], None]) -> None:
    """Have a function called in the forks of uWSGI, which Python's own hooks do not see."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return
    master, others = os.getpid(), getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        if os.getpid() != master:
            after_fork()
        if others is not None:
            others()

    uwsgi.post_fork_hook = hook  # type: ignore[attr-defined]


def block_signals() -> None:
    """Leave all signals to the application: one that its threads block and wait for would end the process here."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def program_name() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    program = sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-", "-c") else sys.executable
    return os.path.basename(program) or "python"


def clean(name: str) -> str:
    """Make a name fit for the wire's header, whatever the system calls itself."""
    return name.encode("utf-8", "replace").replace(b"\0", b"").decode()[:200]
