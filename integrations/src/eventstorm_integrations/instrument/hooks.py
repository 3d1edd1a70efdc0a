"""Uses the integration of a framework as soon as that has been imported, in an interpreter that is starting.

A finder at the head of ``sys.meta_path`` lets the other finders find a module that somebody waits for, and puts a
function before the ``exec_module`` of its loader. Everything else stays the module's own: its spec, its loader, what
can be asked of them, and what a later ``importlib.reload`` does.

A module that is written in C or frozen into the interpreter cannot be waited for: all of these share one loader.
"""

from __future__ import annotations

import os
import sys

from eventstorm_integrations.instrument.table import ALL, DISABLED, TABLE, decode, disabled_names

# No import of `typing`, nor of anything else: every interpreter under eventstorm-instrument imports this at its start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from eventstorm_integrations.instrument.table import Row

__all__ = ["Hooks", "activate"]


def activate() -> None:
    """Wait for the frameworks of the integrations that the environment names; in vain a second time.

    Raises:
        ValueError: the variable is not as `table.encode` writes it.
    """
    disabled = disabled_names(os.environ.get(DISABLED, ""))
    rows = [row for row in decode(os.environ.get(TABLE, "")) if row[0] not in disabled]
    if rows and ALL not in disabled and not any(type(finder) is Hooks for finder in sys.meta_path):
        hooks = Hooks(rows)
        sys.meta_path.insert(0, hooks)
        hooks.catch_up()


class Hooks:
    """A finder that finds nothing itself: see the module."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._waiting: dict[str, list[tuple[str, str]]] = {}
        self._integrations: set[str] = set()
        self._used: set[str] = set()
        for name, module, triggers in rows:
            self._integrations.add(module)
            for trigger in triggers:
                self._waiting.setdefault(trigger, []).append((name, module))

    def catch_up(self) -> None:
        """Use the integrations of what has been imported already, by a ``.pth`` file say."""
        for trigger in [trigger for trigger in self._waiting if trigger in sys.modules]:
            self._use(trigger)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the finders after this one find, if somebody waits for the module, else None."""
        if fullname not in self._waiting and fullname not in self._integrations:
            return None
        finders: list[Any] = sys.meta_path
        if self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:
            find_spec = getattr(finder, "find_spec", None)
            if find_spec is None:  # of the kind that Python 3.12 gave up: it may be the one that finds it
                return None
            spec: ModuleSpec | None = find_spec(fullname, path, target)
            if spec is not None:
                self._watch(fullname, spec.loader)
                return spec
        return None

    def _watch(self, name: str, loader: Any) -> None:
        exec_module = getattr(loader, "exec_module", None)
        if exec_module is None or isinstance(loader, type):
            return

        def executing(module: ModuleType) -> None:
            # A loader may be that of a whole archive, and be asked for other modules first.
            is_it = module.__name__ == name
            if is_it and vars(loader).get("exec_module") is executing:
                del loader.exec_module
            exec_module(module)
            if is_it:
                self._use(name)

        try:
            loader.exec_module = executing
        except (AttributeError, TypeError):
            return

    def _use(self, trigger: str) -> None:
        for name, target in self._waiting.pop(trigger, ()):
            try:
                __import__(target)
                module: Any = sys.modules[target]
                if target != trigger and getattr(module.__spec__, "_initializing", False):
                    # The program imports the integration, which imports its framework, and so we are here.
                    self._waiting.setdefault(target, []).append((name, target))
                    continue
                by_default = getattr(module, "instrument_by_default", None)
                if by_default is not None:  # each time: there may be more of the framework to instrument by now
                    by_default()
                elif target not in self._used:
                    self._used.add(target)
                    module.instrument()
            except ImportError as error:  # missing or too old, which only those hear of who asked for it by its name
                _tell(name, error)
            except (Exception, SystemExit):
                _tell_fault(name)


def _tell_fault(name: str) -> None:
    try:
        from eventstorm_integrations._guard import guard

        log = __import__("logging").getLogger(__name__)
        guard.caught("instrument.fault", log, f"eventstorm-instrument: {name} is not instrumented")
    except Exception:
        return  # a program whose own modules have such names as `logging`: there is nobody to tell


def _tell(name: str, error: ImportError) -> None:
    # A program that does not use it is not made to import it.
    logging = sys.modules.get("logging")
    if logging is not None and hasattr(logging, "getLogger"):
        logging.getLogger(__name__).debug("%s is not instrumented: %s", name, error)
