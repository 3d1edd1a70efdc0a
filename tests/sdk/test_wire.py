"""What is written is read back, and no bytes whatever raise anything but `WireError`."""

from __future__ import annotations

import contextlib

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstorm.errors import WireError
from eventstorm.wire import Header, decode_message, encode_event, encode_message, event_id

# Examples are not kept, so that a run leaves no files behind; a busy machine is no failure.
quick = settings(database=None, max_examples=60)

INT31, INT63 = st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
DOCUMENTS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | TEXT | st.binary(max_size=20),
    max_size=5,
)
TOPICS = st.from_regex(r"[a-z0-9_-]{1,10}(\.[a-z0-9_-]{1,10}){0,5}", fullmatch=True)


@st.composite
def messages(draw):
    """Draw a topic, a header that fits, and the events of a message."""
    events = draw(st.lists(st.tuples(INT64, DOCUMENTS.map(bson.encode)), max_size=5))
    seq = draw(st.integers(0, 2**63 - 1 - len(events)))
    header = Header(
        source_id=draw(st.binary(min_size=12, max_size=12)),
        tid=draw(INT31),
        seq=seq,
        n=len(events),
        drop=draw(st.integers(0, seq + len(events)).filter(lambda drop: drop < 2**63)),
        at_ms=draw(INT64),
        host=draw(TEXT),
        service=draw(TEXT),
        pid=draw(INT31),
        bye=draw(st.booleans()),
    )
    return draw(TOPICS), header, events


def _encoded(topic, header, events):
    return encode_message(topic, header, b"".join(encode_event(*event) for event in events))


@quick
@given(messages())
def test_what_is_written_is_read_back(drawn):
    topic, header, events = drawn
    message = decode_message(_encoded(topic, header, events))
    assert (message.topic, message.header) == (topic, header)
    assert [(event.ts_ms, event.data) for event in message.events()] == events
    assert [event.seq for event in message.events()] == list(range(header.seq, header.seq + header.n))


@quick
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_arbitrary_bytes_raise_nothing_else(frames):
    with contextlib.suppress(WireError):
        list(decode_message(frames).events())


@settings(quick, max_examples=200)
@given(messages(), st.integers(0, 2), st.data())
def test_damaged_messages_raise_nothing_else(drawn, number, data):
    frames = _encoded(*drawn)
    frame = bytearray(frames[number])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frame)))
        how = data.draw(st.sampled_from(["change", "cut", "insert"]))
        if how == "cut":
            del frame[at : at + data.draw(st.integers(1, 8))]
        elif how == "insert":
            frame[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        elif at < len(frame):
            frame[at] = data.draw(st.integers(0, 255))
    frames[number] = bytes(frame)
    with contextlib.suppress(WireError):
        for event in decode_message(frames).events():
            assert len(event.data) >= 5


@quick
@given(DOCUMENTS, INT64)
def test_an_event_is_the_bson_that_the_specification_says(document, ts_ms):
    data = bson.encode(document)
    assert encode_event(ts_ms, data) == bson.encode({"ts": bson.DatetimeMS(ts_ms), "data": bson.decode(data)})


def test_identities_sort_by_source_topic_and_number():
    source = bytes(12)
    identities = [event_id(source, tid, seq) for tid in (0, 1, 256) for seq in (0, 1, 255, 256, 2**63 - 1)]
    assert identities == sorted(identities)
    assert {len(each) for each in identities} == {24}


def test_a_header_nested_to_its_limit_raises_nothing_else():
    document = b"\x05\0\0\0\0"
    while len(document) < 4000:
        document = (len(document) + 8).to_bytes(4, "little") + b"\x03a\0" + document + b"\0"
    with pytest.raises(WireError):
        decode_message([b"a\0", document, b""])
