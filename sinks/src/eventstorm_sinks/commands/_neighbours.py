"""Who is there already: asked when `eventstorm up` cannot have its place, so that it can tell the user."""

from __future__ import annotations

import http.client
import json
import socket

from eventstorm.endpoints import split_host_port

__all__ = ["serves_page", "speaks_zeromq"]

_TIMEOUT_S = 0.5
# What every ZeroMQ peer sends first (ZMTP 3.1, "Greeting"): 0xFF, 8 bytes, 0x7F.
_GREETING_BYTES = 10


def serves_page(address: str) -> bool:
    """Tell whether an Eventstorm answers at HOST:PORT."""
    connection = http.client.HTTPConnection(*split_host_port(address, "sink.http"), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        health = json.loads(connection.getresponse().read(10_000))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(health, dict) and {"status", "problems"} <= health.keys()


def speaks_zeromq(endpoint: str) -> bool:
    """Tell whether something at ``tcp://HOST:PORT`` speaks ZeroMQ, as a router does."""
    if not endpoint.startswith("tcp://"):
        return False
    try:
        with socket.create_connection(split_host_port(endpoint[6:], "sink.ingress"), _TIMEOUT_S) as connection:
            connection.settimeout(_TIMEOUT_S)
            greeting = connection.recv(_GREETING_BYTES, socket.MSG_WAITALL)
    except OSError:
        return False
    return greeting[:1] == b"\xff" and greeting[9:] == b"\x7f"
