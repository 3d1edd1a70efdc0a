"""Customers for either shop: ``python load.py --requests 500``. The same numbers make the same requests in any run."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

CUSTOMERS = 8


@dataclass(frozen=True)
class Asked:
    """A request and what came back."""

    method: str
    path: str
    status: int
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True)
class Wish:
    """A request to make."""

    method: str
    path: str
    content: dict[str, Any] = field(default_factory=dict)


def wishes(requests: int, seed: int) -> Iterator[Wish]:
    """Yield so many requests, always the same ones for a seed: mostly good ones, each kind of bad ones too."""
    chance = random.Random(seed)
    for _ in range(requests):
        number = chance.randint(1, 6)  # one more than there are
        yield chance.choices(
            [
                Wish("GET", "/"),
                Wish("HEAD", "/"),
                Wish("GET", f"/item/{number}"),
                Wish("GET", f"/i/{number}"),
                Wish("GET", "/prices.csv"),
                Wish("POST", "/order", {"json": {"item": number, "count": chance.randint(1, 9)}}),
                Wish("PUT", f"/admin/item/{number}", {"content": f"{chance.randint(1, 50)}.5"}),
                Wish("DELETE", f"/admin/item/{number}"),
                Wish("GET", "/admin/average"),
                Wish("GET", f"/nowhere/{number}"),
            ],
            weights=[10, 3, 30, 10, 5, 25, 5, 3, 4, 5],
        )[0]


async def shop(url: str, requests: int, seed: int = 7) -> Counter[Asked]:
    """Make the requests, a few at a time, and count what came back."""
    left, seen = wishes(requests, seed), Counter[Asked]()

    async def customer(client: httpx.AsyncClient) -> None:
        for wish in left:
            answer = await client.request(wish.method, wish.path, **wish.content)
            sent, received = len(answer.request.content), len(answer.content)
            seen[Asked(wish.method, wish.path, answer.status_code, sent, received)] += 1

    # A connection for each request: uvicorn closes one when an application has raised, which a second would run into.
    limits = httpx.Limits(max_keepalive_connections=0)
    # A shop that is starting may take some seconds to open: these are 7.5 s.
    transport = httpx.AsyncHTTPTransport(limits=limits, retries=5)
    async with httpx.AsyncClient(base_url=url, timeout=30, transport=transport) as client:
        await asyncio.gather(*(customer(client) for _ in range(CUSTOMERS)))
    return seen


def main() -> int:
    """Read the arguments, shop, and tell."""
    parser = argparse.ArgumentParser(description="Customers for the shop: the same requests in every run.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the shop is [%(default)s]")
    parser.add_argument("--requests", type=int, default=500, help="how many to make [%(default)s]")
    parser.add_argument("--json", action="store_true", help="print each kind of request and its count, a line each")
    arguments = parser.parse_args()

    start_s = time.perf_counter()
    try:
        seen = asyncio.run(shop(arguments.url, arguments.requests))
    except httpx.TransportError as error:
        print(f"load.py: {arguments.url}: {error!r}; is the shop running?", file=sys.stderr)
        return 1
    duration_s = time.perf_counter() - start_s

    if arguments.json:
        for asked, count in seen.items():
            print(json.dumps({**asdict(asked), "requests": count}))
        return 0
    by_status = Counter[int]()
    for asked, count in seen.items():
        by_status[asked.status] += count
    for status, count in sorted(by_status.items()):
        print(f"{status}  {count:6,}")
    print(f"{seen.total():,} requests in {duration_s:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
