"""The page and the HTTP API of a running sink."""

from eventstorm_sinks.web.server import WebServer

__all__ = ["WebServer"]
