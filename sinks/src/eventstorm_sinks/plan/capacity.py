"""Capacity: what a rate of events takes. Pure arithmetic on figures; nothing is measured here.

A router passes each message to all sinks that listen to it, and each leaves out what is another's share. So a router
with many workers copies much, and several routers, each with workers of its own, copy less: the plan is the one with
the fewest routers of those whose routers and workers are not too busy at the peak.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from eventstorm.errors import EventstormError
from eventstorm.wire import ENVELOPE_BYTES
from eventstorm_sinks.plan.figures import Figure

__all__ = ["Demand", "Plan", "make_plan", "source_ids"]

BATCH_BYTES, LINGER_S = 64 * 2**10, 0.02
"""As sources have them by default."""
HEADER_BYTES = 200
"""Of a message: topic, header, and what ZeroMQ and TCP add."""
ROUTER_MOST = 0.6
"""A router's two threads may be so busy at the peak: what it cannot pass at once is lost at its high-water mark."""
DISK_MOST, LINK_MOST = 0.7, 0.6
MAX_WORKERS_A_ROUTER, MAX_ROUTERS = 16, 10_000


@dataclass(frozen=True, slots=True)
class Demand:
    """What is to be stored."""

    rate: float
    """Events a second, on average."""
    event_bytes: int
    """Of the user's document, as BSON."""
    sources: int
    """Processes that emit."""
    store: str
    keep_s: float
    peak: float
    """The busiest minutes, as a multiple of the average."""
    replicas: int
    """Copies that the store keeps."""
    queue_bytes: int
    link_bits: float
    """Of a host's network, bits a second."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes."""

    events_a_message: float
    wire_bytes_s: float
    """Of all sources together, on average."""
    routers: int
    router_busy: float
    """Of one core, at the peak."""
    router_out_bits: float
    """What a router sends at the peak, bits a second."""
    workers_a_router: int
    workers: int
    worker_busy: float
    """Of one core: the worker with the largest share, at the peak."""
    largest_share: float
    """What that one has, as a multiple of the average: sources are divided by a hash."""
    servers: int
    """Shards or nodes of the store, each copy of a shard counted; 0 where files are on the sinks' own disks."""
    cassandra_layout: str
    disk_bytes: float
    """For all copies, 30 % of it left free."""
    sink_memory_bytes: float
    """Of all workers."""
    router_memory_bytes: float
    """Of each router, while all of its sinks are slow."""


@lru_cache(maxsize=4)
def source_ids(count: int) -> tuple[bytes, ...]:
    """Return as many ids as sources might have: always the same, so that a plan can be repeated."""
    chance = random.Random(count)
    return tuple(chance.randbytes(12) for _ in range(count))


def largest_share(sources: int, routers: int, workers: int) -> float:
    """Return what the worker with the most sources has, as a multiple of the average."""
    shares = Counter((n % routers, zlib.crc32(each) % workers) for n, each in enumerate(source_ids(sources)))
    return max(shares.values()) * routers * workers / sources


def make_plan(demand: Demand, figures: Mapping[str, Figure]) -> Plan:
    """Return the smallest plan that holds at the peak; of more than 200 routers, one within a hundredth of it.

    Raises:
        EventstormError: there is none: too few sources to divide, say, or too many events.
    """
    value = {name: figure.value for name, figure in figures.items()}
    event_bytes = demand.event_bytes + ENVELOPE_BYTES
    a_source_s = demand.rate / demand.sources
    events_a_message = max(min(BATCH_BYTES / event_bytes, a_source_s * LINGER_S), 1.0)
    message_bytes = events_a_message * event_bytes + HEADER_BYTES
    messages_s = demand.rate * demand.peak / events_a_message
    pass_us = value["router.message_us"] + value["router.mib_us"] * message_bytes / 2**20
    skip_us = value["sink.skip_us"] * max(message_bytes / BATCH_BYTES, 0.1)
    event_us = value[f"{demand.store}.event_us"]
    worker_most = 1 - value["sink.stall"]

    def busy_with(share: float) -> float:
        """Return how busy the worker is that has so many times the average's sources."""
        own_s = min(a_router_s / workers * share, a_router_s)
        return (own_s * events_a_message * event_us + (a_router_s - own_s) * skip_us) / 1e6

    routers = 0
    while (routers := routers + max(routers // 100, 1)) <= min(MAX_ROUTERS, demand.sources):
        a_router_s = messages_s / routers
        for workers in range(1, MAX_WORKERS_A_ROUTER + 1):
            router_busy = a_router_s * pass_us * (1 + value["router.further_sink"] * (workers - 1)) / 1e6
            out_bits = a_router_s * message_bytes * workers * 8
            if router_busy > ROUTER_MOST or (out_bits > demand.link_bits * LINK_MOST and workers > 1):
                break
            if routers * workers > demand.sources:
                break
            # No division is better than an even one, or than all of it where others' messages cost more than one's own.
            if min(busy_with(1), busy_with(workers)) > worker_most:
                continue
            share = largest_share(demand.sources, routers, workers)
            if (busy := busy_with(share)) <= worker_most:
                return _plan(demand, value, events_a_message, message_bytes, routers, workers, router_busy, out_bits,
                             busy, share)  # fmt: skip
    if routers > MAX_ROUTERS:
        raise EventstormError(f"it takes more than {MAX_ROUTERS:,} routers, for which nothing here was thought out")
    raise EventstormError(
        f"{demand.sources} sources cannot be divided so that each worker has no more than it can store: a source's "
        "events all go to one worker. Plan with more sources (--sources), or less for each"
    )


def _plan(
    demand: Demand,
    value: Mapping[str, float],
    events_a_message: float,
    message_bytes: float,
    routers: int,
    workers: int,
    router_busy: float,
    out_bits: float,
    busy: float,
    share: float,
) -> Plan:
    a_server = value.get(f"{demand.store}.server_events")
    copies = demand.replicas if a_server else 1
    servers = ceil(demand.rate * demand.peak / a_server) * copies if a_server else 0
    stored = demand.event_bytes * value[f"{demand.store}.stored"] + value[f"{demand.store}.event_bytes"]
    return Plan(
        events_a_message=events_a_message,
        wire_bytes_s=demand.rate / events_a_message * message_bytes,
        routers=routers,
        router_busy=router_busy,
        router_out_bits=out_bits,
        workers_a_router=workers,
        workers=routers * workers,
        worker_busy=busy,
        largest_share=share,
        servers=servers,
        cassandra_layout=_layout(demand.rate, value) if demand.store == "cassandra" else "",
        disk_bytes=demand.rate * demand.keep_s * stored * copies / DISK_MOST,
        sink_memory_bytes=routers * workers * (value["sink.mib"] * 2**20 + 1.5 * demand.queue_bytes),
        # A high-water mark of 1,000 messages at each end, for each sink.
        router_memory_bytes=30 * 2**20 + workers * 2000 * message_bytes,
    )


def _layout(rate: float, value: Mapping[str, float]) -> str:
    """Return buckets and shards for a topic that has all of the rate."""
    for width_s, name in ((3600, "1h"), (600, "10m"), (60, "1m")):
        shards = ceil(rate * width_s / value["cassandra.partition_events"])
        if shards <= 64 or width_s == 60:
            return f"{name}/{shards}"
    raise AssertionError
