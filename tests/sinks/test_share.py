"""Shares of the events: each message belongs to exactly one, which its first bytes tell, however it is divided."""

from __future__ import annotations

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstorm.errors import SettingError
from eventstorm.wire import Header, Message, encode_message
from eventstorm_sinks.batch import Book, Source
from eventstorm_sinks.books import Books, handed_over
from eventstorm_sinks.ledger import Ledger, remainder_key
from eventstorm_sinks.own_events import OwnSource
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.share import WHOLE, Share
from eventstorm_sinks.stores import open_store

ids = st.binary(min_size=12, max_size=12)
topics = st.from_regex(r"(eventstorm\.)?[a-z]{1,9}", fullmatch=True)
ways = st.sampled_from(["source", "topic"])
counts = st.integers(1, 9)


def header(source_id: bytes, seq: int = 0, n: int = 0) -> Header:
    """Return a header."""
    return Header(source_id, 0, seq, n, 0, 0, "h", "s", 1)


def shares(of: int, by: str) -> list[Share]:
    """Return all shares."""
    return [Share(number, of, by) for number in range(1, of + 1)]


@given(ids, topics, counts, ways)
def test_a_message_belongs_to_one_share_which_is_that_of_its_stream(
    source_id: bytes, topic: str, of: int, by: str
) -> None:
    """As it comes from the socket, and as it is called in books."""
    frames = encode_message(topic, header(source_id), b"")
    takers = [each for each in shares(of, by) if each.takes_message(frames)]
    assert takers == [each for each in shares(of, by) if each.takes(topic, source_id)]
    assert len(takers) == 1


@given(ids, ids, topics)
def test_all_topics_of_a_source_or_all_sources_of_a_topic_are_in_one_share(one: bytes, two: bytes, topic: str) -> None:
    """But Eventstorm's own topics, which are shared by source in any case."""
    for share in shares(4, "source"):
        assert share.takes(topic, one) == share.takes(f"{topic}.x", one)
    if not topic.startswith("eventstorm."):
        for share in shares(4, "topic"):
            assert share.takes(topic, one) == share.takes(topic, two)


@given(ids)
def test_the_order_of_the_header_s_keys_means_nothing(source_id: bytes) -> None:
    """Nor do keys that nobody knows, and times that Python has no name for."""
    topic, document, payload = encode_message("a", header(source_id), b"")
    fields = {**bson.decode(document), "at": bson.DatetimeMS(2**62)}
    other = bson.encode({"new": [1], **dict(reversed(fields.items()))})
    for share in shares(5, "source"):
        assert share.takes_message([topic, other, payload]) == share.takes("a", source_id)


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"a"],
        [b"a\0", b""],
        [b"a\0", b"\x05\0\0\0\0", b""],
        [b"a\0", bson.encode({"src": 1}), b""],
        [b"a\0", b"\xff" * 5000, b""],
        [b"a\0", bson.encode({"v": 1, "src": bson.ObjectId()})[:-9], b"", b""],
    ],
)
@pytest.mark.parametrize("by", ["source", "topic"])
def test_a_malformed_message_belongs_to_one_share_too(frames: list[bytes], by: str) -> None:
    """So it is counted once."""
    assert sum(each.takes_message(frames) for each in shares(7, by)) == 1


def test_sources_are_spread_evenly() -> None:
    """As they come: their ids count up."""
    for of in (2, 3, 4, 8):
        sizes = [
            sum(each.takes("a", bson.ObjectId().binary) for _ in range(8000 // of)) for each in shares(of, "source")
        ]
        assert all(abs(size - 8000 / of**2) < 0.25 * 8000 / of**2 for size in sizes)


@given(ids, topics, counts, counts, ways)
def test_the_parts_of_a_share_are_shares(source_id: bytes, topic: str, of: int, parts: int, by: str) -> None:
    """So hosts that share, each with workers of its own, store nothing twice, even if they have not as many."""
    for share in shares(of, by):
        takers = [n for n in range(1, parts + 1) if share.part(n, parts).takes(topic, source_id)]
        assert len(takers) == share.takes(topic, source_id)


@given(st.lists(ids, min_size=200, max_size=200, unique=True), counts, counts, ways, st.data())
def test_shares_that_do_not_overlap_have_no_stream_in_common(
    source_ids: list[bytes], of: int, other_of: int, by: str, data: st.DataObject
) -> None:
    """Whatever each of them is a part of."""
    one = data.draw(st.sampled_from(shares(of, by)))
    two = data.draw(st.sampled_from(shares(other_of, by)))
    assert one.overlaps(two) == two.overlaps(one)
    common = any(one.takes("a", each) and two.takes("a", each) for each in source_ids)
    assert one.overlaps(two) or not common
    assert one.overlaps(one)


@given(topics, counts, ways)
def test_the_sums_of_two_shares_have_different_names(topic: str, of: int, by: str) -> None:
    """Of streams that are not kept one by one; each name is in its share, so that a later division finds it."""
    for name in (topic, "*"):
        takers = [each for each in shares(of, by) if by == "source" or each.takes(name, b"") or name == "*"]
        keys = [remainder_key(name, each) for each in takers if by == "source" or name == "*"]
        assert len(set(keys)) == len(keys)
        assert all(each.takes(name, key.source_id) for each, key in zip(takers, keys, strict=False))
    assert remainder_key(topic) == remainder_key(topic, WHOLE)


@given(counts, ways)
def test_what_a_sink_tells_of_itself_is_in_its_own_share(of: int, by: str) -> None:
    """So it stores that itself, and the others do not."""
    for share in shares(of, by):
        assert share.takes("eventstorm.loss", OwnSource(share).source.id)


def test_a_share_keeps_its_sums_apart_in_ledger_and_books() -> None:
    """And calls them alike in both."""
    share = Share(2, 3)
    own = [share.new_source_id() for _ in range(3)]
    ledger = Ledger(share, max_closed=1)
    books = Books(
        [Book("a", Source(each, "h", "s", 1), 0, 0, 5, 0, stored=5, closed=True) for each in own], share, max_closed=1
    )
    for each in own:
        ledger.observe(Message("a", Header(each, 0, 0, 0, 0, 0, "h", "s", 1, True), b""), 0)
    posting = books.fold()
    assert posting is not None
    [total] = posting.books
    assert total.key == remainder_key("a", share)
    assert total.key in {(each.source.id, each.tid) for each in ledger.snapshot()}


def test_a_stream_that_comes_from_another_share_goes_on_where_its_account_there_ends() -> None:
    """What this share's own account of it says goes into the sum of its topic: the gap is no loss."""
    share = Share(1, 2)
    new, back, gone, behind = (share.new_source_id() for _ in range(4))
    strange = Share(2, 2).new_source_id()

    def book(source_id: bytes, first: int, stop: int, **more: bool) -> Book:
        return Book("a", Source(source_id, "h", "s", 1), 0, first, stop, 7, stored=stop - first, **more)  # type: ignore[arg-type]

    own = {each.key: each for each in (book(back, 0, 10), book(behind, 0, 99))}
    others = [
        book(new, 0, 50),
        book(back, 10, 60),
        book(gone, 0, 5, closed=True),
        book(behind, 0, 9),
        book(strange, 0, 9),
    ]
    changed = {each.key: each for each in handed_over(own, others, share)}
    total = changed.pop(remainder_key("a", share))
    assert (total.stored, total.next_seq) == (10, 10)
    assert {
        key.source_id: (each.first_seq, each.next_seq, each.stored, each.drop) for key, each in changed.items()
    } == {
        new: (50, 50, 0, 7),
        back: (60, 60, 0, 7),
    }


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1/99999999"])
def test_what_is_no_share_is_refused(text: str) -> None:
    """With how to write one."""
    with pytest.raises(SettingError, match="write the second of three as 2/3"):
        Share.parse(text, "source", "sink.share")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("duckdb:x.duckdb", "one process holds a DuckDB file"),
        ("jsonl:-", "keeps no books"),
    ],
)
def test_a_store_that_cannot_be_shared_says_what_to_do(url: str, told: str) -> None:
    """Before it is opened."""
    with pytest.raises(SettingError, match=told):
        open_store(url, SinkSettings(share="1/2"))
