"""The errors that Eventstorm raises: one root, and each message tells the value, the place and the fix."""

from __future__ import annotations

__all__ = ["EventstormError", "SettingError", "StartError", "WireError"]


class EventstormError(Exception):
    """The root of every error that Eventstorm raises on purpose."""


class SettingError(EventstormError):
    """A setting is unknown or has a value that it cannot have; the message names its place and the fix."""


class StartError(EventstormError):
    """A daemon could not start, for example since its port is in use. Commands exit with 3."""


class WireError(EventstormError):
    """A message is not of wire version 1.

    Attributes:
        reason: one of ``frames``, ``topic``, ``header``, ``version``, ``payload``: the part that was wrong, short
            enough to count by.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
