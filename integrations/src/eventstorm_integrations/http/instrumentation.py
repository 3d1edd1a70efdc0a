"""Which applications of a framework are recorded: all of them, or some; and the framework's methods that see to it.

The methods of its classes are replaced as long as any application is recorded, so applications themselves stay as they
are, and those that were made before are recorded too.
"""

from __future__ import annotations

import functools
import logging
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Generic, TypeVar

from eventstorm_integrations._guard import guard
from eventstorm_integrations.http.exchange import EXCHANGE_KEY
from eventstorm_integrations.http.recorder import Emits, Hook, Recorder
from eventstorm_integrations.http.settings import HttpSettings

__all__ = ["Instrumentation", "Patch", "warn_of_second"]

log = logging.getLogger(__name__)

App = TypeVar("App")


class Patch:
    """A method of a class, or a function of a module, and what takes its place."""

    def __init__(
        self,
        owner: Callable[[], type | ModuleType | None],
        name: str,
        wrap: Callable[[Callable[..., Any]], Callable[..., Any]],
    ) -> None:
        """Take a function that returns the class or module, or None as long as that has not been imported."""
        self._owner, self._name, self._wrap = owner, name, wrap
        self._own: Any = None
        self._ours: Any = None

    def apply(self) -> None:
        """Replace the method, unless it is replaced."""
        owner = self._owner()
        if owner is not None and self._ours is None:
            original = getattr(owner, self._name)
            self._own = vars(owner).get(self._name)
            self._ours = functools.wraps(original)(self._wrap(original))
            setattr(owner, self._name, self._ours)

    def remove(self) -> None:
        """Put the method back. Where somebody has replaced it since, ours stays below theirs, and does nothing."""
        owner = self._owner()
        if owner is not None and self._ours is not None and vars(owner).get(self._name) is self._ours:
            if self._own is None:  # it was inherited
                delattr(owner, self._name)
            else:
                setattr(owner, self._name, self._own)
            self._ours = None


class Instrumentation(Generic[App]):
    """What of one framework is recorded. Applications are not kept alive. Safe from any thread."""

    def __init__(self, name: str, patches: Iterable[Patch]) -> None:
        """Take the framework's name, for messages, and what to replace."""
        self._name = name
        self._patches = tuple(patches)
        self._all: Recorder | None = None
        # By `id`, at a fraction of the cost of a WeakKeyDictionary; an entry goes when its application does.
        self._apps: dict[int, tuple[weakref.ref[Any], Recorder]] = {}
        self._lock = threading.Lock()

    def instrument_app(
        self, app: App, settings: HttpSettings | None = None, *, hook: Hook | None = None, source: Emits | None = None
    ) -> None:
        """Record one application, its middlewares included. A second call for it warns and does nothing.

        The arguments are those of ``EventstormMiddleware``.

        Raises:
            SettingError: a setting is wrong.
        """
        with self._lock:
            done = id(app) in self._apps
            if not done:
                apps, key = self._apps, id(app)
                apps[key] = weakref.ref(app, lambda _: apps.pop(key, None)), Recorder(settings, hook, source)
                self._apply()
        if done:
            warn_of_second(f"this {self._name} application")

    def uninstrument_app(self, app: App) -> None:
        """Record an application no more, unless all are."""
        with self._lock:
            self._apps.pop(id(app), None)
            self._remove()

    def instrument(
        self, settings: HttpSettings | None = None, *, hook: Hook | None = None, source: Emits | None = None
    ) -> None:
        """Record all applications, those that are made already too. A second call warns and does nothing.

        Raises:
            SettingError: a setting is wrong.
        """
        with self._lock:
            done = self._all is not None and not self._all.by_default
            if not done:
                self._all = Recorder(settings, hook, source)
                self._apply()
        if done:
            warn_of_second(self._name)

    def instrument_by_default(self) -> None:
        """Record all applications until the program calls `instrument` itself; again for what was imported since.

        Settings are those of the environment and ``eventstorm.toml``, and what a program says of an application, by a
        middleware or `instrument_app`, goes before them.

        Raises:
            SettingError: one of those is wrong.
        """
        with self._lock:
            if self._all is None:
                self._all = Recorder(None, None, None, by_default=True)
            self._apply()

    def uninstrument(self) -> None:
        """Record no application any more, but those that ``instrument_app`` named."""
        with self._lock:
            self._all = None
            self._remove()

    def recorder(self, app: App) -> Recorder | None:
        """Return what records an application's requests; None for nothing."""
        entry = self._apps.get(id(app))
        return self._all if entry is None else entry[1]

    def recorder_within(self, app: App, request: Mapping[str, Any]) -> Recorder | None:
        """Return what is to record a request, given its WSGI environ or ASGI scope; None where nothing is left to do.

        So it is where it is recorded further out already, unless by default, and the program asks for it here.
        """
        outer = request.get(EXCHANGE_KEY)
        if outer is not None and not (outer.done or outer.recorder.by_default):
            return None
        entry = self._apps.get(id(app))
        mine = self._all if entry is None else entry[1]
        return mine if outer is None or mine is None or outer.done or not mine.by_default else None

    def fault(self) -> None:
        """Count and log the exception that is being handled: what a route is could not be told."""
        guard.caught("http.fault", log, f"a route of {self._name} is not recorded, by a fault of Eventstorm itself")

    def refresh(self) -> bool:
        """Replace what has been imported only now; tell whether the program has said to record all applications."""
        with self._lock:
            if self._all is not None or self._apps:
                self._apply()
            return self._all is not None and not self._all.by_default

    def _apply(self) -> None:
        for each in self._patches:
            each.apply()

    def _remove(self) -> None:
        if self._all is None and not self._apps:
            for each in self._patches:
                each.remove()


def warn_of_second(what: str) -> None:
    """Warn the caller's caller that something is instrumented already."""
    warnings.warn(f"{what} is instrumented already; nothing is changed", RuntimeWarning, stacklevel=3)
