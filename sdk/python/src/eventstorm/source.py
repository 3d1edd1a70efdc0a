"""A source: one buffer, one publisher thread, one identity on the wire."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import importlib  # noqa: F401  # not first in the publisher's thread: see `Source._run`
import json  # noqa: F401  # for the same reason
import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from eventstorm._emit import NEVER, Emit, Emitter
from eventstorm._system import (
    block_signals,
    clean,
    follow_uwsgi,
    imports_take_locks_of_gevent,
    is_uwsgi_master,
    native,
    program_name,
    wake_pipe,
)

if TYPE_CHECKING:
    from logging import Logger

    from eventstorm._publish import Publisher
    from eventstorm.settings import SdkSettings

__all__ = ["Source", "before_fork"]

_sources: weakref.WeakSet[Source] = weakref.WeakSet()

# A forked child cannot use its parent's sockets, nor close them; kept here, so that nothing ever tries to.
_inherited: list[object] = []

# Until the settings are read, which the publisher's thread does, since it takes milliseconds.
_FIRST_ROOM = 16 * 2**20
_FIRST_MAX_EVENT_BYTES = 2**20
_FIRST_MAX_TOPICS = 10_000

_POLL_S = 0.001
_LONGEST_IMPORT_S = 5.0


class Source:
    """Emits events under an identity of its own.

    Nothing is opened and no thread is started before the first event. After a fork the child's source is a new one,
    with a new identity and an empty buffer.

    Args:
        settings: where to and within which bounds; None reads them from the environment and ``eventstorm.toml`` when
            the first event is emitted, and falls back to the defaults, with a line in the log, if they are wrong.
        reserved: permit topics that start with ``eventstorm.``.
    """

    emit: Emit

    def __init__(self, settings: SdkSettings | None = None, *, reserved: bool = False) -> None:
        self._settings = settings
        self._emitter = Emitter(self._start, self._wake, reserved=reserved)
        self.emit = self._emitter.emit
        self.emit_at = self._emitter.emit_at
        self.emit_encoded = self._emitter.emit_encoded
        self.wanted = self._emitter.wanted
        self._fresh()
        _sources.add(self)

    def _fresh(self) -> None:
        """Be a new incarnation: in the constructor, in a forked child, after a new configuration."""
        # As an ObjectId: the time, and what nobody else has. bson's own would take a lock.
        self.id = int(time.time()).to_bytes(4, "big") + os.urandom(8)
        """The 12 bytes that identify this incarnation."""
        self._starting = _thread.allocate_lock()
        self._started = False
        self._done = False
        self._publisher: Publisher | None = None
        self._wake_fds: tuple[int, int] | None = None
        self._importing = False
        emitter, settings = self._emitter, self._settings
        emitter.reset()
        emitter.max_event_bytes = settings.max_event_bytes if settings else _FIRST_MAX_EVENT_BYTES
        emitter.max_topics = settings.max_topics if settings else _FIRST_MAX_TOPICS
        emitter.set_room(settings.buffer_bytes if settings else _FIRST_ROOM)

    @property
    def settings(self) -> SdkSettings | None:
        """The settings; None before they were needed."""
        return self._settings

    def example(self, reason: str) -> str:
        """Return what was wrong with the event that was last refused for `reason`, or an empty string."""
        return self._emitter.examples.get(reason, "")

    def configure(self, settings: SdkSettings) -> None:
        """Use other settings, as a new incarnation; what is in the buffer is sent before, within the old time-out."""
        self.close()
        self._settings = settings
        self._fresh()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything emitted so far is with ZeroMQ, at most so many seconds; tell whether it is.

        None stands for the setting ``flush_timeout_s``.
        """
        if not self._started:
            return True
        deadline = time.monotonic() + self._timeout_s(timeout_s)
        while True:
            publisher = self._publisher
            if publisher is not None:
                publisher.flush_requested = True
                self._wake()
            # In this order: the publisher says that it is busy before it takes an event from the queue.
            if not self._emitter.queue and publisher is not None and not publisher.busy:
                return True
            if self._done or time.monotonic() >= deadline:
                return False
            # Polling, since locks of the standard library may be those of gevent, whose threads these are not.
            time.sleep(_POLL_S)

    def close(self, timeout_s: float | None = None) -> None:
        """Send what is in the buffer, at most for so many seconds, and stop. Later events are refused as ``closed``.

        None stands for the setting ``flush_timeout_s``. A second call does nothing.
        """
        emitter = self._emitter
        if emitter.closed:
            return
        emitter.closed = True
        topics = list(emitter.topics)
        for name in topics:
            emitter.topics.pop(name, None)
        deadline = time.monotonic() + self._timeout_s(timeout_s)
        if not self._started:
            if emitter.queue:
                # No thread could be started: Python 3.12 and later start none while the program ends.
                self._started = True
                import logging

                log = logging.getLogger("eventstorm")
                try:
                    self._wake_fds = wake_pipe()
                except OSError as error:
                    self._done = True
                    plural = "" if len(emitter.queue) == 1 else "s"
                    log.warning("%d event%s not sent: %s", len(emitter.queue), plural, error.strerror)
                    return
                self._run(self._wake_fds, log, deadline)
            return
        # A little longer than the publisher itself waits, for it to close its socket.
        while not self._done and time.monotonic() < deadline + 0.5:
            if self._publisher is not None and self._publisher.close_deadline is None:
                self._publisher.close_deadline = deadline
                self._wake()
            time.sleep(_POLL_S)

    def stats(self) -> dict[str, Any]:
        """Return what became of the events so far: see `eventstorm.stats`."""
        emitter, publisher = self._emitter, self._publisher
        streams = dict(publisher.streams) if publisher else {}
        waiting: dict[int, int] = {}
        for index, _, _ in list(emitter.queue):
            waiting[index] = waiting.get(index, 0) + 1
        for index, events in publisher.waiting().items() if publisher else ():
            waiting[index] = waiting.get(index, 0) + events
        over = emitter.closed and (self._done or not self._started)
        topics: dict[str, dict[str, int]] = {}
        for index, topic in list(emitter.by_index.items()):
            sent = streams[index].sent if index in streams else 0
            left = waiting.get(index, 0)
            overflowed = topic.overflowed.value()
            each = topics.setdefault(topic.name, dict.fromkeys(_TOPIC_FIGURES, 0))
            each["emitted"] += sent + left + overflowed
            each["sent"] += sent
            each["buffered"] += 0 if over else left
            each["buffer_full"] += overflowed
            each["unsent"] += left if over else 0
            each["unheard"] += topic.unheard.value()
        total = {name: sum(each[name] for each in topics.values()) for name in _TOPIC_FIGURES}
        dropped = {reason: counter.value() for reason, counter in list(emitter.refused.items())}
        dropped |= {"buffer_full": total["buffer_full"], "unsent": total["unsent"], "fault": emitter.faults.value()}
        return {
            "source_id": self.id.hex(),
            "connected": publisher is not None and publisher.connected,
            "emitted": total["emitted"],
            "sent": total["sent"],
            "unheard": total["unheard"],
            "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
            "buffered": total["buffered"],
            "buffered_bytes": sum(len(data) for _, _, data in list(emitter.queue)),
            "topics": topics,
        }

    def _timeout_s(self, timeout_s: float | None) -> float:
        if timeout_s is not None:
            return timeout_s
        return self._settings.flush_timeout_s if self._settings else 1.0

    # The thread

    def _start(self) -> None:
        """Start the publisher unless it runs. Called by `emit`, so without waiting for anybody."""
        if self._started or is_uwsgi_master() or not self._starting.acquire(False):
            return
        try:
            if not self._started:
                # Not in the thread: a fork holds the lock of `logging` while `_before_fork` waits for that thread.
                import logging

                log = logging.getLogger("eventstorm")
                if self._wake_fds is None:
                    self._wake_fds = wake_pipe()
                if imports_take_locks_of_gevent():
                    # Where its locks have to wait outside of its own loops, they import in turn; then this thread and
                    # ours could wait for each other for ever. So ours imports nothing; it tells what cannot be.
                    self._let_forks_go_first()
                    with contextlib.suppress(ImportError, OSError):
                        from eventstorm import _publish, config_file  # noqa: F401
                self._importing = True
                # Not `threading.Thread`: its locks are not for signal handlers, and its `start` waits.
                native("_thread", "start_new_thread")(self._run, (self._wake_fds, log))
                self._started = True
                _at_exit_of_multiprocessing()
        except Exception:
            # No thread or file to be had, or the program ends: events wait in the buffer, and `close` sends them.
            self._importing = False
        finally:
            self._starting.release()

    def _run(self, wake_fds: tuple[int, int], log: Logger, close_deadline: float | None = None) -> None:
        if close_deadline is None:
            block_signals()
        try:
            self._let_forks_go_first()
            # Here, in the background, since it takes longer than a first event may; but for importlib and json. An
            # application that imports a module of importlib while the package is half made gets a second copy of its
            # bootstrap, which nobody has set up, and `import_module` fails from then on. One that imports json.decoder
            # has that module's lock and wants that of json, while this thread has that one and wants the other.
            from eventstorm._publish import Publisher

            settings, wrong, emitter = *self._load(), self._emitter
            host = settings.host or os.uname().nodename
            service = settings.service or program_name()
            publisher = Publisher(emitter, settings, self.id, clean(host), clean(service), wake_fds[0], log)
            publisher.close_deadline = close_deadline
            self._importing = False
            if wrong:  # the application goes on, whatever its operator wrote
                log.error("the defaults are used, since a setting is wrong: %s", wrong)
            if wake_fds is self._wake_fds:  # else `configure` lost patience, and another thread is at work
                self._publisher = publisher
                publisher.run()
        except (ImportError, OSError) as error:
            # In interpreters that pyzmq does not support, for users who may not read it, and when files run out.
            self._emitter.faults.add()
            log.error("no events are sent: %s", error)
        except Exception:
            self._emitter.faults.add()
            log.exception("the publisher failed; no more events are sent")
        finally:
            if wake_fds is self._wake_fds:
                self._importing = False
                self._emitter.set_wake_at(NEVER)
                self._done = True

    def _let_forks_go_first(self) -> None:
        """Begin no import while another thread forks; each of the two says first what it does, and then looks."""
        sleep, mine = native("time", "sleep"), native("_thread", "get_ident")()
        deadline = time.monotonic() + _LONGEST_IMPORT_S
        self._importing = True
        while _forking - {mine} and time.monotonic() < deadline:
            self._importing = False
            sleep(_POLL_S)
            self._importing = True

    def _load(self) -> tuple[SdkSettings, Exception | None]:
        """Return the settings, and what is wrong with those that were given."""
        from eventstorm.settings import SdkSettings, load

        settings, wrong = self._settings, None
        if settings is None:
            try:
                settings = load(SdkSettings, "sdk", {})
            except Exception as error:
                settings, wrong = SdkSettings(), error
            self._settings = settings
            self._emitter.max_event_bytes = settings.max_event_bytes
            self._emitter.max_topics = settings.max_topics
        return settings, wrong

    def _wake(self) -> None:
        self._emitter.set_wake_at(NEVER)
        fds = self._wake_fds
        if fds is not None:
            with contextlib.suppress(OSError):  # full: it wakes anyway
                os.write(fds[1], b"\0")

    def _after_fork(self) -> None:
        _inherited.append(self._publisher)
        fds = self._wake_fds
        self._fresh()
        if fds is not None:
            # The parent's pipe: this child's writes to it would wake the parent.
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)


_TOPIC_FIGURES = ("emitted", "sent", "buffered", "buffer_full", "unsent", "unheard")


# The threads that fork now.
_forking: set[int] = set()


def before_fork() -> None:
    """Let publishers that are starting finish their imports, and no other begin, until the fork is done.

    A child that inherits a half-imported module waits for ever when it imports that module itself. Python calls this
    before each fork, but not before one that had begun when this module was imported: then the integrations, which had
    that fork wait for the import, call it.
    """
    _forking.add(native("_thread", "get_ident")())
    _wait_for_imports()


def _wait_for_imports() -> None:
    sleep, deadline = native("time", "sleep"), time.monotonic() + _LONGEST_IMPORT_S
    while any(source._importing for source in list(_sources)) and time.monotonic() < deadline:
        sleep(_POLL_S)


def _after_fork_in_parent() -> None:
    _forking.discard(native("_thread", "get_ident")())


def _after_fork() -> None:
    _forking.clear()
    for source in list(_sources):
        source._after_fork()


def _close_all() -> None:
    """Close all sources at the end of the program; Ctrl-C ends the waiting.

    The time-out begins when the publishers have what they need, or a slow machine's first event would never be sent,
    and the interpreter would end amid an import.
    """
    with contextlib.suppress(KeyboardInterrupt):
        _wait_for_imports()
        deadline: float | None = None
        for source in list(_sources):
            if deadline is None:
                deadline = time.monotonic() + source._timeout_s(None)
            source.close(max(0.0, deadline - time.monotonic()))


os.register_at_fork(before=before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
follow_uwsgi(_after_fork)
# Now and not at the first event: functions run in reverse order, so those that are registered later may still emit.
atexit.register(_close_all)


def _at_exit_of_multiprocessing() -> None:
    """Close also at the end of a child of `multiprocessing`, which leaves without running `atexit`'s functions."""
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=0)
