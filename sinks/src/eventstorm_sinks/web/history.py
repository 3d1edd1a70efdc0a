"""What is older than the live window, for all panels at once, cut so that both join without a gap or a double count."""

from __future__ import annotations

import msgspec

from eventstorm_sinks.panels import PANELS, Panel, Range
from eventstorm_sinks.stores import Reader

__all__ = ["History", "history"]

Points = list[tuple[int, float | None]]


class HistoryLine(msgspec.Struct, frozen=True):
    """One line of a panel, before the live window."""

    label: str
    by: str
    steps: Points
    """(start of the step, aggregate), for whole steps. A count is of the whole step."""
    edge: Points
    """(second, aggregate): the seconds between the last whole step and the live window."""


class History(msgspec.Struct, frozen=True):
    """All panels, from `start_s` to before `until_s`."""

    step_s: int
    start_s: int
    edge_s: int
    """Where steps end and single seconds begin."""
    until_s: int
    panels: dict[str, list[HistoryLine]]


def history(reader: Reader, span: Range, now_s: int, until_s: int) -> History:
    """Ask a store for all panels.

    Args:
        reader: the store.
        span: how far back, and how coarse.
        now_s: the present, which the span ends at.
        until_s: the first second of the live window.
    """
    step_s = span.step_s
    start_s = (now_s - span.span_s) // step_s * step_s
    edge_s = max(start_s, until_s // step_s * step_s)
    panels = {each.id: _lines(reader, each, start_s, edge_s, until_s, step_s) for each in PANELS}
    return History(step_s, start_s, edge_s, until_s, panels)


def _lines(reader: Reader, panel: Panel, start_s: int, edge_s: int, until_s: int, step_s: int) -> list[HistoryLine]:
    lines = []
    for label, field in panel.lines:
        steps = _ask(reader, panel, field, start_s, edge_s, step_s)
        edge = _ask(reader, panel, field, edge_s, until_s, 1) if step_s > 1 else {}
        lines += [HistoryLine(label, by, steps.get(by, []), edge.get(by, [])) for by in {**steps, **edge}]
    return lines


def _ask(reader: Reader, panel: Panel, field: str | None, start_s: int, stop_s: int, step_s: int) -> dict[str, Points]:
    if start_s >= stop_s:
        return {}
    found = reader.series(panel.topic, field, panel.aggregate, start_s, stop_s, step_s, panel.by)
    return {each.name: each.points for each in found}
