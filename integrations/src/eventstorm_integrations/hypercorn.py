"""Records the requests and WebSocket sessions that hypercorn serves, whatever the ASGI or WSGI application."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from eventstorm_integrations import asgi, wsgi
from eventstorm_integrations._framework import needs
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch

with needs("hypercorn", "0.14"):
    from hypercorn.app_wrappers import ASGIWrapper, WSGIWrapper

__all__ = ["instrument", "instrument_by_default", "uninstrument"]


def _made(record: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            recorder = _instrumentation.recorder(self)
            if recorder is not None:
                self.app = partial(record, recorder, self.app)

        return __init__

    return wrap


_instrumentation: Instrumentation[Any] = Instrumentation(
    "hypercorn",
    [
        Patch(lambda: ASGIWrapper, "__init__", _made(asgi.record)),
        Patch(lambda: WSGIWrapper, "__init__", _made(wsgi.record)),
    ],
)
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
