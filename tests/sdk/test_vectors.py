"""The language-neutral vectors are up to date, and this SDK agrees with each."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import bson
import pytest
from bson import json_util

from eventstorm.errors import WireError
from eventstorm.topics import is_valid_topic, subscription
from eventstorm.wire import decode_message, event_id

FOLDER = Path(__file__).parents[2] / "sdk" / "vectors"
FILES = ["valid.json", "invalid.json", "ledger.json", "topics.json"]


def _load(name):
    return json.loads((FOLDER / name).read_text("utf-8"))


def _named(name):
    return [pytest.param(vector, id=vector["name"]) for vector in _load(name)]


@pytest.mark.parametrize("name", FILES)
def test_generating_again_gives_the_same_files(name):
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert sorted(generate.FILES) == sorted(FILES)
    assert (FOLDER / name).read_text("utf-8") == generate.text_of(name)


@pytest.mark.parametrize("vector", _named("valid.json"))
def test_valid_messages_mean_what_is_said(vector):
    message = decode_message([bytes.fromhex(frame) for frame in vector["frames"]])
    header = message.header
    found = {
        "topic": message.topic,
        "src": header.source_id.hex(),
        "tid": header.tid,
        "seq": header.seq,
        "n": header.n,
        "drop": header.drop,
        "at_ms": header.at_ms,
        "host": header.host,
        "service": header.service,
        "pid": header.pid,
        "bye": header.bye,
        "events": [
            {
                "id": event_id(header.source_id, header.tid, event.seq).hex(),
                "ts_ms": event.ts_ms,
                "data": json.loads(
                    json_util.dumps(bson.decode(event.data), json_options=json_util.CANONICAL_JSON_OPTIONS)
                ),
            }
            for event in message.events()
        ],
    }
    assert found == vector["meaning"]


@pytest.mark.parametrize("vector", _named("invalid.json"))
def test_invalid_messages_are_rejected_for_the_reason_given(vector):
    with pytest.raises(WireError) as caught:
        decode_message([bytes.fromhex(frame) for frame in vector["frames"]])
    assert caught.value.reason == vector["reason"]


@pytest.mark.parametrize("vector", _named("ledger.json"))
def test_a_ledgers_account_adds_up(vector):
    account = vector["account"]
    assert account["next_seq"] - account["first_seq"] == (
        account["received"] + account["lost_source"] + account["lost_way"]
    )


def test_topics():
    vectors = _load("topics.json")
    assert [topic for topic in vectors["valid"] if not is_valid_topic(topic)] == []
    assert [topic for topic in vectors["invalid"] if is_valid_topic(topic)] == []


def test_subscriptions():
    vectors = _load("topics.json")
    for each in vectors["subscriptions"]:
        assert subscription(each["pattern"]).hex() == each["prefix"]
    for pattern in vectors["invalid_subscriptions"]:
        with pytest.raises(ValueError, match="is no topic"):
            subscription(pattern)
