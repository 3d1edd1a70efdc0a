"""What a middleware notes of one request while it is under way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eventstorm.context import common_fields
from eventstorm_integrations.http.trace import identify

if TYPE_CHECKING:
    from eventstorm_integrations.http.recorder import Recorder

__all__ = ["EXCHANGE_KEY", "NOTHING", "Exchange", "get_common", "set_common"]

NOTHING: dict[Any, Any] = {}
"""What stands for the parts of a request that is over."""

# Bound once, since each request calls them four times.
get_common, set_common = common_fields.get, common_fields.set

EXCHANGE_KEY = "eventstorm.exchange"
"""Where a WSGI environ or an ASGI scope holds its `Exchange`: who finds one there is inside of another middleware."""


class Exchange:
    """One request and its response, or one WebSocket session.

    Attributes:
        recorder: what will build the event and emit it.
        identity: the ``trace_id`` and ``span_id``.
        common: the fields that events emitted meanwhile carry.
        request: a copy of the environ or the scope, as the server made it: applications change theirs while they
            dispatch. Empty when it is over.
        route: the template of the route, set by the framework's integration; None for no route.
        route_prefix: that of the mounts passed on the way to the route.
        started_s: on the clock of `time.perf_counter`, as `first_s`.
        first_s: when the first byte of the response's body was handed to the server; None before.
        sent_bytes: of the response's body.
        error_type: what went wrong, as OpenTelemetry's ``error.type``; None for nothing.
        done: whether it is over. Then what holds it is served anew, as some programs do with an environ, for tests say.
    """

    # The class has what most of them begin with, so that making one writes only what differs.
    route: str | None = None
    route_prefix = ""
    first_s: float | None = None
    sent_bytes = 0
    error_type: str | None = None
    done = False

    def __init__(self, recorder: Recorder, request: Mapping[str, Any], traceparent: object) -> None:
        self.recorder = recorder
        self.started_s = time.perf_counter()
        self.request = dict(request)
        self.identity = identity = identify(traceparent)
        outer = get_common()
        self.common: Mapping[str, Any] | None = identity if outer is None else {**outer, **identity}

    def adopt(self, recorder: Recorder, request: Mapping[str, Any]) -> None:
        """Let the recorder of a middleware further in decide, with the request as it came there.

        It does if the program put it there, and the middleware that made this exchange is there by default.
        """
        if self.recorder.by_default and not recorder.by_default:
            self.recorder = recorder
            # Without the exchange itself, which would hold itself.
            self.request = {key: value for key, value in request.items() if key != EXCHANGE_KEY}

    def __deepcopy__(self, memo: object) -> Exchange:
        """Stay the same where an application copies its environ or scope: the request is the same too."""
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Become None where an application pickles its environ or scope, in which only this request is recorded."""
        return type(None), ()

    def add_headers(self, http: dict[str, Any]) -> None:
        """Add to a document ``http`` the headers that are to be recorded."""
        raise NotImplementedError
