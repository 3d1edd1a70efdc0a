"""Log records as ``log.record`` events: `EventstormHandler` for one logger, `instrument` for all of them.

    logging.getLogger().addHandler(EventstormHandler())

While nobody listens, a record is not even formatted.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventstorm import Source

__all__ = ["EventstormHandler", "instrument", "instrument_by_default", "uninstrument"]

TOPIC = "log.record"

# A signal handler may log in the middle of a record, and so may an argument's `__str__`. Deeper than this it is a loop.
_MOST_NESTED = 3


# Stands for "no handler of ours has had the record yet", while the loggers' own handlers are called.
_WATCHING: object = object()


class _Thread:
    __slots__ = ("nested", "seen")

    def __init__(self) -> None:
        self.nested = 0
        # None unless that is so; then the record that a handler of ours has had last.
        self.seen: object = None


class _Here(threading.local):
    # Looked up once a record, which takes longer than what is done with it. Made in `_this_thread`, since a signal
    # handler may interrupt what an initializer does.
    thread: _Thread | None = None


_here = _Here()


def _this_thread() -> _Thread:
    made = _Thread()
    return _here.__dict__.setdefault("thread", made)  # type: ignore[no-any-return]


class EventstormHandler(logging.Handler):
    """Emits each record as a ``log.record`` event, and never blocks: it has no lock and waits for nothing.

    A record whose message cannot be formatted goes to `logging.Handler.handleError`, as with other handlers. What else
    a record holds is made fit: values of ``extra`` that BSON has no type for become their ``repr``, and everything has
    a bound. A formatter has no effect, filters and the level have the usual one. May be used from any thread, signal
    handler or finalizer, and after a fork. Records of Eventstorm's own loggers are left out.

    Args:
        level: records below it are ignored, as with every handler.
        source: what to emit with; None for `eventstorm.emit`.
    """

    def __init__(self, level: int | str = logging.NOTSET, *, source: Source | None = None) -> None:
        super().__init__(level)
        self._wanted: Callable[[str], bool] | None = None
        self._open(source)

    def _open(self, source: Source | None) -> None:
        import eventstorm
        from eventstorm.context import common_fields
        from eventstorm_integrations._log_record import encode_record

        self._encode, self._common = encode_record, common_fields.get
        self._emit = (source or eventstorm).emit_encoded
        self._wanted = (source or eventstorm).wanted  # last, since it tells that the others are there

    def createLock(self) -> None:
        """Do without a lock: `eventstorm.emit` needs none, and who holds one may be interrupted by a signal."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """Emit the record if the filters let it pass; return what they said."""
        accepted: Any = self.filter(record) if self.filters else True
        if _patch is not None and (thread := _here.thread or _this_thread()).seen is not None:
            thread.seen = record
        if accepted:
            self.emit(record if accepted is True or not isinstance(accepted, logging.LogRecord) else accepted)
        return accepted

    def emit(self, record: logging.LogRecord) -> None:
        """Emit the record; never raise."""
        try:
            if self._wanted is not None and self._wanted(TOPIC):
                self._record(record)
        except Exception:
            self._failed(record)

    def _record(self, record: logging.LogRecord) -> None:
        thread = _here.thread or _this_thread()
        if thread.nested >= _MOST_NESTED:
            return
        thread.nested += 1
        try:
            event = self._encode(record, self._common())
            if event is not None:
                self._emit(TOPIC, event)
        finally:
            thread.nested -= 1

    def _failed(self, record: logging.LogRecord) -> None:
        # At the end of the stack, which a program may well reach, there is no room to tell it.
        with contextlib.suppress(RecursionError):
            self.handleError(record)


# The threads that import the SDK now.
_opening: set[int] = set()
_LONGEST_IMPORT_S = 5.0
# The share of a program's time that may go into attempts to import it.
_MAY_COST = 0.01


# The threads that fork now.
_forking: set[int] = set()
_POLL_S = 0.001  # as short as a fork takes


def _before_fork() -> None:
    """Let other threads finish their imports of the SDK, and none begin, until the fork is done.

    A child that inherits a half-imported module waits for ever when it imports that module itself.
    """
    deadline, mine = time.monotonic() + _LONGEST_IMPORT_S, threading.get_ident()
    _forking.add(mine)
    while _opening - {mine} and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    # If it has been imported only now, its own hook comes too late for this fork.
    before_fork = getattr(sys.modules.get("eventstorm.source"), "before_fork", None)
    if before_fork is not None:
        before_fork()


def _after_fork_in_parent() -> None:
    _forking.discard(threading.get_ident())


def _after_fork_in_child() -> None:
    _forking.clear()
    _opening.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class _LateHandler(EventstormHandler):
    """Imports the SDK at the first record: a program that never logs does not pay for it."""

    _open_at_s = 0.0

    def _open(self, source: Source | None) -> None:
        pass

    def wants_any(self) -> bool:
        """Tell whether anybody listens."""
        if self._wanted is None and time.monotonic() >= self._open_at_s:
            self._try_to_open()
        return self._wanted is not None and self._wanted(TOPIC)

    def _try_to_open(self) -> None:
        thread, start_s = threading.get_ident(), time.monotonic()
        _opening.add(thread)
        try:
            # Who forks and who imports each say first what they do, and then look.
            while _forking - {thread} and time.monotonic() < start_s + _LONGEST_IMPORT_S:
                _opening.discard(thread)
                time.sleep(_POLL_S)
                _opening.add(thread)
            super()._open(None)
        except (Exception, SystemExit) as error:
            # It is being imported, and soon there. Or it never is, where a module of the program has the name of one
            # that the SDK needs: then the attempts must not cost much.
            now_s = time.monotonic()
            self._open_at_s = now_s + (now_s - start_s) / _MAY_COST
            # At the end of the stack there is no room for it, which says nothing of the next time.
            if "eventstorm" not in sys.modules and not isinstance(error, RecursionError):
                from eventstorm_integrations._guard import guard

                log = logging.getLogger(__name__)
                guard.caught("instrument.fault", log, "log records are not recorded: the SDK cannot be imported")
        finally:
            _opening.discard(thread)

    def emit_wanted(self, record: logging.LogRecord) -> None:
        """Do what `emit` does, when `wants_any` has just said yes."""
        try:
            self._record(record)
        except Exception:
            self._failed(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Count a record whose message cannot be formatted: the program's own handlers tell it, if they format it."""
        from eventstorm_integrations._guard import guard

        guard.count("log.unformatted")


class _Patch:
    """What `instrument` has put in the place of `logging.Logger.callHandlers`."""

    # No dataclass: the import of `dataclasses` takes longer than that of `logging`.
    __slots__ = ("active", "by_default", "original", "replacement")

    def __init__(
        self,
        original: Callable[[logging.Logger, logging.LogRecord], None],
        replacement: Callable[[logging.Logger, logging.LogRecord], None],
    ) -> None:
        self.original, self.replacement = original, replacement
        self.active = True
        self.by_default = False


_patch: _Patch | None = None


def instrument() -> None:
    """Emit the records of all loggers from now on, once each; in vain a second time, which is logged.

    As a handler of the root logger would, and also those of loggers that do not propagate. But the loggers' lists of
    handlers stay as they are, since programs look at them: `logging.basicConfig` does nothing where the root logger has
    a handler, a warning is printed where there is none, and Flask looks whether it must bring one of its own.
    A record that an `EventstormHandler` of the program itself has had is not emitted a second time. One whose message
    cannot be formatted is only counted, in `eventstorm_integrations.stats`: the program may have no handler that would.
    """
    if _patch is not None and _patch.active and not _patch.by_default:
        logging.getLogger("eventstorm.instrument").warning("logging is instrumented already")
    else:
        _instrument(by_default=False)


def instrument_by_default() -> None:
    """Do what `instrument` does, unless that was called; a later call of it is no second one."""
    if _patch is None or not _patch.active:
        _instrument(by_default=True)


def _instrument(*, by_default: bool) -> None:
    global _patch
    if _patch is not None and (_patch.active or logging.Logger.callHandlers is not _patch.original):
        # It is there, also where somebody has wrapped it meanwhile.
        _patch.active, _patch.by_default = True, by_default
        return
    original = logging.Logger.callHandlers
    handler = _LateHandler()

    @functools.wraps(original)
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if not patch.active or not handler.wants_any():
            return original(self, record)
        thread = _here.thread or _this_thread()
        before, thread.seen = thread.seen, _WATCHING
        try:
            original(self, record)
        finally:
            had, thread.seen = thread.seen is record, before
            if not had:
                handler.emit_wanted(record)

    patch = _patch = _Patch(original, callHandlers)
    patch.by_default = by_default
    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]


def uninstrument() -> None:
    """Undo `instrument`."""
    if _patch is not None:
        _patch.active = False
        if logging.Logger.callHandlers is _patch.replacement:
            logging.Logger.callHandlers = _patch.original  # type: ignore[assignment,method-assign]
