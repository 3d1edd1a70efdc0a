"""``/metrics``: the ledger in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from eventstorm_sinks.live import OTHER_TOPICS
from eventstorm_sinks.snapshot import SinkSnapshot
from eventstorm_sinks.web.account import losses

__all__ = ["CONTENT_TYPE", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_TOPICS = 200
"""Topics that get label values of their own; the rest, by fewest events, is summed up: each is a time series."""

Labels = tuple[tuple[str, str], ...]


def render(snapshot: SinkSnapshot, clients: int) -> str:
    """Return the metrics. What is received counts from the start of this process, what a store has from its books."""
    received: Counter[str] = Counter()
    for row in snapshot.rows:
        received[row.topic] += row.received + sum(each.stored for each in row.stores)
    shown = {topic for topic, _ in received.most_common(MAX_TOPICS)}

    by_topic: Counter[Labels] = Counter()
    stored: Counter[Labels] = Counter()
    lost: Counter[Labels] = Counter()
    for row in snapshot.rows:
        topic = ("topic", row.topic if row.topic in shown else OTHER_TOPICS)
        by_topic[topic,] += row.received
        for each in row.stores:
            stored[topic, ("store", each.store)] += each.stored
        for loss in losses([row]):
            lost[topic, ("reason", loss.reason), ("store", loss.store)] += loss.events
    queues: dict[Labels, int] = {(("store", each.url),): each.queue_bytes for each in snapshot.stores}
    malformed: dict[Labels, int] = {(("reason", reason),): count for reason, count in snapshot.malformed.items()}
    lines = [
        *_metric("eventstorm_events_received_total", "counter", "Events received for the first time.", by_topic),
        *_metric("eventstorm_events_stored_total", "counter", "Events that a store has committed.", stored),
        *_metric("eventstorm_events_lost_total", "counter", "Events lost, by reason.", lost),
        *_metric("eventstorm_messages_malformed_total", "counter", "Messages that were refused.", malformed),
        *_metric("eventstorm_queue_bytes", "gauge", "Bytes that wait for a store.", queues),
        *_metric("eventstorm_page_clients", "gauge", "Browsers that watch the page.", {(): clients}),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, help: str, values: Mapping[Labels, int]) -> Iterable[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
    for labels, value in sorted(values.items()):
        inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels)
        yield f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
