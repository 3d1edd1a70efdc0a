"""``eventstorm plan``: what a rate of events takes, in routers, workers, servers, network, memory and disk."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from eventstorm.cli import DONE, FAILED
from eventstorm.errors import SettingError
from eventstorm_sinks.settings import parse_duration, parse_size

if TYPE_CHECKING:
    from eventstorm_sinks.plan.capacity import Demand, Plan
    from eventstorm_sinks.plan.simulate import Outcome

HELP = "tell what a rate of events takes"

DESCRIPTION = """\
Tell how many routers, sinks, servers, and how much network, memory and disk a rate of
events takes. The answer is as good as the figures that it is made of, which --figures
lists with where each is from: measured on a modest machine, or assumed. Put your own in
their place. With --simulate ten minutes of the peak are simulated, with the planned
workers and with one fewer at each router."""

EPILOG = """\
examples:
  eventstorm plan --rate 20000
  eventstorm plan --rate 1e6 --event-size 300 --keep 30d --store mongodb --simulate
  eventstorm plan --rate 1e6 --figure mongodb.server_events=60000 --json

Exit codes: 0 done, 1 there is no such plan, or the simulated one lost events, 2 wrong
usage."""

DEFAULT_QUEUE_BYTES = 64 * 2**20
# What a busy process of a web application emits; the plan is for many of them.
DEFAULT_RATE_OF_SOURCE = 2_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("--rate", metavar="N", type=float, help="events a second, on average: 5000, 1e6")
    parser.add_argument(
        "--peak", metavar="X", type=float, default=1.5, help="the busiest minutes are so many times that (default: 1.5)"
    )
    parser.add_argument(
        "--event-size", metavar="BYTES", default="200", help="of an event's fields as BSON (default: 200)"
    )
    parser.add_argument(
        "--sources",
        metavar="N",
        type=int,
        help=f"processes that emit (default: one for each {DEFAULT_RATE_OF_SOURCE} events/s)",
    )
    parser.add_argument(
        "--store", metavar="KIND", default="mongodb", help="mongodb, cassandra, duckdb or jsonl (default: mongodb)"
    )
    parser.add_argument("--keep", metavar="TIME", default="30d", help="how long events are kept (default: 30d)")
    parser.add_argument(
        "--replicas", metavar="N", type=int, default=3, help="copies in MongoDB or Cassandra (default: 3)"
    )
    parser.add_argument(
        "--link", metavar="GBIT", type=float, default=10.0, help="a host's network, Gbit/s (default: 10)"
    )
    parser.add_argument(
        "--figure", metavar="NAME=VALUE", action="append", default=[], help="replace a figure; repeatable"
    )
    parser.add_argument("--figures", action="store_true", help="list the figures, and end")
    parser.add_argument("--simulate", action="store_true", help="simulate ten minutes of the peak")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    import msgspec

    from eventstorm_sinks.plan.capacity import make_plan
    from eventstorm_sinks.plan.figures import figures_with
    from eventstorm_sinks.plan.simulate import simulate

    figures = figures_with(arguments.figure)
    if arguments.figures:
        for name, figure in figures.items():
            print(f"{name:28}{figure.value:>10g}  {figure.what} ({figure.source})")
        return DONE
    demand = _demand(arguments)
    plan = make_plan(demand, figures)
    outcomes: list[Outcome] = []
    if arguments.simulate:
        both = (0, 1) if plan.workers_a_router > 1 else (0,)
        outcomes = [simulate(demand, plan, figures, fewer=fewer) for fewer in both]
    if arguments.json:
        document = {
            "demand": asdict(demand),
            "plan": asdict(plan),
            "figures": {name: asdict(figure) for name, figure in figures.items()},
            "simulated": [asdict(each) for each in outcomes],
        }
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    else:
        assumed = [name for name, each in figures.items() if each.source.startswith("assumed")]
        for line in (*_lines(demand, plan, assumed), *map(_simulated, outcomes)):
            print(line)
    return FAILED if outcomes and outcomes[0].lost else DONE


def _demand(arguments: argparse.Namespace) -> Demand:
    from eventstorm_sinks.plan.capacity import Demand
    from eventstorm_sinks.plan.figures import STORES

    if arguments.rate is None:
        raise SettingError("--rate is missing; write events a second, such as --rate 5000")
    for option, least in (("rate", 1e-3), ("peak", 1), ("sources", 1), ("replicas", 1), ("link", 1e-3)):
        value = getattr(arguments, option)
        if value is not None and not least <= value < 1e12:
            raise SettingError(f"--{option}: {value:g} is not {least:g} or more")
    if arguments.store not in STORES:
        raise SettingError(f"--store: {arguments.store!r} is none of {', '.join(STORES)}")
    sources = arguments.sources or max(32, round(arguments.rate / DEFAULT_RATE_OF_SOURCE))
    return Demand(
        rate=arguments.rate,
        event_bytes=int(parse_size(arguments.event_size, "--event-size") or 200),
        sources=min(sources, 1_000_000),
        store=arguments.store,
        keep_s=parse_duration(arguments.keep, "--keep") or 0.0,
        peak=arguments.peak,
        replicas=arguments.replicas,
        queue_bytes=DEFAULT_QUEUE_BYTES,
        link_bits=arguments.link * 1e9,
    )


def _lines(demand: Demand, plan: Plan, assumed: list[str]) -> Iterator[str]:
    what = f"{demand.rate:,.0f} events/s of {demand.event_bytes} bytes"
    yield f"{what} from {demand.sources:,} sources, into {demand.store}"
    yield f"{demand.rate * demand.peak:,.0f} events/s at the peak, which all of this is for"
    yield ""
    for name, (first, *more) in _rows(demand, plan):
        yield f"  {name:10} {first}"
        for each in more:
            yield f"  {'':10} {each}"
    yield ""
    used = [name for name in assumed if name.partition(".")[0] in ("router", "sink", demand.store)]
    yield from textwrap.wrap(
        f"Assumed, not measured: {', '.join(used)}. See --figures, and put in yours by --figure.", 88
    )


def _rows(demand: Demand, plan: Plan) -> Iterator[tuple[str, list[str]]]:
    average_mb_s = plan.wire_bytes_s / 1e6
    yield "network", [f"{average_mb_s:,.1f} MB/s on average, in messages of {plan.events_a_message:,.0f} events"]
    routers = [
        f"{plan.routers}, busy for {plan.router_busy:.0%} of a core, sending {plan.router_out_bits / 1e9:.2f} Gbit/s"
    ]
    yield "routers", routers if plan.routers == 1 else [routers[0].replace(",", ", each", 1)]
    sinks = [f"{plan.workers} workers, {plan.workers_a_router} at each router" if plan.workers > 1 else "1 process"]
    sinks.append(f"the busiest has {plan.largest_share:.2f} x the average's sources: {plan.worker_busy:.0%} of a core")
    if demand.store == "duckdb" and plan.workers > 1:
        sinks.append("each with topics (--topic) and a file of its own, since sinks do not share one there")
    yield "sinks", sinks
    if plan.servers:
        kind = "nodes" if demand.store == "cassandra" else f"servers: {plan.servers // demand.replicas} shards"
        layout = f"cassandra_layout {plan.cassandra_layout}, if one topic has it all"
        servers = f"{plan.servers} {kind}, {demand.replicas} copies"
        yield "store", [servers, layout] if plan.cassandra_layout else [servers]
    yield "disk", [f"{_bytes(plan.disk_bytes)} for {demand.keep_s / 86400:g} days, 30 % of it left free"]
    yield (
        "memory",
        [
            f"{_bytes(plan.sink_memory_bytes)} for all sinks",
            f"up to {_bytes(plan.router_memory_bytes)} for a router whose sinks are slow",
        ],
    )


def _simulated(outcome: Outcome) -> str:
    lost = f"lost {outcome.lost:,}" if outcome.lost else "lost nothing"
    workers = f"{outcome.workers_a_router} workers a router" if outcome.workers_a_router > 1 else "1 worker a router"
    return (
        f"Simulated {outcome.simulated_s / 60:g} minutes of the peak, {workers}:\n"
        f"  of {outcome.emitted:,} events {lost}; the fullest queue was {outcome.fullest:.0%} full"
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB"
