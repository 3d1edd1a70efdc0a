"""The event of a request in BSON: what many requests have alike is encoded once, what each has of its own is added.

A dictionary of it all, and its encoding, would double what recording a request costs. Names are those of
OpenTelemetry's semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), and the layout is
that of https://bsonspec.org/spec.html.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, Final, TypeVar

import bson

from eventstorm_integrations.http.text import from_header, valid

__all__ = ["encode_hit"]

# Others go under _OTHER, as OpenTelemetry has it: a client can make up any number of them.
_METHODS = frozenset(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY"])
_MAX_METHOD = 40
_LARGE = 2**31  # what has no place in the 32 bits that most sizes take

Alike = tuple[Any, str | int | None, str | None, Any, Any, int | None, Any, int | None]
"""What many requests have alike: method, status, route, scheme, host, port, version and bytes of the request.

What servers say may be any object.
"""
_METHOD: Final = 0
_REQUEST_BYTES: Final = 7

# More than most programs have routes, times the names that they are called by. With the longest texts that are kept,
# each of the tables below takes 2 MB.
_MOST_KEPT = 2000
_MOST_KEPT_BYTES = 1_000

# Each begins with the type and the name of a field.
_URL, _PATH, _QUERY = b"\x03url\0", b"\x02path\0", b"\x02query\0"
_DURATION, _FIRST = b"\x01duration\0", b"\x01time_to_first_byte\0"
_TRACE, _SPAN = b"\x02trace_id\0", b"\x02span_id\0"
_URL_SIZE = 14  # of the length, and of the type, the name and the length of path
_pack_length = struct.Struct("<i").pack
_pack_url = struct.Struct("<5si6si").pack
_pack_query = struct.Struct("<x7si").pack  # after the end of the path
# The size ends the documents body, response and http.
_pack_rest = struct.Struct("<i3x10sd10si32sx9si16sx20sd").pack
_pack_large_rest = struct.Struct("<q3x10sd10si32sx9si16sx20sd").pack
_FIRST_SIZE = 28


_Made = TypeVar("_Made")


class _Kept(dict[Any, _Made]):
    """Encodes what it is asked for the first time. Safe for threads: at worst something is encoded twice."""

    __slots__ = ("_encode",)

    def __init__(self, encode: Callable[..., _Made]) -> None:
        self._encode = encode

    def __missing__(self, key: Any) -> _Made:
        made = self._encode(key)
        # Clients choose what both hold, and how long that is.
        if _size(key) + _size(made) <= _MOST_KEPT_BYTES:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[key] = made
        return made


def _size(kept: object) -> float:
    """Return about how many bytes are kept: too many of what may hold anything."""
    if isinstance(kept, (str, bytes)):
        return len(kept)
    if isinstance(kept, int):
        return kept.bit_length() / 8
    if isinstance(kept, tuple):
        return sum(map(_size, kept))
    return 0 if kept is None else math.inf


def _head(alike: Alike, *, is_large: bool = False) -> tuple[int, bytes]:
    """Return the fields up to the number that is the size of the response's body, but for path and query.

    They begin with the end of ``url``, of as many bytes as are returned first.
    """
    method, status, route, scheme, host, port, version, request_bytes = alike
    address, named_port = _split_host(from_header(host))
    server: dict[str, Any] = {"address": address}
    if named_port is not None:
        server["port"] = named_port
    elif port is not None and 0 <= port < 65536:
        server["port"] = port
    elif isinstance(scheme, str):
        server["port"] = 443 if scheme in ("https", "wss") else 80
    request: dict[str, Any] = {}
    if isinstance(method, str):
        if method in _METHODS:
            request["method"] = method
        else:
            request["method"], request["method_original"] = "_OTHER", valid(method[:_MAX_METHOD])
    if request_bytes is not None:
        request["body"] = {"size": request_bytes}
    http: dict[str, Any] = {"request": request}
    if route is not None:
        http["route"] = route
    response: dict[str, Any] = {}
    if isinstance(status, str):
        if status.isdigit() and status.isascii():
            response["status_code"] = int(status)
    elif status is not None and 0 <= status < 1000:
        response["status_code"] = int(status)
    http["response"] = {**response, "body": {"size": _LARGE if is_large else 0}}
    event: dict[str, Any] = {"server": server}
    if isinstance(version, str):
        event["network"] = {"protocol": {"version": valid(version.removeprefix("HTTP/"))}}
    event["http"] = http
    # After the end of path or query.
    url_end = b"\0" + bson.encode({"scheme": valid(scheme)} if isinstance(scheme, str) else {})[4:]
    # Without the length, size and ends of documents.
    return len(url_end), url_end + bson.encode(event)[4 : -12 if is_large else -8]


def _agent(agent: object) -> bytes:
    if not isinstance(agent, (str, bytes)):
        return b""
    return bson.encode({"user_agent": {"original": from_header(agent)}})[4:-1]


def _client(address: object) -> bytes:
    if not isinstance(address, str):
        return b""
    return bson.encode({"client": {"address": valid(address)}})[4:-1]


def _split_host(host: str) -> tuple[str, int | None]:
    """Return the address and the port of a Host header; None where it names none, or nonsense."""
    if host.startswith("["):
        address, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") > 1:  # an address of IPv6 as servers name themselves
        return host, None
    else:
        address, _, port = host.partition(":")
    is_port = len(port) <= 5 and port.isascii() and port.isdigit() and int(port) < 65536
    return address, int(port) if is_port else None


_heads, _agents, _clients = _Kept(_head), _Kept(_agent), _Kept(_client)


def encode_hit(
    alike: Alike,
    sent_bytes: int,
    path: str,
    query: str,
    client: Any,
    agent: Any,
    duration_s: float,
    first_s: float | None,
    identity: dict[str, str],
) -> bytes:
    """Return the event ``http.hit`` of a request, encoded.

    Given by position, since names would take a quarter of the time that all of this takes.

    Args:
        alike: of these, where what is no text is left out,

            - the method, as the client wrote it; None for a WebSocket,
            - the response's status, as a number or its digits; None if it had none,
            - the template that the path matched; None for none,
            - the scheme, such as ``https``,
            - the header Host, else the server's name: bytes, or a string whose characters stand for bytes (PEP 3333),
            - the server's port, unless that has one; None for the usual one,
            - the protocol's version, such as ``1.1`` or ``HTTP/1.1``,
            - the bytes of the request's body; None if they are not known.
        sent_bytes: of the response's body.
        path: decoded, as valid text.
        query: as valid text, without the question mark, and without secrets.
        client: the client's address, as the server says it; empty, or no text, for none.
        agent: the header User-Agent, in the form of the host; None for none.
        duration_s: of the request.
        first_s: from the request's beginning to the first byte of the response's body; None for none.
        identity: ``trace_id``, of 32 hexadecimal digits, and ``span_id``, of 16.
    """
    path_bytes, query_bytes = path.encode(), b""
    if query:
        query_bytes = query.encode()
        query_bytes = _pack_query(_QUERY, len(query_bytes) + 1) + query_bytes
    is_large = sent_bytes >= _LARGE
    try:
        # What a client sent has any size, and any method, of which few are worth keeping.
        is_kept = alike[_METHOD] in _METHODS and not (is_large or alike[_REQUEST_BYTES])
        url_end_size, head = _heads[alike] if is_kept else _head(alike, is_large=is_large)
        client_field = _clients[client] if client else b""
        agent_field = b"" if agent is None else _agents[agent]
    except TypeError:  # a server gave what is no text, and cannot be looked for
        url_end_size, head = _head(alike, is_large=is_large)
        client_field, agent_field = _client(client), _agent(agent)
    url_size = _URL_SIZE + len(path_bytes) + len(query_bytes) + url_end_size
    trace_id, span_id = identity["trace_id"].encode(), identity["span_id"].encode()
    pack_rest = _pack_large_rest if is_large else _pack_rest
    rest = pack_rest(sent_bytes, _DURATION, duration_s, _TRACE, 33, trace_id, _SPAN, 17, span_id, _FIRST, first_s or 0)
    fields = b"".join(
        (
            _pack_url(_URL, url_size, _PATH, len(path_bytes) + 1),
            path_bytes,
            query_bytes,
            head,
            rest[:-_FIRST_SIZE] if first_s is None else rest,
            client_field,
            agent_field,
            b"\0",
        )
    )
    return _pack_length(len(fields) + 4) + fields
