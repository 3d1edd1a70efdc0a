"""Network addresses that daemons bind: ZeroMQ endpoints and HTTP's HOST:PORT, on loopback unless told otherwise."""

from __future__ import annotations

import ipaddress
import re

from eventstorm.errors import SettingError

__all__ = [
    "DEFAULT_EGRESS",
    "DEFAULT_HTTP",
    "DEFAULT_INGRESS",
    "check_bind",
    "check_endpoint",
    "split_host_port",
]

DEFAULT_INGRESS = "tcp://127.0.0.1:5550"
DEFAULT_EGRESS = "tcp://127.0.0.1:5551"
DEFAULT_HTTP = "127.0.0.1:5580"

# An IPv6 address in brackets, or a name, IPv4 address or * without anything that means more to ZeroMQ or in a URL.
_host_port = re.compile(r"(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([\w.*-]+)):([0-9]{1,5})", re.ASCII).fullmatch


def check_endpoint(endpoint: str, place: str) -> str:
    """Return `endpoint` if ZeroMQ can use it: ``tcp://HOST:PORT`` or ``ipc://PATH``.

    Raises:
        SettingError: it is neither; `place` names the setting in the message.
    """
    scheme, separator, rest = endpoint.partition("://")
    if separator and scheme == "ipc" and rest:
        return endpoint
    if separator and scheme == "tcp":
        split_host_port(rest, place)
        return endpoint
    raise SettingError(f"{place}: {endpoint!r} is no endpoint; write tcp://HOST:PORT or ipc://PATH")


def split_host_port(address: str, place: str) -> tuple[str, int]:
    """Split ``HOST:PORT``, with IPv6 hosts in brackets; port 0 lets the system choose.

    Raises:
        SettingError: it is not of that form; `place` names the setting in the message.
    """
    matched = _host_port(address)
    if not matched or int(matched[3]) > 65535:
        raise SettingError(f"{place}: {address!r} is no address; write HOST:PORT, for example 127.0.0.1:5580")
    return matched[1] or matched[2], int(matched[3])


def check_bind(address: str, place: str, *, insecure: bool) -> None:
    """Refuse to bind anything that other machines reach, unless the user said ``--insecure``.

    `address` is a ZeroMQ endpoint or HOST:PORT.

    Raises:
        SettingError: the address is not loopback (nor ``ipc://``) and `insecure` is false.
    """
    if address.startswith("ipc://") or insecure:
        return
    host, _ = split_host_port(address.removeprefix("tcp://"), place)
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SettingError(
            f"{place}: {address!r} is not a loopback address, and nothing there is encrypted or asks for a key, so "
            f"anyone who reaches it could read and forge events; bind 127.0.0.1, or say --insecure on a trusted network"
        )
