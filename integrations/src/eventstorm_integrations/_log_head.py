"""What the records of one place in a program have alike, in one thread: encoded once, for all of them.

Names and severities are those of OpenTelemetry's semantic conventions and log data model
(https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber).
"""

from __future__ import annotations

import logging
from typing import Any

from eventstorm_integrations._log_text import ends_of, fields_of, number_of, text_of

__all__ = ["head_of"]

# Records of Eventstorm itself and of the library below it; `pymongo`'s are not left out, since the SDK uses its `bson`
# alone, so they are the application's.
_OWN = frozenset({"eventstorm", "eventstorm_integrations", "eventstorm_router", "eventstorm_sinks", "zmq"})

_SEVERITIES = {
    logging.DEBUG: ("DEBUG", 5),
    logging.INFO: ("INFO", 9),
    logging.WARNING: ("WARN", 13),
    logging.ERROR: ("ERROR", 17),
    logging.CRITICAL: ("FATAL", 21),
}
_SEVERITY_NAMES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")

_MOST_STACK = 12 * 1024
# More than a program has places that log often, times the threads that they log in. With names and templates of a usual
# length that is 2 MB, and longer ones are not kept.
_MOST_KEPT = 2000
_MOST_KEPT_TEXT = 500


def head_of(record: logging.LogRecord) -> bytes | None:
    """Return all fields of `record` in BSON but its message and what few records have; None if it is Eventstorm's own.

    They end with the name and type of the field ``body``. Safe for threads, signal handlers and finalizers: at worst
    something is encoded twice.
    """
    key = (
        record.name,
        record.pathname,
        record.lineno,
        record.funcName,
        record.thread,
        record.threadName,
        record.levelno,
        record.levelname,
        record.msg if record.args else None,
    )
    if record.stack_info:
        return _head(*key, stack=record.stack_info)
    try:
        return _heads[key]
    except Exception:  # what somebody has put there has no hash
        return _head(*key)


class _Heads(dict[Any, "bytes | None"]):
    def __missing__(self, key: tuple[Any, ...]) -> bytes | None:
        made = _head(*key)
        if len(self) >= _MOST_KEPT:
            self.clear()
        if all(map(_may_be_kept, key)):
            self[key] = made
        return made


def _may_be_kept(part: object) -> bool:
    """Tell whether a part of a key is small, and of a type of which equal ones are told alike."""
    return part is None or number_of(part) is not None or (type(part) is str and len(part) <= _MOST_KEPT_TEXT)


def _head(
    name: object,
    path: object,
    line: object,
    function: object,
    thread: object,
    thread_name: object,
    level: object,
    level_name: object,
    template: object,
    stack: object = None,
) -> bytes | None:
    logger = text_of(name)
    if str(logger).partition(".")[0] in _OWN:
        return None
    severity_text, severity_number = _severity(level, level_name)
    code: dict[str, Any] = {
        "file": {"path": text_of(path)},
        "function": {"name": text_of(function)},
        "line": {"number": number_of(line)},
    }
    if stack is not None:
        code["stacktrace"] = ends_of(text_of(stack, None), _MOST_STACK)
    fields: dict[str, Any] = {
        "severity_text": severity_text,
        "severity_number": severity_number,
        "logger": logger,
        "code": code,
        "thread": {"id": number_of(thread), "name": text_of(thread_name)},
    }
    if template is not None:
        fields["template"] = text_of(template)
    return fields_of(fields) + b"\x02body\0"


def _severity(level: object, name: object) -> tuple[str, int]:
    """Return one of the five levels, or one between them, with a name of its own if it has one."""
    if type(level) is int and level in _SEVERITIES:
        return _SEVERITIES[level]
    number = min(max(1 + 4 * level // 10, 1), 24) if isinstance(level, int) else 0
    if number == 0 or (type(name) is str and not name.startswith("Level ")):
        return text_of(name) or "", number
    rank = (number - 1) % 4 + 1
    return f"{_SEVERITY_NAMES[(number - 1) // 4]}{rank if rank > 1 else ''}", number


_heads = _Heads()
