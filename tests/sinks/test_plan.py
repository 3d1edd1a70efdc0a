"""``eventstorm plan``: a plan holds when it is simulated, a smaller one does not, and figures can be replaced."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from eventstorm.errors import EventstormError
from eventstorm_sinks.plan.capacity import Demand, largest_share, make_plan
from eventstorm_sinks.plan.figures import FIGURES, STORES, figures_with
from eventstorm_sinks.plan.simulate import simulate

PROGRAM = str(Path(sys.executable).with_name("eventstorm"))
DEMAND = Demand(
    rate=1e6,
    event_bytes=200,
    sources=500,
    store="mongodb",
    keep_s=30 * 86400,
    peak=1.5,
    replicas=3,
    queue_bytes=64 * 2**20,
    link_bits=1e10,
)


def test_a_plan_for_a_million_events_a_second_loses_nothing_and_with_a_worker_less_it_does() -> None:
    """Over ten minutes of its peak, simulated event for event; what is emitted is stored, lost or waits."""
    plan = make_plan(DEMAND, FIGURES)
    planned = simulate(DEMAND, plan, FIGURES)
    fewer = simulate(DEMAND, plan, FIGURES, fewer=1)
    assert planned.emitted == pytest.approx(1.5e6 * 600, rel=0.001)
    assert planned.lost == 0
    assert fewer.lost > 0.001 * fewer.emitted
    for each in (planned, fewer):
        assert each.emitted == each.stored + each.lost + each.waiting


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("rate", [100, 20_000, 300_000])
def test_every_plan_holds(store: str, rate: int) -> None:
    """Of each store, small or large: nobody is busier than may be, and a simulation loses nothing."""
    demand = replace(DEMAND, rate=rate, store=store, sources=max(64, rate // 1000))
    plan = make_plan(demand, FIGURES)
    assert plan.router_busy <= 0.6
    assert plan.worker_busy <= 0.9
    assert plan.workers == plan.routers * plan.workers_a_router
    assert bool(plan.servers) == (store in ("mongodb", "cassandra"))
    assert simulate(demand, plan, FIGURES, duration_s=120).lost == 0


def test_more_takes_more() -> None:
    """Of everything that a rate, a size or a time decides on."""
    plan = make_plan(DEMAND, FIGURES)
    faster = make_plan(replace(DEMAND, rate=2e6, sources=1000), FIGURES)
    larger = make_plan(replace(DEMAND, event_bytes=400), FIGURES)
    longer = make_plan(replace(DEMAND, keep_s=60 * 86400), FIGURES)
    assert faster.workers > plan.workers
    assert faster.servers > plan.servers
    assert larger.wire_bytes_s > 1.5 * plan.wire_bytes_s
    assert longer.disk_bytes == pytest.approx(2 * plan.disk_bytes)


def test_a_narrow_link_takes_more_routers() -> None:
    """As each of a router's workers receives all of its messages."""
    assert make_plan(replace(DEMAND, link_bits=2e9), FIGURES).routers > make_plan(DEMAND, FIGURES).routers


def test_the_largest_share_is_no_less_than_the_average() -> None:
    """And more where few sources are divided among many."""
    assert largest_share(1000, 1, 1) == 1
    assert 1 < largest_share(10_000, 1, 4) < 1.1
    assert largest_share(16, 1, 8) >= 1.5


def test_sources_that_are_too_few_to_be_divided_are_told() -> None:
    """All of a source's events go to one worker."""
    with pytest.raises(EventstormError, match="Plan with more sources"):
        make_plan(replace(DEMAND, sources=2), FIGURES)


def test_absurd_rates_are_planned_or_refused_in_seconds() -> None:
    """Where each try divides a hundred thousand sources, not all numbers of routers can be tried."""
    large = replace(DEMAND, rate=2e8, sources=100_000)
    began_s = time.process_time()
    plan = make_plan(large, FIGURES)
    with pytest.raises(EventstormError, match="more than 10,000 routers"):
        make_plan(replace(large, rate=1e11), FIGURES)

    assert time.process_time() - began_s < 20  # it was minutes
    assert plan.routers * 1e6 == pytest.approx(large.rate * make_plan(DEMAND, FIGURES).routers, rel=0.1)


def test_every_figure_has_a_source_and_can_be_replaced() -> None:
    """Which is told then."""
    assert all(each.source.startswith(("measured", "assumed", "docs/")) for each in FIGURES.values())
    figures = figures_with(["mongodb.server_events=50000"])
    assert figures["mongodb.server_events"].source == "as you said"
    assert make_plan(DEMAND, figures).servers == make_plan(DEMAND, FIGURES).servers // 2


def test_cassandra_gets_a_layout_whose_partitions_are_small_enough() -> None:
    """Buckets of an hour where they suffice, shorter ones in more shards where they do not."""
    slow, fast = (make_plan(replace(DEMAND, rate=rate, store="cassandra"), FIGURES) for rate in (25, 1e6))
    assert slow.cassandra_layout == "1h/1"
    assert fast.cassandra_layout == "1m/600"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run([PROGRAM, "plan", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_what_people_and_programs_read() -> None:
    """With what was only assumed."""
    done = run("--rate", "1e6", "--simulate")
    assert done.returncode == 0
    for part in ("1,000,000 events/s", "routers", "workers", "shards", "disk", "memory", "Assumed, not measured"):
        assert part in done.stdout
    assert done.stdout.count("Simulated 10 minutes") == 2
    assert done.stdout.count("lost nothing") == 1
    document = json.loads(run("--rate", "5000", "--store", "duckdb", "--json").stdout)
    assert document["plan"]["workers"] == 1
    assert document["figures"]["duckdb.event_us"]["value"] == FIGURES["duckdb.event_us"].value
    assert "mongodb.event_us" in run("--figures").stdout


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        ((), "--rate is missing", 2),
        (("--rate", "0"), "--rate: 0 is not", 2),
        (("--rate", "nan"), "--rate: nan is not", 2),
        (("--rate", "1", "--store", "oracle"), "none of mongodb, cassandra, duckdb, jsonl", 2),
        (("--rate", "1", "--keep", "long"), "--keep: 'long' is not understood", 2),
        (("--rate", "1", "--keep", "9" * 400 + "d"), "d' is too much", 2),
        (("--rate", "1", "--event-size", "9" * 400), "' is too much", 2),
        (("--rate", "1", "--event-size", "big"), "--event-size: 'big' is not understood", 2),
        (("--rate", "1", "--figure", "router.mib_uss=3"), "did you mean 'router.mib_us'?", 2),
        (("--rate", "1", "--figure", "router.mib_us=-3"), "is no number above 0", 2),
        (("--rate", "1e6", "--sources", "1"), "Plan with more sources", 1),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments: tuple[str, ...], told: str, code: int) -> None:
    """With the option and what it takes."""
    done = run(*arguments)
    assert done.returncode == code
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
