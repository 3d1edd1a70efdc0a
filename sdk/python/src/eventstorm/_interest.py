"""What the subscribers downstream want to hear, as the router told this source."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["NOTHING", "UNKNOWN", "Interest"]


class Interest:
    """A set of subscriptions that does not change; a new one takes its place.

    Attributes:
        known: False before a router has said anything: events are then held, since somebody may want them.
    """

    __slots__ = ("_prefixes", "known")

    def __init__(self, prefixes: Iterable[bytes], known: bool = True) -> None:
        self._prefixes = tuple(prefixes)
        self.known = known

    def wants(self, wire_topic: bytes) -> bool:
        """Tell whether a topic, as on the wire, is to be kept."""
        return not self.known or wire_topic.startswith(self._prefixes)


UNKNOWN = Interest((), known=False)
NOTHING = Interest(())
