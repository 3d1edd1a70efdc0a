"""Addresses: what ZeroMQ and HTTP can use, and what may be bound without a word."""

from __future__ import annotations

import pytest

from eventstorm.endpoints import check_bind, check_endpoint, split_host_port
from eventstorm.errors import SettingError


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:5550", ("127.0.0.1", 5550)),
        ("[::1]:0", ("::1", 0)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("my-host.example_1:65535", ("my-host.example_1", 65535)),
        ("*:5550", ("*", 5550)),
    ],
)
def test_addresses(address, parts):
    assert split_host_port(address, "x") == parts
    assert check_endpoint(f"tcp://{address}", "x") == f"tcp://{address}"


@pytest.mark.parametrize(
    "address",
    # The last one has a digit that is not ASCII.
    [
        "",
        "host",
        ":1",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "::1:1",
        "a b:1",
        "a:1 ",
        "a:1\n",
        "a:\n1",
        "u@h:1",
        "h:1/x",
        "h:1?x",
        "h;g:1",
        "[::1]",
        "h:\uff11",
    ],
)
def test_what_is_no_address(address):
    with pytest.raises(SettingError, match=r"^sink\.http: "):
        split_host_port(address, "sink.http")
    with pytest.raises(SettingError, match=r"^sdk\.endpoint: "):
        check_endpoint(f"tcp://{address}", "sdk.endpoint")


@pytest.mark.parametrize("endpoint", ["udp://a:1", "a:1", "ipc://", "inproc://x", "tcp:/a:1"])
def test_what_is_no_endpoint(endpoint):
    with pytest.raises(SettingError, match="is no endpoint; write tcp://HOST:PORT or ipc://PATH"):
        check_endpoint(endpoint, "x")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "tcp://127.0.0.1:1", "ipc:///x"]
)
def test_loopback_may_be_bound(address):
    check_bind(address, "x", insecure=False)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "*:1", "10.0.0.1:1", "example.org:1", "eth0:1", "128.0.0.1:1"]
)
def test_elsewhere_may_be_bound_only_on_demand(address):
    for each in (address, f"tcp://{address}"):
        with pytest.raises(SettingError, match=r"^sink\.http: .*--insecure"):
            check_bind(each, "sink.http", insecure=False)
        check_bind(each, "sink.http", insecure=True)
