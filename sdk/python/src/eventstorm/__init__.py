"""Eventstorm: emit events and forget about them.

    import eventstorm

    eventstorm.emit("shop.order", total=42.5, items=3)

`emit` never blocks, never raises and never grows without bound; what is lost is counted. The first event starts one
daemon thread, which sends what `emit` collects to a router. See ``docs`` in the repository.
"""

from __future__ import annotations

from typing import Any

from eventstorm._process import process
from eventstorm._timed import timed
from eventstorm.errors import EventstormError, SettingError, StartError, WireError
from eventstorm.source import Source

__version__ = "0.1.0"

__all__ = [
    "EventstormError",
    "SettingError",
    "Source",
    "StartError",
    "WireError",
    "close",
    "configure",
    "emit",
    "emit_at",
    "emit_encoded",
    "flush",
    "stats",
    "timed",
    "wanted",
]


emit = process.emit
emit_at = process.emit_at
emit_encoded = process.emit_encoded
wanted = process.wanted
flush = process.flush
close = process.close


def configure(**settings: Any) -> None:
    """Set what the environment (``EVENTSTORM_*``) and ``eventstorm.toml`` do not, or override it.

    Optional. Call it at the start of the program: what was emitted before is sent first, within ``flush_timeout_s``.
    The settings are those of `eventstorm.settings.SdkSettings`: ``endpoint``, ``service``, ``buffer_bytes``, ….

    Raises:
        SettingError: an unknown setting, or a value that it cannot have; nothing is changed then.
    """
    from eventstorm.settings import SdkSettings, load

    process.configure(load(SdkSettings, "sdk", settings))


def stats() -> dict[str, Any]:
    """Return what became of this process's events since it started, was forked or was configured.

    Returns:
        A dictionary, in which at a quiet moment emitted = sent + buffered + buffer_full + unsent:

        - ``emitted``: valid events of topics that were heard, or held since no router had answered;
        - ``sent``: of these, handed to ZeroMQ;
        - ``buffered`` (events) and ``buffered_bytes``: of these, waiting;
        - ``unheard``: events that nobody listened to;
        - ``dropped``: counts by reason. ``buffer_full`` and ``unsent`` (when the source closed) are part of
          ``emitted``; ``unencodable``, ``too_large``, ``bad_topic``, ``bad_time``, ``too_many_topics``, ``closed``
          and ``fault`` are not;
        - ``topics``: the same figures for each topic;
        - ``source_id``: the identity on the wire, in hexadecimal; ``connected``: whether a router answers.
    """
    return process.stats()
