"""nginx's variables: where each goes in an event, and how its text becomes a value."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

from eventstorm_integrations.http.redact import Redaction

__all__ = [
    "METHODS",
    "REQUEST_PARTS",
    "TIMES",
    "UPSTREAM",
    "Request",
    "Target",
    "add_method",
    "may_hold_space",
    "parse_request",
    "split_port",
    "split_target",
    "target",
    "whole",
    "without_secrets",
]

Path = tuple[str, ...]
Convert = Callable[[str], Any]


def whole(text: str) -> int:
    """Return the number that a text is.

    Raises:
        ValueError: it is none, or one of more than the 64 bits that BSON has for it.
    """
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


# Read before the others, in this order: the first that a line has is its time.
TIMES = ("msec", "time_iso8601", "time_local")

# Parts of the request line, for formats that have them one by one.
REQUEST_PARTS = {"request", "request_method", "request_uri", "uri", "document_uri", "args", "query_string"}

# Lists: `, ` between the servers that were tried, ` : ` between groups of them after an internal redirect.
UPSTREAM: dict[str, tuple[str, Convert]] = {
    "upstream_addr": ("address", str),
    "upstream_status": ("status_code", whole),
    "upstream_response_time": ("duration", float),
    "upstream_connect_time": ("connect_duration", float),
    "upstream_header_time": ("header_duration", float),
    "upstream_first_byte_time": ("first_byte_duration", float),
    "upstream_session_time": ("session_duration", float),
    "upstream_queue_time": ("queue_duration", float),
    "upstream_response_length": ("response_size", whole),
    "upstream_bytes_received": ("bytes_received", whole),
    "upstream_bytes_sent": ("bytes_sent", whole),
}

_TARGETS: dict[str, tuple[Path, Convert]] = {
    "remote_addr": (("client", "address"), str),
    "remote_port": (("client", "port"), whole),
    "realip_remote_addr": (("network", "peer", "address"), str),
    "realip_remote_port": (("network", "peer", "port"), whole),
    "remote_user": (("user", "name"), str),
    "server_protocol": (("network", "protocol", "version"), lambda text: text.removeprefix("HTTP/")),
    "scheme": (("url", "scheme"), str),
    "host": (("server", "address"), str),
    "server_name": (("nginx", "server_name"), str),
    "server_port": (("server", "port"), whole),
    "status": (("http", "response", "status_code"), whole),
    "body_bytes_sent": (("http", "response", "body", "size"), whole),
    "bytes_sent": (("http", "response", "size"), whole),
    "content_length": (("http", "request", "body", "size"), whole),
    "request_length": (("http", "request", "size"), whole),
    "request_time": (("duration",), float),
    "request_id": (("http", "request", "id"), str),
    "http_user_agent": (("user_agent", "original"), str),
    "ssl_protocol": (("tls", "protocol"), str),
    "ssl_cipher": (("tls", "cipher"), str),
    "ssl_server_name": (("tls", "server_name"), str),
    "connection": (("nginx", "connection"), whole),
    "connection_requests": (("nginx", "connection_requests"), whole),
    "pid": (("process", "pid"), whole),
    "hostname": (("host", "name"), str),
    "gzip_ratio": (("nginx", "gzip_ratio"), float),
}

# These hold what lets one in elsewhere; that they were there is all that is told.
_COOKIES = ("cookie_", "upstream_cookie_")


class Target(NamedTuple):
    """Where a variable's value goes."""

    path: Path
    convert: Convert


def target(name: str, redaction: Redaction) -> Target:
    """Return where the variable ``$name`` goes, without secrets; one that is not known by name goes under ``nginx``."""
    known = _TARGETS.get(name)
    if known is not None:
        return Target(*known)
    for prefix, path in _HEADERS:
        if name.startswith(prefix):
            header = name[len(prefix) :].replace("_", "-")
            return Target((*path, header), partial(redaction.header, header))
    if name.startswith(_COOKIES):
        return Target(("nginx", name), partial(redaction.header, "cookie"))
    return Target(("nginx", name), partial(redaction.header, name.removeprefix("arg_")))


def may_hold_space(name: str) -> bool:
    """Tell whether a variable's value may hold spaces: users' names and headers do, addresses and numbers do not."""
    known = _TARGETS.get(name)
    return name in _SPACED or (known is None and name not in UPSTREAM and name not in REQUEST_PARTS)


_SPACED = {"remote_user", "http_user_agent", "time_local", "request"}
_HEADERS: list[tuple[str, Path]] = [
    ("sent_http_", ("http", "response", "header")),
    ("upstream_http_", ("nginx", "upstream_header")),
    ("http_", ("http", "request", "header")),
]


# As the middlewares have it: strangers' words must not become so many names of methods.
METHODS = frozenset(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY"])


def add_method(request: dict[str, Any], method: str) -> None:
    """Add a request's method; one that is not of HTTP's own is ``_OTHER``, and ``method_original`` says which."""
    if method in METHODS:
        request["method"] = method
    else:
        request["method"], request["method_original"] = "_OTHER", method


class Request(NamedTuple):
    """A request line, taken apart."""

    method: str
    url: dict[str, str]
    """``path``, and ``query`` and ``scheme`` where there are some."""
    version: str
    host: str
    """From a request line with a whole URL, as proxies get them."""


@lru_cache(4096)
def parse_request(line: str) -> Request | None:
    """Take a request line apart; None for one that is none, as clients send that speak something else than HTTP."""
    method, space, rest = line.partition(" ")
    if not space or not method.isascii() or not method.replace("-", "").replace("_", "").isalnum():
        return None
    target, space, protocol = rest.rpartition(" ")
    if not space:  # HTTP/0.9
        target, protocol = rest, ""
    elif not protocol.startswith("HTTP/"):
        return None
    url, host = split_target(target)
    if "path" not in url:
        return None
    return Request(method, url, protocol[5:], host)


def split_target(text: str) -> tuple[dict[str, str], str]:
    """Split a request's target into the parts of its URL, and the host where it names one."""
    url: dict[str, str] = {}
    host = ""
    if not text.startswith("/"):
        scheme, colon, rest = text.partition("://")
        if colon:
            url["scheme"] = scheme.lower()
            host, slash, text = rest.partition("/")
            text = slash + text or "/"
        elif not text or (text != "*" and ":" not in text):
            return {}, ""
    path, question, query = text.partition("?")
    url["path"] = path
    if question:
        url["query"] = query
    return url, host


def without_secrets(url: dict[str, str], redaction: Redaction) -> dict[str, str]:
    """Return the parts of a URL, of which the query is told without what is secret."""
    return {**url, "query": redaction.query(url["query"])} if "query" in url else url


def split_port(host: str) -> tuple[str, int | None]:
    """Split ``host:port``; a port that is none stays with the host."""
    address, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit() and len(port) <= 5 and (":" not in address or address[-1:] == "]"):
        return address, int(port)
    return host, None
