"""Every public name of the SDK as its users write it, for the type checkers; this file is never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import eventstorm
import eventstorm.testing
from eventstorm.settings import SdkSettings
from eventstorm.testing import CapturedEvent, CapturedEvents

version: str = eventstorm.__version__

accepted: bool = eventstorm.emit("shop.order")
accepted = eventstorm.emit("shop.order", {"total": 42.5}, items=3)
accepted = eventstorm.emit("shop.order", topic="a field", event="another")
wanted: bool = eventstorm.wanted("debug.sql")
stats: dict[str, Any] = eventstorm.stats()
flushed: bool = eventstorm.flush()
flushed = eventstorm.flush(timeout_s=1.0)
eventstorm.close()
eventstorm.close(timeout_s=0.5)
eventstorm.configure(endpoint="tcp://127.0.0.1:5550", service="shop", buffer_bytes=2**20)

with eventstorm.timed("shop.checkout", user=7) as event:
    event["items"] = 2


@eventstorm.timed("shop.plain")
def plain(total: float) -> str:
    """Keep its type."""
    return str(total)


@eventstorm.timed("shop.asynchronous")
async def asynchronous(total: float) -> str:
    """Keep its type."""
    return str(total)


@eventstorm.timed("shop.generator")
def generator() -> Iterator[int]:
    """Keep its type."""
    yield 1


@eventstorm.timed("shop.asynchronous_generator")
async def asynchronous_generator() -> AsyncIterator[int]:
    """Keep its type."""
    yield 1


async def use() -> None:
    """Use what was decorated."""
    text: str = plain(1.5)
    text = await asynchronous(1.5)
    number: int = next(generator())
    async for number in asynchronous_generator():
        print(text, number)


source = eventstorm.Source(SdkSettings(endpoint="tcp://127.0.0.1:5550"), reserved=True)
source = eventstorm.Source()
accepted = source.emit("eventstorm.stats", {"uptime": 1.0})
wanted = source.wanted("eventstorm.stats")
identity: bytes = source.id
settings: SdkSettings | None = source.settings
example: str = source.example("unencodable")
stats = source.stats()
flushed = source.flush(1.0)
source.configure(SdkSettings())
source.close(1.0)

with eventstorm.testing.capture_events() as events:
    captured: CapturedEvents = events
    first: CapturedEvent = events[0]
    topic: str = first.topic
    data: dict[str, Any] = first.data
    ts: float = first.ts
    count: int = len(events)
    orders: list[dict[str, Any]] = events.of("shop.order")
    topics: list[str] = [each.topic for each in events]

try:
    eventstorm.configure(no_such_setting=1)
except eventstorm.SettingError as error:
    root: eventstorm.EventstormError = error
except eventstorm.StartError as error:
    root = error
except eventstorm.WireError as error:
    reason: str = error.reason
