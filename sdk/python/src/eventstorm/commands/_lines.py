"""How `tap` writes an event: a line of text for people, or of JSON for programs.

What is in an event may come from an attacker, so nothing of it reaches the terminal but printable characters.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, TextIO

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from eventstorm.errors import WireError
from eventstorm.wire import Event, Message, decode_message, event_id

__all__ = ["Printer", "json_line", "text_line"]

_options: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
_is_plain = re.compile(r"[\w./:@%+,-]+").fullmatch
_DIM, _CYAN, _PLAIN = "\33[2m", "\33[36m", "\33[0m"


class Printer:
    """Prints the events of messages, and counts them and what is malformed."""

    def __init__(self, output: TextIO, *, as_json: bool, most: float) -> None:
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")  # for terminals that know only some characters
        self.events = 0
        self.malformed = 0
        self._output = output
        self._as_json = as_json
        self._most = most
        # no-color.org
        self._colour = output.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def done(self) -> bool:
        """Tell whether `most` events have been printed."""
        return self.events >= self._most

    def print(self, frames: list[bytes]) -> None:
        """Print the events of a message from a socket."""
        try:
            message = decode_message(frames)
        except WireError:
            self.malformed += 1
            return
        for event in message.events():
            if self.done:
                break
            line = json_line(message, event) if self._as_json else text_line(message, event, colour=self._colour)
            if line is None:
                self.malformed += 1
                continue
            self._output.write(line + "\n")
            self.events += 1
        self._output.flush()


def json_line(message: Message, event: Event) -> str | None:
    """Return one event as relaxed Extended JSON, all ASCII; None if its document cannot be decoded."""
    header = message.header
    try:
        document = {
            "_id": event_id(header.source_id, header.tid, event.seq).hex(),
            "ts": bson.DatetimeMS(event.ts_ms),
            "topic": message.topic,
            "source": {
                "id": header.source_id.hex(),
                "host": header.host,
                "service": header.service,
                "pid": header.pid,
            },
            "data": bson.decode(event.data, _options),
        }
        return json_util.dumps(document, json_options=json_util.RELAXED_JSON_OPTIONS)
    except Exception:  # bson raises several kinds for hostile bytes, RecursionError among them
        return None


def text_line(message: Message, event: Event, *, colour: bool) -> str | None:
    """Return one event as text; None if its document cannot be decoded."""
    try:
        pairs = " ".join(f"{_word(key)}={value}" for key, value in _fields("", bson.decode(event.data, _options)))
    except Exception:  # as above
        return None
    time = _local_time(event.ts_ms)
    topic = message.topic
    if colour:
        time, topic = f"{_DIM}{time}{_PLAIN}", f"{_CYAN}{topic}{_PLAIN}"
    return f"{time} {topic} {_word(message.header.service)}@{_word(message.header.host)} {pairs}".rstrip()


def _fields(path: str, document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield dotted paths and written values."""
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from _fields(f"{path}{key}.", value)
        else:
            yield path + key, _value(value)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _word(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)
    options = json_util.RELAXED_JSON_OPTIONS
    return _printable(json_util.dumps(value, json_options=options, ensure_ascii=False, separators=(",", ":")))


def _word(text: str) -> str:
    """Return a text as it is if it is one plain word, else quoted as in JSON."""
    return text if _is_plain(text) else _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    """Escape what a terminal would act upon: control characters of all kinds, and those that turn text round."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _local_time(ts_ms: int) -> str:
    try:
        return datetime.fromtimestamp(ts_ms / 1000).strftime("%H:%M:%S.") + f"{ts_ms % 1000:03}"
    except (OverflowError, ValueError, OSError):
        return f"{ts_ms}ms"
