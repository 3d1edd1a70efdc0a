"""Records the requests that the standard library's WSGI servers serve, `wsgiref.simple_server` and CGI among them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.handlers import BaseHandler

from eventstorm_integrations.http.instrumentation import Instrumentation, Patch
from eventstorm_integrations.wsgi import record

__all__ = ["instrument", "instrument_by_default", "uninstrument"]


def _run(original: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: BaseHandler, application: Any) -> Any:
        recorder = _instrumentation.recorder(self)
        return original(self, application if recorder is None else partial(record, recorder, application))

    return run


_instrumentation: Instrumentation[BaseHandler] = Instrumentation("wsgiref", [Patch(lambda: BaseHandler, "run", _run)])
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
