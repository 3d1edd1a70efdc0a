"""Closing stores, such that one that hangs keeps nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from eventstorm_sinks.stores import Readable

__all__ = ["close_stores"]

log = logging.getLogger(__name__)


def close_stores(stores: Sequence[tuple[str, Readable]], within_s: float) -> None:
    """Close stores, given with their names, all at once; those that take longer are left behind."""
    closing = [
        (name, threading.Thread(target=_close, args=(name, store), name=f"eventstorm-close-{name}", daemon=True))
        for name, store in stores
    ]
    for _, thread in closing:
        thread.start()
    stop_by_s = time.monotonic() + within_s
    for name, thread in closing:
        thread.join(max(stop_by_s - time.monotonic(), 0))
        if thread.is_alive():
            log.error("%s: not closed within %g s; left behind", name, within_s)


def _close(name: str, store: Readable) -> None:
    try:
        store.close()
    except Exception:
        log.exception("%s: could not be closed", name)
