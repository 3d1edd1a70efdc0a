"""The event of a request in BSON: what many requests have alike is encoded once, what each has of its own is added.

A dictionary of it all, and its encoding, would double what recording a request costs. Names are those of
OpenTelemetry's semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), and the layout is
that of https://bsonspec.org/spec.html.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import bson

from eventstorm_integrations.http.text import from_header, valid

__all__ = ["encode_hit"]

# Others go under _OTHER, as OpenTelemetry has it: a client can make up any number of them.
_METHODS = frozenset(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY"])
_MAX_METHOD = 40
_LARGE = 2**31  # what has no place in the 32 bits that most sizes take

# More than most programs have routes, times the names that they are called by. With the longest texts that are kept,
# each of the tables below takes 2 MB.
_MOST_KEPT = 2000
_MOST_KEPT_BYTES = 500

# Each begins with the type and the name of a field.
_DURATION, _FIRST = b"\x01duration\0", b"\x01time_to_first_byte\0"
_TRACE, _SPAN = b"\x02trace_id\0", b"\x02span_id\0"
_URL, _PATH, _QUERY = b"\x03url\0", b"\x02path\0", b"\x02query\0"
_URL_SIZE = 14  # of the length, and of the path's type, name and length
_pack_length = struct.Struct("<i").pack
# And the ends of the documents body, response and http.
_pack_size, _pack_large_size = struct.Struct("<i3x").pack, struct.Struct("<q3x").pack
_pack_url = struct.Struct("<5si6si").pack
_pack_query = struct.Struct("<x7si").pack  # after the end of the path
_pack_trace = struct.Struct("<10sd10si32sx9si16sx").pack
_pack_first = struct.Struct("<20sd").pack


class _Kept(dict[Any, bytes]):
    """Encodes what it is asked for the first time. Safe for threads: at worst something is encoded twice."""

    __slots__ = ("_encode",)

    def __init__(self, encode: Callable[..., bytes]) -> None:
        self._encode = encode

    def __missing__(self, key: Any) -> bytes:
        made = self._encode(key)
        if len(made) <= _MOST_KEPT_BYTES:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[key] = made
        return made


def _head(key: tuple[Any, ...]) -> bytes:
    """Return the fields that end with ``http``, up to the number that is the size of the response's body."""
    method, status, route, scheme, host, port, version, request_bytes, is_large = key
    address, named_port = _split_host(from_header(host))
    if named_port is not None:
        port = named_port
    elif port is None:
        port = 443 if scheme in ("https", "wss") else 80
    request: dict[str, Any] = {}
    if method in _METHODS:
        request["method"] = method
    elif method is not None:
        request["method"], request["method_original"] = "_OTHER", valid(method)
    if request_bytes is not None:
        request["body"] = {"size": request_bytes}
    http: dict[str, Any] = {"request": request}
    if route is not None:
        http["route"] = route
    response: dict[str, Any] = {} if status is None else {"status_code": status}
    http["response"] = {**response, "body": {"size": _LARGE if is_large else 0}}
    protocol = {"protocol": {"version": version}}
    encoded = bson.encode({"server": {"address": address, "port": port}, "network": protocol, "http": http})
    return encoded[4 : -12 if is_large else -8]  # without the length, the size, and the ends of four documents


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


_heads = _Kept(_head)
_agents = _Kept(lambda agent: bson.encode({"user_agent": {"original": from_header(agent)}})[4:-1])
_schemes = _Kept(lambda scheme: b"\0" + bson.encode({"scheme": scheme})[4:])  # after the end of path or query; ends url
_clients = _Kept(lambda address: bson.encode({"client": {"address": address}})[4:-1])


def encode_hit(
    method: str | None,
    status: int | None,
    route: str | None,
    scheme: str,
    host: str | bytes,
    port: int | None,
    version: str,
    request_bytes: int | None,
    sent_bytes: int,
    path: str,
    query: str,
    client: str,
    agent: str | bytes | None,
    duration_s: float,
    first_s: float | None,
    trace_id: str,
    span_id: str,
) -> bytes:
    """Return the event ``http.hit`` of a request, encoded.

    Given by position, since names would take a quarter of the time that all of this takes.

    Args:
        method: as the client wrote it; None for a WebSocket.
        status: the response's; None if it had none.
        route: the template that the path matched; None for none.
        scheme: such as ``https``.
        host: the header Host, else the server's name: bytes, or a string whose characters stand for bytes (PEP 3333).
        port: the server's, unless `host` has one; None for the usual one.
        version: the protocol's, such as ``1.1``.
        request_bytes: of the request's body; None if that is not known.
        sent_bytes: of the response's body.
        path: decoded, as valid text.
        query: as valid text, without the question mark, and without secrets.
        client: the client's address; empty for none.
        agent: the header User-Agent, in the form of `host`; None for none.
        duration_s: of the request.
        first_s: from the request's beginning to the first byte of the response's body; None for none.
        trace_id: 32 hexadecimal digits.
        span_id: 16 of them.
    """
    if method is not None and method not in _METHODS:
        method = method[:_MAX_METHOD]
    path_bytes, scheme_bytes, query_bytes = path.encode(), _schemes[scheme], b""
    if query:
        query_bytes = query.encode()
        query_bytes = _pack_query(_QUERY, len(query_bytes) + 1) + query_bytes
    is_large = sent_bytes >= _LARGE
    alike = (method, status, route, scheme, host, port, version, request_bytes, is_large)
    url_size = _URL_SIZE + len(path_bytes) + len(query_bytes) + len(scheme_bytes)
    fields = b"".join(
        (
            # What a client sent has any size, of which few are worth keeping.
            _head(alike) if request_bytes else _heads[alike],
            _pack_large_size(sent_bytes) if is_large else _pack_size(sent_bytes),
            _pack_url(_URL, url_size, _PATH, len(path_bytes) + 1),
            path_bytes,
            query_bytes,
            scheme_bytes,
            _pack_trace(_DURATION, duration_s, _TRACE, 33, trace_id.encode(), _SPAN, 17, span_id.encode()),
            b"" if first_s is None else _pack_first(_FIRST, first_s),
            _clients[client] if client else b"",
            b"" if agent is None else _agents[agent],
            b"\0",
        )
    )
    return _pack_length(len(fields) + 4) + fields
