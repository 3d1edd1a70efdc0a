"""The settings of what is recorded of HTTP requests: the table ``[http]`` of ``eventstorm.toml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from eventstorm.errors import SettingError
from eventstorm.settings import setting, within
from eventstorm_integrations.http.redact import check_names

__all__ = ["PROXY_HEADERS", "UNIX", "HttpSettings"]

PROXY_HEADERS = ("x-forwarded-for", "forwarded")
UNIX = "unix"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2


def _expressions(value: Any, place: str) -> Any:
    for each in value:
        try:
            re.compile(each)
        except re.error as error:
            raise SettingError(f"{place}: {each!r} is no regular expression: {error}") from None
    return value


def _names(value: Any, place: str) -> Any:
    for each in value:
        if not _TOKEN.fullmatch(each) or "*" in each:
            raise SettingError(f"{place}: {each!r} is no name of a header; write one such as 'accept-language'")
    return value


def _networks(value: Any, place: str) -> Any:
    for each in value:
        if each != UNIX:
            try:
                ip_network(each)
            except ValueError as error:
                raise SettingError(f"{place}: {error}; write '10.0.0.0/8', '::1' or {UNIX!r}") from None
    return value


def _proxy_header(value: Any, place: str) -> Any:
    if value.lower() not in PROXY_HEADERS:
        raise SettingError(f"{place}: {value!r} is not one of {', '.join(PROXY_HEADERS)}")
    return value.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The settings of the WSGI and ASGI middlewares, and of the frameworks' integrations."""

    excluded_urls: tuple[str, ...] = setting(
        (), "regular expressions; a request in whose path or full URL one is found is not recorded", _expressions
    )
    sample_rate: float = setting(1.0, "the share of requests that is recorded, chosen at random", within(0, 1))
    request_headers: tuple[str, ...] = setting((), "request headers to record", _names)
    response_headers: tuple[str, ...] = setting((), "response headers to record", _names)
    redact: tuple[str, ...] = setting(
        (), "more names of headers and query parameters whose values are secret; * stands for any text", check_names
    )
    reveal: tuple[str, ...] = setting((), "names that are not secret though they are by default", check_names)
    trusted_proxies: tuple[str, ...] = setting(
        (), "addresses and networks of proxies whose word on the client is taken; unix for a Unix socket", _networks
    )
    proxy_header: str = setting(
        PROXY_HEADERS[0], f"the header in which these name it: {' or '.join(PROXY_HEADERS)}", _proxy_header
    )
