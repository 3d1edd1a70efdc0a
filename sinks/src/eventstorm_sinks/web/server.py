"""Serve the page and the HTTP API from a thread of their own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable

import uvicorn

from eventstorm.endpoints import split_host_port
from eventstorm.errors import StartError
from eventstorm_sinks.live import Live
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.web.account import ServedSink
from eventstorm_sinks.web.app import make_app

__all__ = ["WebServer"]

START_S = 10.0
GRACE_S = 1
"""Seconds that requests have to finish when the server stops."""
STOP_S = 2.0
MAX_CONNECTIONS = 500
BACKLOG = 128
# The page sends filters, nothing large.
MAX_WEBSOCKET_BYTES = 16 * 1024


class WebServer:
    """The page and the HTTP API of one sink, at ``settings.http``.

    It listens to the sink's messages from the moment that it is made, so make it before the sink starts to receive.
    """

    def __init__(self, sink: ServedSink, settings: SinkSettings) -> None:
        self._settings = settings
        self._sink = sink
        self._live = Live(time.time)
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._close_api: Callable[[], None] = lambda: None
        self.url = f"http://{settings.http}"
        """Where the page is; once started, with the port that the system chose."""
        sink.add_listener(self._live.observe)

    def start(self) -> None:
        """Bind, and serve until `stop`. Returns when requests are answered.

        Raises:
            StartError: the address is in use or cannot be bound.
        """
        host, port = split_host_port(self._settings.http, "sink.http")
        self._socket = _bind(host, port)
        port = self._socket.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        app = make_app(self._sink, self._settings, self._live, host)
        self._close_api = app.state.api.close
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,  # the program's own logging
            log_level="error",  # its warnings are one for each request that is not HTTP, however many come
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
            ws_max_size=MAX_WEBSOCKET_BYTES,
            ws_per_message_deflate=False,  # on loopback it costs more than it saves
        )
        server = self._server = uvicorn.Server(config)
        listening = self._socket

        def serve() -> None:
            asyncio.run(server.serve(sockets=[listening]))

        self._thread = threading.Thread(target=serve, name="eventstorm-web", daemon=True)
        self._thread.start()
        deadline_s = time.monotonic() + START_S
        # uvicorn offers no event for this.
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                self.stop()
                raise StartError(f"the page at {self.url} did not start; the log tells more")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop within two seconds, open connections or not. A second call does nothing."""
        self._close_api()
        if self._server:
            self._server.should_exit = True
        if self._thread:
            self._thread.join(STOP_S)
            self._thread = None
        if self._socket:
            self._socket.close()
            self._socket = None


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"sink.http: {host}:{port}: {error.strerror or error}") from None
    try:
        # So that a restart does not wait for the last one's closed connections to time out.
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        hint = "; another program has that port: stop it, or choose another with --http HOST:PORT"
        raise StartError(f"sink.http: cannot listen at {host}:{port}: {error.strerror}{hint}") from None
    return bound
