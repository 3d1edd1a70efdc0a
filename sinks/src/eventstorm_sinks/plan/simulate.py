"""Simulating a plan: sources, routers, workers with bounded queues, and stores that pause, minutes of it in seconds.

Steps are as long as a source waits before it sends a batch. Each source sends what chance has it emit in a step, around
its part of the peak rate; a worker takes what its store leaves it time for, from a queue of so many bytes; what finds
no room is lost. Times of work are the figures that the plan was made of, so this shows whether its arithmetic holds
when sources are divided by a real hash, arrive by chance and stores stop now and then; not whether the figures are
right.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from eventstorm.wire import ENVELOPE_BYTES
from eventstorm_sinks.plan.capacity import BATCH_BYTES, HEADER_BYTES, LINGER_S, Demand, Plan, source_ids
from eventstorm_sinks.plan.figures import Figure

__all__ = ["Outcome", "simulate"]

PAUSE_EVERY_S = 10.0
"""A store pauses so often, for as long as makes up its part of the time."""
RECEIVE_MESSAGES = 2000
"""What ZeroMQ holds for a sink in addition to its queue."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the events of a simulated time."""

    emitted: int
    stored: int
    lost: int
    waiting: int
    """At the end, in all queues. `emitted` is the sum of the other three."""
    fullest: float
    """The most that a queue ever held, as a part of what it may."""
    workers_a_router: int
    simulated_s: float


def simulate(
    demand: Demand,
    plan: Plan,
    figures: Mapping[str, Figure],
    *,
    fewer: int = 0,
    duration_s: float = 600.0,
    seed: int = 1,
) -> Outcome:
    """Run the plan at its peak rate, with `fewer` workers at each router.

    Args:
        demand: what is to be stored.
        plan: made for that.
        figures: the plan's.
        fewer: than the plan has; at least one is left.
        duration_s: of simulated time.
        seed: of chance; the same gives the same outcome.
    """
    chance = random.Random(seed)
    workers = max(plan.workers_a_router - fewer, 1)
    event_us = figures[f"{demand.store}.event_us"].value
    skip_us = figures["sink.skip_us"].value
    stall = figures["sink.stall"].value
    message_bytes = plan.events_a_message * (demand.event_bytes + ENVELOPE_BYTES) + HEADER_BYTES
    skip_us *= max(message_bytes / BATCH_BYTES, 0.1)
    # Memory that an event takes while it waits, the message's own part included.
    room = int((demand.queue_bytes + RECEIVE_MESSAGES * message_bytes) / (message_bytes / plan.events_a_message))
    sources = [[0] * workers for _ in range(plan.routers)]
    for number, each in enumerate(source_ids(demand.sources)):
        sources[number % plan.routers][zlib.crc32(each) % workers] += 1
    a_source = demand.rate * demand.peak / demand.sources * LINGER_S
    emitted = stored = lost = waiting = 0
    fullest = 0.0
    steps = int(duration_s / LINGER_S)
    for counts in sources:
        total = sum(counts)
        for own in counts:
            mean = own * a_source
            spread = sqrt(mean)
            # What is left of a step's time when others' messages have been left out.
            skipped_s = (total - own) * a_source / plan.events_a_message * skip_us / 1e6
            takes = max(LINGER_S - skipped_s, 0.0) * 1e6 / event_us
            queue, taken = 0, 0.0
            pause_s = PAUSE_EVERY_S * stall
            phase_s = chance.random() * PAUSE_EVERY_S
            for step in range(steps):
                # The sum of many sources' chances is close to a normal one.
                arrived = max(int(chance.gauss(mean, spread) + 0.5), 0)
                emitted += arrived
                queue += arrived
                if (step * LINGER_S + phase_s) % PAUSE_EVERY_S >= pause_s:
                    taken += takes
                    done = min(int(taken), queue)
                    taken = 0.0 if done == queue else taken - done
                    queue -= done
                    stored += done
                if queue > room:
                    lost += queue - room
                    queue = room
                if queue > fullest:
                    fullest = queue
            waiting += queue
    return Outcome(emitted, stored, lost, waiting, fullest / room, workers, duration_s)
