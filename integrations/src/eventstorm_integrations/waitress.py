"""Records the requests that waitress serves, whatever the WSGI application."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from eventstorm_integrations._framework import needs
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch
from eventstorm_integrations.wsgi import record

with needs("waitress", "2.1"):
    from waitress.server import BaseWSGIServer  # type: ignore[import-untyped]

__all__ = ["instrument", "instrument_by_default", "uninstrument"]


def _made(original: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(self: BaseWSGIServer, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        recorder = _instrumentation.recorder(self)
        if recorder is not None:
            self.application = partial(record, recorder, self.application)

    return __init__


_instrumentation: Instrumentation[BaseWSGIServer] = Instrumentation(
    "waitress", [Patch(lambda: BaseWSGIServer, "__init__", _made)]
)
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
