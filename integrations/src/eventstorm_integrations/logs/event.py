"""What parsers are: they take lines and give events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from eventstorm.errors import EventstormError

__all__ = ["Encoded", "Encoding", "Event", "Parser", "Remembering", "Unparsed"]


class Event(NamedTuple):
    """One event that a line, or several together, told of."""

    topic: str
    data: Mapping[str, Any]
    ts_s: float
    """When it happened, as the line says: seconds since 1970."""


Encoded = tuple[str, bytes, float]
"""An event whose data is in BSON already."""


class Unparsed(EventstormError):
    """A line is not what the parser reads. It is counted under the reason, which is a short text without values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Parser(Protocol):
    """Reads one program's lines. Register a callable that takes `LogsSettings` and returns one: ``eventstorm.parsers``.

    There is one parser for each file, or for each input that is none, and all calls come from one thread.
    """

    def feed(self, line: str, now_s: float, /) -> Iterable[Event]:
        r"""Return the events that are complete with this line; none for a line that tells of nothing.

        Args:
            line: without its line end. Bytes that are not UTF-8 are in it as ``\xHH``.
            now_s: the reader's clock, in seconds since 1970, or when an old file was last written. It is only for what
                the line leaves out, such as the year.

        Raises:
            Unparsed: it is not a line of this program.
        """
        ...


@runtime_checkable
class Encoding(Parser, Protocol):
    """A parser that encodes the events of usual lines itself, since that takes less than a dictionary."""

    def encode(self, line: str, now_s: float, /) -> Encoded | None:
        """Return what `feed` would, if it is one event; None to have `feed` called."""
        ...


@runtime_checkable
class Remembering(Parser, Protocol):
    """A parser that puts events together from several lines."""

    def expire(self, now_s: float, /) -> Iterable[Event]:
        """Return, as incomplete, the events whose last line has been missing for too long; infinity ends them all.

        Called about every second. It must not cost more than what it returns.
        """
        ...

    def save(self) -> dict[str, Any]:
        """Return what the parser remembers, as JSON can hold it."""
        ...

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Take up what `save` returned; called once, before the first line."""
        ...
