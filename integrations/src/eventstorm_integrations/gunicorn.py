"""Records the requests that gunicorn serves, whatever the application, in its workers that speak WSGI or ASGI.

Workers of other packages, uvicorn's for one, take applications of other kinds, or are instrumented by themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from eventstorm_integrations import asgi, wsgi
from eventstorm_integrations._framework import needs
from eventstorm_integrations.http.instrumentation import Instrumentation, Patch

with needs("gunicorn", "20.1"):
    from gunicorn.workers.base import Worker  # type: ignore[import-untyped]

__all__ = ["instrument", "instrument_by_default", "uninstrument"]

# gevent's and eventlet's are of the second; tornado's take applications of tornado too.
_WSGI_WORKERS = {"gunicorn.workers.sync", "gunicorn.workers.base_async", "gunicorn.workers.gthread"}


def _loaded(original: Callable[..., Any]) -> Callable[..., Any]:
    def load_wsgi(self: Any) -> None:
        original(self)
        recorder = _instrumentation.recorder(self)
        if recorder is not None and any(each.__module__ in _WSGI_WORKERS for each in type(self).__mro__):
            self.wsgi = partial(wsgi.record, recorder, self.wsgi)

    return load_wsgi


def _loaded_asynchronously(original: Callable[..., Any]) -> Callable[..., Any]:
    def load_wsgi(self: Any) -> None:
        original(self)
        recorder = _instrumentation.recorder(self)
        if recorder is not None:
            self.asgi = partial(asgi.record, recorder, self.asgi)

    return load_wsgi


def _asgi_worker() -> Any:
    """Return the worker that gunicorn has for ASGI since its version 24, once that has been imported."""
    return getattr(sys.modules.get("gunicorn.workers.gasgi"), "ASGIWorker", None)


_instrumentation: Instrumentation[Worker] = Instrumentation(
    "gunicorn",
    [Patch(lambda: Worker, "load_wsgi", _loaded), Patch(_asgi_worker, "load_wsgi", _loaded_asynchronously)],
)
instrument = _instrumentation.instrument
instrument_by_default = _instrumentation.instrument_by_default
uninstrument = _instrumentation.uninstrument
