"""Asking a query of the running server, or of the file."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from eventstorm.errors import EventstormError, SettingError
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import SqlResult

__all__ = ["NoServer", "ask_file", "ask_server"]

# The server ends the query in time; what it takes to say so comes on top.
_GRACE_S = 10.0


class NoServer(EventstormError):
    """Nothing listens there."""


def ask_server(url: str, query: str, settings: SinkSettings) -> SqlResult:
    """Ask a server. It ends the query when we are gone.

    Raises:
        NoServer: nothing listens there.
        EventstormError: it refused, or the query failed; the message is the server's.
    """
    status, body = _post(
        url, {"query": query, "rows": settings.sql_rows, "timeout_s": settings.sql_timeout_s}, settings
    )
    try:
        answer = json.loads(body)
        if status == http.client.OK:
            return SqlResult(answer["columns"], answer["types"], answer["rows"], answer["truncated"])
        message = str(answer["error"])
    except (ValueError, KeyError, TypeError):
        raise EventstormError(
            f"{url}: the answer, status {status}, is not Eventstorm's; name its server by --url"
        ) from None
    raise EventstormError(message)


def _post(url: str, document: dict[str, Any], settings: SinkSettings) -> tuple[int, bytes]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or not host or parts.scheme not in ("http", "https"):
        raise SettingError(f"--url: {url!r} is no URL; write it as http://{settings.http or '127.0.0.1:5580'}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    # The header is one that no page of another site can send.
    headers = {"Content-Type": "application/json", "X-Eventstorm": "1"}
    connection = kind(host, port, timeout=settings.sql_timeout_s + _GRACE_S)
    with contextlib.closing(connection):
        try:
            connection.connect()
        except OSError as error:
            raise NoServer(f"{url}: no server answers there ({error}); start one by `eventstorm up`") from None
        try:
            connection.request("POST", f"{parts.path.rstrip('/')}/api/sql", json.dumps(document), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise EventstormError(f"{url}: the server did not answer: {error or type(error).__name__}") from None


def ask_file(location: str, query: str, settings: SinkSettings) -> SqlResult:
    """Ask a file that no server has open.

    Raises:
        StartError: it cannot be opened.
        EventstormError: the query failed.
    """
    from eventstorm_sinks.stores.duckdb import open_read_only

    cancelled = threading.Event()
    reader = open_read_only(location, settings)
    # In a thread, since Ctrl-C reaches the main one only while it runs Python.
    with contextlib.closing(reader), ThreadPoolExecutor(1, "eventstorm-sql") as pool:
        rows, timeout_s = settings.sql_rows, settings.sql_timeout_s
        try:  # from before the query begins: else Ctrl-C at that moment waits for its end
            return pool.submit(reader.sql, query, max_rows=rows, timeout_s=timeout_s, cancelled=cancelled).result()
        finally:
            cancelled.set()
