"""`eventstorm emit` types the values, delivers, and tells what was wrong with the fix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sdk.peer import Peer
from sdk.test_publish import free_endpoint

PROGRAM = str(Path(sys.executable).with_name("eventstorm"))


def emit(endpoint: str, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run the command; return its exit code and what it said."""
    command = [PROGRAM, "emit", "--endpoint", endpoint, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
    assert not done.stdout
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stderr.decode()


def test_values_are_typed_and_dotted_keys_nested(peer: Peer) -> None:
    fields = ["total=42.5", "user.name=Ada", "user.id=7", "paid=true", "note=", "tags=[1, null]", "zip:=01", "n:=5"]
    assert emit(peer.endpoint, "shop.order", *fields) == (0, "")
    assert peer.wait_for(1, "shop.order") == [
        {"total": 42.5, "user": {"name": "Ada", "id": 7}, "paid": True, "note": "", "tags": [1, None]}
        | {"zip": "01", "n": "5"}
    ]


def test_json_lines_are_events_and_all_arrive(peer: Peer) -> None:
    lines = b"".join(b'{"n": %d}\n\n' % number for number in range(2000)) + b'{"id": {"$oid": "' + b"a" * 24 + b'"}}'
    assert emit(peer.endpoint, "shop.order", "-", stdin=lines) == (0, "")
    events = peer.wait_for(2001)
    assert [event.get("n") for event in events[:2000]] == list(range(2000))
    assert str(events[-1]["id"]) == "a" * 24


@pytest.mark.parametrize("line", [b"{", b"[1]", b'"\xff"', b"{}}"])
def test_a_bad_line_is_told_with_its_number_and_those_before_arrive(peer: Peer, line: bytes) -> None:
    code, said = emit(peer.endpoint, "shop.order", "-", stdin=b'{"n": 1}\n' + line)
    assert code == 1
    assert "standard input, line 2: " in said
    peer.wait_for(1)


def test_no_router_is_told_with_the_fix() -> None:
    endpoint = free_endpoint()
    code, said = emit(endpoint, "shop.order", "--timeout", "0.2")
    assert code == 1
    assert f"no router answered at {endpoint}; 1 not sent. Start one with: eventstorm up" in said


@pytest.mark.parametrize("stdin", [b"{}\n", b"{}\n" * 5000])
def test_that_nobody_listens_is_told(stdin: bytes) -> None:
    with Peer(b"other\0") as peer:
        code, said = emit(peer.endpoint, "shop.order", "-", stdin=stdin)
        assert code == 1
        assert "nobody listens to 'shop.order'" in said


def test_an_event_that_cannot_be_sent_is_told(peer: Peer) -> None:
    code, said = emit(peer.endpoint, "shop.order", f"n={2**64}")
    assert code == 1
    assert "1 refused as unencodable" in said


@pytest.mark.parametrize("arguments", ["Shop", "eventstorm.x", "a.b x", "a.b =1", "a.b x=1 x.y=2", "a.b x=1 x=2"])
def test_wrong_usage_is_told(arguments: str) -> None:
    assert emit(free_endpoint(), *arguments.split())[0] == 2
