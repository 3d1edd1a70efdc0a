"""``eventstorm top``: what arrives and what is lost, by topic and source, as a live table."""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eventstorm.cli import DONE
from eventstorm.endpoints import DEFAULT_HTTP
from eventstorm.errors import EventstormError, SettingError
from eventstorm.settings import load
from eventstorm_sinks.settings import SinkSettings

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["HELP", "Rate", "add_arguments", "rates", "run"]

HELP = "show rates and losses by topic and source, live"

TIMEOUT_S = 5.0
LEAST_INTERVAL_S = 0.1


class Rate(NamedTuple):
    """One topic of one source, over the last interval."""

    topic: str
    source: str
    """``service@host:pid``."""
    events_per_s: float
    bytes_per_s: float
    received: int
    """Events since the server started."""
    lost: dict[str, int]
    """Events by reason (``source``, ``way``, ``overflow``, ``refused``); empty if none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = "Show what a running server receives: rate, bytes and losses of each topic and source."
    parser.epilog = "It asks /api/ledger of `eventstorm up` or of a sink with --http. Ctrl-C ends it."
    parser.add_argument("--url", help=f"the server to ask (default: sink.http, else http://{DEFAULT_HTTP})")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (default: %(default)s)"
    )
    parser.add_argument("--once", action="store_true", help="print one interval and end")
    parser.add_argument("--json", action="store_true", help="one JSON object a line and interval")
    parser.add_argument("--config", metavar="FILE", type=Path, help="read this file in place of eventstorm.toml")


def run(arguments: argparse.Namespace) -> int:
    """Show until interrupted.

    Raises:
        EventstormError: the server does not answer.
        SettingError: the interval or the configuration is wrong.
    """
    if not arguments.interval >= LEAST_INTERVAL_S:
        raise SettingError(f"--interval: {arguments.interval} is too short; give {LEAST_INTERVAL_S} seconds or more")
    url = arguments.url or f"http://{load(SinkSettings, 'sink', {}, arguments.config).http or DEFAULT_HTTP}"
    try:
        if arguments.json:
            _print_json(arguments, url)
        else:
            _show_table(arguments, url)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return DONE


def _print_json(arguments: argparse.Namespace, url: str) -> None:
    before = _fetch(url)
    while True:
        time.sleep(arguments.interval)
        now = _fetch(url)
        rows = [each._asdict() for each in rates(before, now)]
        print(json.dumps({"at_s": now["at_s"], "rows": rows, "malformed": now["malformed"]}), flush=True)
        if arguments.once:
            return
        before = now


def _show_table(arguments: argparse.Namespace, url: str) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    before = _fetch(url)
    if arguments.once or not console.is_terminal:
        while True:
            time.sleep(arguments.interval)
            now = _fetch(url)
            console.print(_table(rates(before, now), now, None))
            if arguments.once:
                return
            before = now
    # On the alternate screen, so that the terminal is afterwards as it was before.
    with Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(_table(rates(before, before), before, console.height), refresh=True)
        while True:
            time.sleep(arguments.interval)
            now = _fetch(url)
            live.update(_table(rates(before, now), now, console.height), refresh=True)
            before = now


def rates(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Rate]:
    """Return what happened between two answers of ``/api/ledger``, the busiest first.

    Without sources that this server knows from its store's books alone, unless they lost something.
    """
    elapsed_s = max(now["at_s"] - before["at_s"], 1e-3)
    old = {_key(each): each for each in before["streams"]}
    found = []
    for each in now["streams"]:
        if not each["received"] and not each["lost"]:
            continue
        then = old.get(_key(each), {"received": 0, "size_bytes": 0})
        source = each["source"]
        found.append(
            Rate(
                each["topic"],
                f"{source['service']}@{source['host']}:{source['pid']}" if each["tid"] >= 0 else "(closed before)",
                # A server that was restarted counts from 0 again.
                max(0, each["received"] - then["received"]) / elapsed_s,
                max(0, each["size_bytes"] - then["size_bytes"]) / elapsed_s,
                each["received"],
                each["lost"],
            )
        )
    return sorted(found, key=lambda each: (-each.events_per_s, -sum(each.lost.values()), each.topic, each.source))


def _key(stream: Mapping[str, Any]) -> tuple[str, int]:
    return stream["source"]["id"], stream["tid"]


def _table(rows: list[Rate], ledger: Mapping[str, Any], height: int | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    lost = sum(sum(each.lost.values()) for each in rows)
    malformed = sum(ledger["malformed"].values())
    title = Text.assemble(
        f"{sum(each.events_per_s for each in rows):,.0f} events/s, ",
        f"{_bytes(sum(each.bytes_per_s for each in rows))}/s, ",
        (f"{lost:,} lost", "bold red") if lost else ("no losses", "green"),
        f", {malformed:,} malformed messages" if malformed else "",
    )
    table = Table(title=title, title_justify="left", title_style="", expand=True, box=None, pad_edge=False)
    table.add_column("topic", no_wrap=True, ratio=3)
    table.add_column("source", no_wrap=True, ratio=3)
    for name in ("events/s", "bytes/s", "received", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("where", no_wrap=True, ratio=2)
    # Title, head, and a line that says how many did not fit.
    room = len(rows) if height is None or len(rows) <= height - 2 else max(height - 3, 1)
    for each in rows[:room]:
        total = sum(each.lost.values())
        table.add_row(
            # Text, not markup, and nothing that a terminal would obey: names come from strangers.
            Text(_printable(each.topic)),
            Text(_printable(each.source), style="dim"),
            f"{each.events_per_s:,.1f}",
            _bytes(each.bytes_per_s),
            f"{each.received:,}",
            Text(f"{total:,}" if total else "", style="bold red"),
            Text(", ".join(f"{reason} {count:,}" for reason, count in each.lost.items()), style="red"),
        )
    if len(rows) > room:
        table.add_row(Text(f"… and {len(rows) - room} more", style="dim"))
    return table


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _fetch(url: str) -> dict[str, Any]:
    # No proxy: the server is this machine's, or one that was named on purpose.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/api/ledger", timeout=TIMEOUT_S) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    except urllib.error.HTTPError as error:
        raise EventstormError(f"{url}: answered {error.code} {error.reason}; is it an Eventstorm server?") from None
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise EventstormError(
            f"{url}: no server answers ({reason}); start one with `eventstorm up`, or name another with --url"
        ) from None
