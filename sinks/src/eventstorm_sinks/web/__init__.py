"""The page and the HTTP API, of a running sink or over several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstorm.errors import StartError

if TYPE_CHECKING:
    from eventstorm_sinks.settings import SinkSettings
    from eventstorm_sinks.web.account import ServedSink
    from eventstorm_sinks.web.server import WebServer

__all__ = ["serve"]


def serve(sink: ServedSink, settings: SinkSettings) -> WebServer:
    """Serve the page and the HTTP API at ``settings.http``; to be stopped by the caller.

    Call it before anything is received, so that what the page listens to is there from the first event on.

    Raises:
        StartError: the extra ``web`` is not installed, or the address is in use.
    """
    try:
        from eventstorm_sinks.web.server import WebServer
    except ImportError as error:
        raise StartError(
            f"the page needs more than is installed ({error}); install it with: "
            "pip install 'eventstorm-sinks[web]', or do without: --http ''"
        ) from None
    server = WebServer(sink, settings)
    server.start()
    return server
