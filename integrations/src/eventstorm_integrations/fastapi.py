"""Records the requests and WebSocket sessions of FastAPI applications: Starlette's, with routes of their own."""

from __future__ import annotations

from eventstorm_integrations._framework import needs
from eventstorm_integrations.http import Emits, Hook, HttpSettings

with needs("fastapi", "0.100"):
    import fastapi.routing  # noqa: F401  # whose class is replaced once it is there

    # Here, so that who misses FastAPI is told of it, not of Starlette.
    from eventstorm_integrations import starlette

__all__ = ["instrument", "instrument_app", "instrument_by_default", "uninstrument", "uninstrument_app"]

instrument_app = starlette.instrument_app
uninstrument_app = starlette.uninstrument_app
instrument_by_default = starlette.instrument_by_default
uninstrument = starlette.uninstrument


def instrument(settings: HttpSettings | None = None, *, hook: Hook | None = None, source: Emits | None = None) -> None:
    """Record all applications of Starlette, and so of FastAPI; where those are recorded already, nothing is changed.

    Raises:
        SettingError: a setting is wrong.
    """
    if not starlette.instrumentation.refresh():
        starlette.instrument(settings, hook=hook, source=source)
