"""What all daemons do alike: say that they are ready, and stop on SIGTERM or SIGINT."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

__all__ = ["announce_ready", "leave", "stop_signal"]

# Threads that were told to end are given so long to do it.
_LEAVE_S = 0.5


def announce_ready(line: str) -> None:
    """Print one line to standard error, and tell systemd where it started us (``sd_notify(3)``)."""
    print(line, file=sys.stderr, flush=True)
    _notify("READY=1")


@contextlib.contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set. Only the main thread may call this.

    Enter it before anything that must be stopped is started, so that no signal finds the default handlers, and wait
    with ``while not event.wait(timeout)`` or ``event.wait()``. A second signal has its usual effect, for a user who
    insists.
    """
    stop = threading.Event()
    usual: dict[int, object] = {}

    def handle(number: int, frame: object) -> None:
        for each, handler in usual.items():
            signal.signal(each, handler)  # type: ignore[arg-type]  # as signal.signal returned it
        _notify("STOPPING=1")
        stop.set()

    for number in (int(signal.SIGTERM), int(signal.SIGINT)):
        usual[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def leave(code: int) -> int:
    """Return the exit code, or end the process with it here and now if a thread does not end.

    Call it last, when all is stopped. Python would wait for ever for a thread that hangs in a disk or a query. Daemon
    threads of libraries, such as the loop of Cassandra's driver, are theirs to end.
    """
    leave_by_s = time.monotonic() + _LEAVE_S
    for thread in threading.enumerate():
        is_library = thread.daemon and not thread.name.startswith("eventstorm")
        if thread is not threading.current_thread() and not is_library:
            thread.join(max(leave_by_s - time.monotonic(), 0))
            if thread.is_alive():
                print(f"{thread.name} does not end; not waiting for it", file=sys.stderr, flush=True)
                with contextlib.suppress(OSError, ValueError):
                    sys.stdout.flush()
                os._exit(code)
    return code


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.send(state.encode())
