"""Builds the events of HTTP requests and emits them, as the settings and the hook of one application want it."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import bson

import eventstorm
from eventstorm.context import common_fields
from eventstorm.errors import SettingError
from eventstorm.settings import load
from eventstorm_integrations._guard import guard
from eventstorm_integrations.http.client import TrustedProxies
from eventstorm_integrations.http.exchange import Exchange
from eventstorm_integrations.http.redact import Redaction
from eventstorm_integrations.http.settings import HttpSettings
from eventstorm_integrations.http.text import MAX_TEXT, from_header, valid
from eventstorm_integrations.http.trace import draw

__all__ = ["HIT", "SESSION", "Emits", "Hook", "Recorder"]

log = logging.getLogger(__name__)

HIT = "http.hit"
SESSION = "websocket.session"

Hook = Callable[[dict[str, Any], Mapping[str, Any]], object]
"""Called with each event before it is emitted, which it may change, and with the request's WSGI environ or ASGI scope.

If it returns False, the event is dropped. In an asynchronous server it runs in the event loop, so it must not block.
"""


class Emits(Protocol):
    """Where events go: an `eventstorm.Source`, or the module `eventstorm` itself."""

    def emit(self, topic: str, event: Mapping[str, Any], /) -> bool:
        """Take an event."""
        ...

    def emit_at(self, topic: str, event: Mapping[str, Any], ts_s: float, /) -> bool:
        """Take an event that happened so many seconds after the beginning of 1970."""
        ...

    def emit_encoded(self, topic: str, data: bytes, /) -> bool:
        """Take an event that is a BSON document already."""
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
        self._emit, self._emit_at, self._emit_encoded, self.wanted = to.emit, to.emit_at, to.emit_encoded, to.wanted
        self._hook = hook
        self.by_default = by_default
        # Not joined to one: each may have flags, and groups that it refers to.
        self._excluded = tuple(re.compile(each).search for each in given.excluded_urls)
        self._sample_rate = given.sample_rate
        self.chooses = bool(self._excluded) or self._sample_rate < 1
        """Whether `allows` is to be asked."""
        self._redaction = Redaction(given.redact, given.reveal)
        self.without_secrets = self._redaction.query
        self._proxies = TrustedProxies(given.trusted_proxies, given.proxy_header) if given.trusted_proxies else None
        self.proxy_header = given.proxy_header if given.trusted_proxies else None
        self.request_headers = tuple(name.lower() for name in given.request_headers)
        self.response_headers = frozenset(name.lower() for name in given.response_headers)
        self._takes_plain = hook is None and not (self.chooses or self.request_headers or self.response_headers)

    def fault(self) -> None:
        """Count and log the exception that is being handled: a fault of Eventstorm's own."""
        guard.caught("http.fault", log, "a request is not recorded, by a fault of Eventstorm itself")

    def allows(self, scheme: object, host: object, path: str, query: str) -> bool:
        """Tell whether a request is to be recorded, by its URL and by chance; count one that is not."""
        if self._excluded and self._excluded_url(scheme, from_header(host), path, query):
            guard.count("http.excluded")
            return False
        if self._sample_rate < 1 and draw() >= self._sample_rate:
            guard.count("http.sampled_out")
            return False
        return True

    def client(self, peer: Any, forwarded: Any) -> Any:
        """Return a client's address, given that of who connected, empty for none, and the header `proxy_header`."""
        if self._proxies is None:
            return peer
        if not isinstance(peer, str):  # nor is it none, as of a socket of Unix, which may be trusted
            return ""
        return self._proxies.client(valid(peer), forwarded if isinstance(forwarded, str) else "")

    def emit_hit(self, exchange: Exchange, hit: bytes, request: Mapping[str, Any]) -> None:
        """Emit a request's event as it is, if nothing else is to be in it, as most often."""
        if self._takes_plain and exchange.error_type is None and common_fields.get() is None:
            self._emit_encoded(HIT, hit)
        else:
            self.emit_document(HIT, self.document(exchange, hit), request, None)

    def document(self, exchange: Exchange, hit: bytes) -> dict[str, Any]:
        """Return a request's event, with the fields that few have."""
        event: dict[str, Any] = bson.decode(hit)
        exchange.add_headers(event["http"])
        if exchange.error_type is not None:
            event["error"] = {"type": exchange.error_type}
        if self._sample_rate < 1:
            event["sample_rate"] = self._sample_rate
        return event

    def emit_document(self, topic: str, event: dict[str, Any], request: Mapping[str, Any], ts_s: float | None) -> None:
        """Let the hook see an event, and emit it, as of `ts_s` if that is not now."""
        if self._hook is not None:
            try:
                if self._hook(event, request) is False:
                    guard.count("http.dropped_by_hook")
                    return
            except Exception:
                guard.caught("http.hook", log, "the hook failed; the request is recorded as the hook left it")
        if ts_s is None:
            self._emit(topic, event)
        else:
            self._emit_at(topic, event, ts_s)

    def headers(self, pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
        """Return headers that are allowed, as OpenTelemetry names them, without their secrets."""
        found: dict[str, list[str]] = {}
        for name, value in pairs:
            found.setdefault(name, []).append(self._redaction.header(name, value))
        return found

    def _excluded_url(self, scheme: object, host: str, path: str, query: str) -> bool:
        url = f"{scheme}://{host}{path}?{query}" if query else f"{scheme}://{host}{path}"
        return any(search(path) or search(url, 0, MAX_TEXT) for search in self._excluded)
