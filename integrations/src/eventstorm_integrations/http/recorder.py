"""Builds the events of HTTP requests and emits them, as the settings and the hook of one application want it."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import eventstorm
from eventstorm.errors import SettingError
from eventstorm.settings import load
from eventstorm_integrations._guard import guard
from eventstorm_integrations.http.client import TrustedProxies
from eventstorm_integrations.http.exchange import Exchange
from eventstorm_integrations.http.redact import Redaction
from eventstorm_integrations.http.settings import HttpSettings
from eventstorm_integrations.http.text import MAX_TEXT, valid
from eventstorm_integrations.http.trace import draw

__all__ = ["HIT", "SESSION", "Emits", "Hook", "Recorder"]

log = logging.getLogger(__name__)

HIT = "http.hit"
SESSION = "websocket.session"

Hook = Callable[[dict[str, Any], Mapping[str, Any]], object]
"""Called with each event before it is emitted, which it may change, and with the request's WSGI environ or ASGI scope.

If it returns False, the event is dropped. In an asynchronous server it runs in the event loop, so it must not block.
"""

# Others go under _OTHER, as OpenTelemetry has it: a client can make up any number of them.
_METHODS = frozenset(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY"])
_MAX_METHOD = 40


class Emits(Protocol):
    """Where events go: an `eventstorm.Source`, or the module `eventstorm` itself."""

    def emit(self, topic: str, event: Mapping[str, Any], /) -> bool:
        """Take an event."""
        ...

    def emit_at(self, topic: str, event: Mapping[str, Any], ts_s: float, /) -> bool:
        """Take an event that happened so many seconds after the beginning of 1970."""
        ...

    def wanted(self, topic: str) -> bool:
        """Tell whether anybody listens to a topic."""
        ...


class Recorder:
    """What one middleware records. It holds nothing of any request, so any number of them may use it at once."""

    def __init__(
        self, settings: HttpSettings | None, hook: Hook | None, source: Emits | None, *, by_default: bool = False
    ) -> None:
        """Take the settings, or read them from the environment and ``eventstorm.toml``.

        One that is there `by_default` gives way to one that the program itself has put inside of it.

        Raises:
            SettingError: one of those is wrong, or the hook is a coroutine function.
        """
        if inspect.iscoroutinefunction(hook):
            raise SettingError(f"hook: {hook!r} is a coroutine function; write it with def: nobody would wait for it")
        given = load(HttpSettings, "http", {}) if settings is None else settings
        to: Emits = eventstorm if source is None else source
        self.emit, self.emit_at, self.wanted = to.emit, to.emit_at, to.wanted
        self._hook = hook
        self.by_default = by_default
        # Not joined to one: each may have flags, and groups that it refers to.
        self._excluded = tuple(re.compile(each).search for each in given.excluded_urls)
        self._sample_rate = given.sample_rate
        self._redaction = Redaction(given.redact, given.reveal)
        self._proxies = TrustedProxies(given.trusted_proxies, given.proxy_header) if given.trusted_proxies else None
        self.proxy_header = given.proxy_header if given.trusted_proxies else None
        self.request_headers = tuple(name.lower() for name in given.request_headers)
        self.response_headers = frozenset(name.lower() for name in given.response_headers)

    def fault(self) -> None:
        """Count and log the exception that is being handled: a fault of Eventstorm's own."""
        guard.caught("http.fault", log, "a request is not recorded, by a fault of Eventstorm itself")

    def begin_event(
        self,
        exchange: Exchange,
        end_s: float,
        *,
        method: str | None,
        scheme: str,
        host: str,
        port: int | None,
        path: str,
        query: str,
        peer: str,
        forwarded: str,
        agent: str | None,
        version: str,
        request_bytes: int | None,
        response: dict[str, Any],
    ) -> dict[str, Any] | None:
        """Return what is known of any request, or None if it is not to be recorded.

        Args:
            exchange: what was noted.
            end_s: when it ended.
            method: None for a WebSocket.
            scheme: such as ``https``.
            host: the header Host, else the server's name.
            port: the server's, unless `host` has one.
            path: decoded, as valid text.
            query: as valid text, without the question mark.
            peer: the address of who connected; empty for none.
            forwarded: the value of the header `proxy_header`.
            agent: the header User-Agent.
            version: the protocol's, such as ``1.1``.
            request_bytes: of the request's body; None if that is not known.
            response: the fields of ``http.response``.
        """
        if self._excluded and self._excluded_url(scheme, host, path, query):
            guard.count("http.excluded")
            return None
        if self._sample_rate < 1 and draw() >= self._sample_rate:
            guard.count("http.sampled_out")
            return None
        request: dict[str, Any] = {}
        if method is not None:
            if method in _METHODS:
                request["method"] = method
            else:
                request["method"], request["method_original"] = "_OTHER", valid(method[:_MAX_METHOD])
        if request_bytes is not None:
            request["body"] = {"size": request_bytes}
        address, named_port = _split_host(host)
        if named_port is not None:
            port = named_port
        elif port is None:
            port = 443 if scheme in ("https", "wss") else 80
        http: dict[str, Any] = {"request": request, "response": response}
        if exchange.route is not None:
            http["route"] = exchange.route
        event: dict[str, Any] = {
            "http": http,
            "url": {"path": path, "query": self._redaction.query(query), "scheme": scheme}
            if query
            else {"path": path, "scheme": scheme},
            "server": {"address": address, "port": port},
            "network": {"protocol": {"version": version}},
            "duration": end_s - exchange.started_s,
            "trace_id": exchange.trace_id,
            "span_id": exchange.span_id,
        }
        client = peer if self._proxies is None else self._proxies.client(peer, forwarded)
        if client:
            event["client"] = {"address": client}
        if agent is not None:
            event["user_agent"] = {"original": agent}
        if exchange.first_s is not None:
            event["time_to_first_byte"] = exchange.first_s - exchange.started_s
        if exchange.error_type is not None:
            event["error"] = {"type": exchange.error_type}
        if self._sample_rate < 1:
            event["sample_rate"] = self._sample_rate
        return event

    def emit_event(self, topic: str, event: dict[str, Any], request: Mapping[str, Any], ts_s: float | None) -> None:
        """Let the hook see an event, and emit it, as of `ts_s` if that is not now."""
        if self._hook is not None:
            try:
                if self._hook(event, request) is False:
                    guard.count("http.dropped_by_hook")
                    return
            except Exception:
                guard.caught("http.hook", log, "the hook failed; the request is recorded as the hook left it")
        if ts_s is None:
            self.emit(topic, event)
        else:
            self.emit_at(topic, event, ts_s)

    def headers(self, pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
        """Return headers that are allowed, as OpenTelemetry names them, without their secrets."""
        found: dict[str, list[str]] = {}
        for name, value in pairs:
            found.setdefault(name, []).append(self._redaction.header(name, value))
        return found

    def _excluded_url(self, scheme: str, host: str, path: str, query: str) -> bool:
        url = f"{scheme}://{host}{path}?{query}" if query else f"{scheme}://{host}{path}"
        return any(search(path) or search(url, 0, MAX_TEXT) for search in self._excluded)


# What clients send as Host repeats; other values push these out, and that is all.
@lru_cache(maxsize=256)
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
