"""Who sent a request: the address of the peer, or what trusted proxies say.

Anybody can write ``X-Forwarded-For``. A proxy appends the address that it saw, so the list is read from its end, as
long as each address is that of a proxy that is trusted; the first that is not is the client's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from eventstorm_integrations.http.settings import UNIX

__all__ = ["TrustedProxies"]

# Beyond these nobody's chain of proxies goes; a longer list is read from its end.
_MAX_HEADER = 2048
_MAX_HOPS = 32
# RFC 7239, section 4: for=192.0.2.43, for="[2001:db8::1]:4711", for=_hidden.
_FOR = re.compile(r'(?:^|;)[ \t]*for=(?:"([^"]*)"|([^;," \t]*))', re.IGNORECASE)


class TrustedProxies:
    """The proxies whose word is taken. Safe from any thread."""

    def __init__(self, trusted: Iterable[str], header: str) -> None:
        """Take addresses and networks, or ``unix`` for peers without an address, and which header they write."""
        listed = tuple(trusted)
        networks = [ip_network(each) for each in listed if each != UNIX]
        self._unix = UNIX in listed
        self._forwarded = header == "forwarded"

        @lru_cache(maxsize=1024)
        def is_trusted(address: str) -> bool:
            parsed = _parse(address)
            return parsed is not None and any(parsed in network for network in networks)

        self._is_trusted = is_trusted

    def client(self, peer: str, header: str) -> str:
        """Return the client's address, given the peer's, which may be empty, and the header's value."""
        if not header or not (self._is_trusted(peer) if peer else self._unix):
            return peer
        client = peer
        # At all commas, those in quotes too: a quote that a client leaves open must not hide what proxies add to it.
        hops = header[-_MAX_HEADER:].split(",")[-_MAX_HOPS:]
        for hop in reversed(hops):
            if not hop.strip():  # nobody writes these on purpose; they stand for nothing (RFC 9110, section 5.6.1)
                continue
            address = _parse(_node(hop) if self._forwarded else hop.strip())
            if address is None:  # unknown, hidden or nonsense: nobody before it can be believed
                break
            client = str(address)
            if not self._is_trusted(client):
                break
        return client


def _node(hop: str) -> str:
    found = _FOR.search(hop.strip())
    return (found[1] or found[2] or "") if found else ""


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address that may have a port, and an IPv4 address that is written as one of IPv6 as what it is."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])  # behind it, the zone of IPv6 may be any text
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
