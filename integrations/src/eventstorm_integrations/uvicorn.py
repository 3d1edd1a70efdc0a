"""Records the requests and WebSocket sessions that uvicorn serves, whatever the ASGI application."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from eventstorm_integrations._framework import needs
from eventstorm_integrations.asgi import record
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch

with needs("uvicorn", "0.20"):
    from uvicorn.server import Server

__all__ = ["instrument", "instrument_by_default", "uninstrument"]


def _started(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Server.startup``: here the application is loaded, and no connection has been taken yet."""

    async def startup(self: Server, *args: Any, **kwargs: Any) -> None:
        recorder = _instrumentation.recorder(self)
        # An application of WSGI would be recorded a second time by its own framework's integration, which knows more.
        if recorder is not None and self.config.interface != "wsgi":
            application: Any = self.config.loaded_app
            self.config.loaded_app = partial(record, recorder, application)
        await original(self, *args, **kwargs)

    return startup


_instrumentation: Instrumentation[Server] = Instrumentation("uvicorn", [Patch(lambda: Server, "startup", _started)])
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
