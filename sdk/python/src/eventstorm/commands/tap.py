"""``eventstorm tap``: print events as they pass."""

from __future__ import annotations

import argparse
import math
import sys
import time

from eventstorm.cli import DONE
from eventstorm.endpoints import DEFAULT_EGRESS
from eventstorm.errors import SettingError
from eventstorm.settings import SdkSettings, load
from eventstorm.topics import subscription

HELP = "print events as they pass"

DESCRIPTION = """\
Print events as they pass, one a line: local time, topic, service@host, fields.

What is tapped is what sources then send: tapping debug. switches detailed events on
in every program that has some, and leaving switches them off again."""

EPILOG = """\
examples:
  eventstorm tap                          everything
  eventstorm tap shop.order http.         one topic, and all that begin with http.
  eventstorm tap --json cpu. | jq .data

With --json, each line is an object with _id, ts, topic, source and data, in MongoDB's
relaxed Extended JSON. Exit codes: 0 done, 130 ended by Ctrl-C."""

# Then a hint is printed, for who taps where no router is.
HINT_AFTER_S = 3.0
_POLL_S = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "topics", nargs="*", metavar="TOPIC", help="a topic (shop.order) or a subtree (shop. or 'shop.*'); default: all"
    )
    parser.add_argument("--egress", metavar="ENDPOINT", help=f"the router's egress (default: {DEFAULT_EGRESS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--count", type=_count, metavar="N", help="end after N events")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="end after S seconds")


def run(arguments: argparse.Namespace) -> int:
    """Print events until there were enough, or Ctrl-C."""
    # Not for `eventstorm --help`, which imports this module too.
    import zmq

    from eventstorm.commands._lines import Printer

    settings = load(SdkSettings, "sdk", {"egress": arguments.egress})
    if not settings.egress:
        raise SettingError("sdk.egress: tap needs the egress of a router")
    prefixes = [_prefix(each) for each in arguments.topics] or [b""]
    printer = Printer(sys.stdout, as_json=arguments.json, most=arguments.count or math.inf)
    deadline = time.monotonic() + (arguments.seconds or math.inf)
    hint_at = time.monotonic() + HINT_AFTER_S
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.rcvhwm = 1000
        subscriber.maxmsgsize = 64 * 2**20
        subscriber.ipv6 = settings.egress.startswith("tcp://[")
        subscriber.reconnect_ivl, subscriber.reconnect_ivl_max = 100, 2_000
        for prefix in prefixes:
            subscriber.subscribe(prefix)
        subscriber.connect(settings.egress)
        try:
            while not printer.done and (left_s := deadline - time.monotonic()) > 0:
                if not printer.events and time.monotonic() >= hint_at:
                    hint_at = math.inf
                    _say(f"nothing yet from {settings.egress}; is a router running there?")
                if subscriber.poll(math.ceil(min(_POLL_S, left_s) * 1000)):
                    printer.print(subscriber.recv_multipart())
        finally:
            if printer.malformed:
                _say(f"left out {printer.malformed} malformed messages or events")
    return DONE


def _say(text: str) -> None:
    print(f"eventstorm tap: {text}", file=sys.stderr, flush=True)


def _prefix(topic: str) -> bytes:
    try:
        return subscription(topic)
    except ValueError as error:
        raise SettingError(str(error)) from None


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    if not (number := float(text)) > 0:
        raise ValueError
    return number


_count.__name__, _seconds.__name__ = "number of events", "number of seconds"  # as argparse calls them in its errors
