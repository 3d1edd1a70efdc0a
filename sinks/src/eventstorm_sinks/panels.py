"""What the page draws, declared once: the live window folds by it, history is asked for by it, the page lays it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["PANELS", "RANGES", "TABLES", "Line", "Panel", "Range", "Table"]


class Line(NamedTuple):
    """One field of a panel."""

    label: str
    field: str | None
    """A dotted path into the event's data; None only with ``count``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A graph over time: fields of one topic's events, aggregated over seconds and longer steps."""

    id: str
    title: str
    topic: str
    """Empty for all topics."""
    lines: tuple[Line, ...]
    by: str | None = None
    """A dotted path whose values split the events, ``topic`` or ``source.host``."""
    aggregate: Literal["avg", "count"] = "avg"
    unit: Literal["ratio", "bytes", "bytes/s", "events/s", ""] = ""
    optional: bool = False
    """Whether it is left out while there is nothing to draw: most hosts have none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The newest value of some fields for each host and key: bars and lists that have no past."""

    id: str
    title: str
    topic: str
    key: str | None
    """A dotted path; None for one row a host."""
    fields: tuple[str, ...]
    max_rows: int
    keep_s: float
    """A row goes when it is so much older than its host's newest one."""


class Range(NamedTuple):
    """A span of time that the page offers."""

    label: str
    span_s: int
    step_s: int
    """Width of a point; it divides 86,400, so that steps begin where DuckDB's and the page's both do."""


PANELS: tuple[Panel, ...] = (
    Panel(
        id="cpu",
        title="CPU",
        topic="cpu.usage",
        lines=(Line("all cores", "system.cpu.utilization"),),
        by="source.host",
        unit="ratio",
    ),
    Panel(
        id="memory",
        title="Memory",
        topic="memory.usage",
        lines=(Line("used", "system.memory.utilization"), Line("swap", "system.paging.utilization")),
        by="source.host",
        unit="ratio",
    ),
    Panel(
        id="load",
        title="Load",
        topic="cpu.usage",
        lines=(
            Line("1 min", "system.cpu.load.1m"),
            Line("5 min", "system.cpu.load.5m"),
            Line("15 min", "system.cpu.load.15m"),
        ),
        by="source.host",
    ),
    Panel(
        id="disk",
        title="Disk",
        topic="disk.io",
        lines=(Line("read", "system.disk.io.read"), Line("write", "system.disk.io.write")),
        by="system.device",
        unit="bytes/s",
    ),
    Panel(
        id="network",
        title="Network",
        topic="network.usage",
        lines=(Line("in", "system.network.io.receive"), Line("out", "system.network.io.transmit")),
        by="system.network.interface.name",
        unit="bytes/s",
    ),
    Panel(
        id="container",
        title="Container, of its limits",
        topic="container.usage",
        lines=(Line("CPU", "container.cpu.utilization"), Line("memory", "container.memory.utilization")),
        by="source.host",
        unit="ratio",
        optional=True,
    ),
    Panel(
        id="service-cpu",
        title="Services, CPU cores",
        topic="service.usage",
        lines=(Line("", "process.cpu.utilization"),),
        by="service.name",
        optional=True,
    ),
    Panel(
        id="service-memory",
        title="Services, memory",
        topic="service.usage",
        lines=(Line("", "process.memory.usage"),),
        by="service.name",
        unit="bytes",
        optional=True,
    ),
    Panel(
        id="temperature",
        title="Temperatures, °C",
        topic="sensor.usage",
        lines=(Line("", "hw.temperature"),),
        by="hw.name",
        optional=True,
    ),
    Panel(
        id="events",
        title="Events by topic",
        topic="",
        lines=(Line("", None),),
        by="topic",
        aggregate="count",
        unit="events/s",
    ),
)

TABLES: tuple[Table, ...] = (
    Table(
        id="cores",
        title="Cores",
        topic="cpu.usage",
        key=None,
        fields=("system.cpu.logical",),
        max_rows=16,
        keep_s=60,
    ),
    Table(
        id="filesystems",
        title="Filesystems",
        topic="disk.usage",
        key="system.filesystem.mountpoint",
        fields=(
            "system.filesystem.usage",
            "system.filesystem.limit",
            "system.filesystem.utilization",
            "system.filesystem.type",
        ),
        max_rows=32,
        keep_s=300,
    ),
    Table(
        id="processes",
        title="Busiest processes",
        topic="process.usage",
        key="process.rank",
        fields=(
            "process.pid",
            "process.executable.name",
            "process.owner",
            "process.cpu.utilization",
            "process.memory.usage",
        ),
        max_rows=40,
        # The processes of one interval come as events of nearly one time; a second older is the interval before.
        keep_s=0.9,
    ),
)

RANGES: tuple[Range, ...] = (
    Range("5 min", 300, 1),
    Range("1 h", 3600, 5),
    Range("24 h", 86_400, 120),
    Range("7 d", 7 * 86_400, 900),
)
