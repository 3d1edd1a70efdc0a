"""What ``eventstorm check STORE`` tells: whether a store answers, what its books say, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from eventstorm.config_file import Problem
from eventstorm.errors import EventstormError, SettingError
from eventstorm.settings import load
from eventstorm_sinks.batch import Book
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_to_read, redacted

__all__ = ["Examinable", "Finding", "examine_store"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a store: a fact, or what is wrong with it."""

    text: str
    is_wrong: bool = False


@runtime_checkable
class Examinable(Protocol):
    """What a store may add that has more to be looked at than its books."""

    def examine(self) -> Iterator[Finding]:
        """Look, and change nothing.

        Raises:
            StoreUnavailable: the store is away.
        """
        raise NotImplementedError


def examine_store(url: str) -> tuple[list[str], list[Problem]]:
    """Look at a store, with the settings of ``[sink]``: return what there is, and what is wrong.

    Raises:
        SettingError: no installed distribution has that kind of store, or a setting is wrong.
    """
    settings = load(SinkSettings, "sink", {})
    name = redacted(url)
    facts: list[str] = []
    problems: list[Problem] = []
    try:
        with closing(open_to_read(url, settings)) as store:
            facts.append(f"{name}: {_summed_up(store.books())}")
            if isinstance(store, Examinable):
                for found in store.examine():
                    if found.is_wrong:
                        problems.append(Problem(name, None, found.text))
                    else:
                        facts.append(f"{name}: {found.text}")
    except SettingError:
        raise
    except EventstormError as error:
        problems.append(Problem(name, None, str(error).removeprefix(f"{name}: ")))
    return facts, problems


def _summed_up(books: list[Book]) -> str:
    lost = sum(each.refused + each.overflowed + each.lost_source + each.lost_way for each in books)
    topics = len({each.topic for each in books})
    return f"books of {topics:,} topics: stored {sum(each.stored for each in books):,} events, lost {lost:,}"
