"""Bytes to lines."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from eventstorm_integrations.logs.lines import LineSplitter

LINES = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").replace(b"\0", b"").rstrip(b"\r")))


@given(LINES, st.randoms())
def test_pieces_of_any_size_give_the_same_lines(lines: list[bytes], chance: random.Random) -> None:
    data = b"".join(line + b"\n" for line in lines)
    splitter, found, at = LineSplitter(100), [], 0
    while at < len(data):
        size = chance.randint(1, 30)
        found += splitter.feed(data[at : at + size])
        at += size
        whole = data[:at].rfind(b"\n") + 1
        assert splitter.pending_bytes == min(at, len(data)) - whole

    assert found == [line.decode("utf-8", "backslashreplace") for line in lines]
    assert splitter.too_long() == []


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert LineSplitter(100).feed(b"\xff\xfe caf\xe9 caf\xc3\xa9\n") == ["\\xff\\xfe caf\\xe9 café"]


def test_line_ends_of_windows_and_zeros_at_the_begin_are_left_out() -> None:
    assert LineSplitter(100).feed(b"a\r\n\0\0b\n") == ["a", "b"]


def test_the_mark_before_utf_8_is_no_part_of_the_first_line() -> None:
    splitter = LineSplitter(100)

    assert splitter.feed(b"\xef\xbb") + splitter.feed(b"\xbfa\n\xef\xbb\xbfb\n") == ["a", "\ufeffb"]


def test_a_line_that_is_too_long_is_counted_once_and_takes_no_memory() -> None:
    splitter = LineSplitter(1000)
    found = splitter.feed(b"a\n" + b"x" * 900)
    for _ in range(1000):
        found += splitter.feed(b"x" * 900)
        assert len(splitter._rest) <= 1000
    found += splitter.feed(b"x\nb\n" + b"y" * 1001 + b"\nc\n")

    assert found == ["a", "b", "c"]
    assert [line[:3] for line in splitter.too_long()] == ["xxx", "yyy"]
    assert splitter.pending_bytes == 0


def test_the_rest_is_a_line_for_who_will_not_come_back() -> None:
    splitter = LineSplitter(100)
    splitter.feed(b"a\nb")

    assert splitter.rest() == ["b"]
    assert splitter.rest() == []
