"""What `bench_emit` times: Eventstorm, bare `bson.encode`, and the peers, each doing its least for the same fields."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import FIELDS, TOPIC, Subject, until


@contextmanager
def bson_encode() -> Iterator[Subject]:
    """The yardstick: the fields encoded by pymongo's C extension, and thrown away."""
    import bson

    encode = bson.encode
    yield Subject(lambda: encode(FIELDS))


@contextmanager
def eventstorm_emit(endpoint: str, heard: bool, keywords: bool) -> Iterator[Subject]:
    """emit(), with a peer at `endpoint` that listens to the topic or does not."""
    import eventstorm

    eventstorm.configure(endpoint=endpoint, service="bench")
    emit = eventstorm.emit
    emit(TOPIC, FIELDS)
    until(lambda: eventstorm.wanted(TOPIC) is heard and _quiet(), 10)
    yield Subject(
        _with_keywords(emit) if keywords else lambda: emit(TOPIC, FIELDS), lambda: eventstorm.flush(timeout_s=10)
    )
    eventstorm.close()


def _with_keywords(emit: Callable[..., object]) -> Callable[[], object]:
    """Return a call as programs have it in their text: unpacking FIELDS would make its dictionary twice."""
    call: Callable[[], object] = eval(
        f"lambda: emit(TOPIC, {', '.join(f'{name}={value!r}' for name, value in FIELDS.items())})",
        {"emit": emit, "TOPIC": TOPIC},
    )
    return call


def _quiet() -> bool:
    import eventstorm

    return eventstorm.flush(timeout_s=0.1)


@contextmanager
def fluent() -> Iterator[Subject]:
    """fluent-logger's asyncsender, to a server that reads and forgets."""
    from fluent import asyncsender  # type: ignore[import-untyped]

    with _forgetting_server() as port:
        sender = asyncsender.FluentSender("bench", host="127.0.0.1", port=port, queue_maxsize=1_000_000)
        yield Subject(lambda: sender.emit(TOPIC, FIELDS), _emptied(sender._queue))
        sender.close()


@contextmanager
def logging_queue() -> Iterator[Subject]:
    """The standard library's QueueHandler; the other end formats nothing and writes nothing."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.handlers.QueueHandler(waiting))
    listener = logging.handlers.QueueListener(waiting, logging.NullHandler())
    listener.start()
    yield Subject(lambda: logger.info(TOPIC, extra={"fields": FIELDS}), _emptied(waiting))
    listener.stop()


@contextmanager
def opentelemetry_logs() -> Iterator[Subject]:
    """OpenTelemetry's logger.emit through a BatchLogRecordProcessor whose exporter does nothing."""
    from opentelemetry._logs import LogRecord
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import (
        BatchLogRecordProcessor,
        LogRecordExporter,
        LogRecordExportResult,
    )

    class Nothing(LogRecordExporter):
        def export(self, batch: object) -> LogRecordExportResult:
            return LogRecordExportResult.SUCCESS

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

        def shutdown(self) -> None: ...

    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(Nothing()))
    logger = provider.get_logger("bench")
    yield Subject(
        lambda: logger.emit(LogRecord(timestamp=time.time_ns(), body=TOPIC, attributes=FIELDS)), provider.force_flush
    )
    provider.shutdown()


@contextmanager
def structlog_json() -> Iterator[Subject]:
    """Structlog, time stamp and JSON, to the null device."""
    import structlog

    with open(os.devnull, "w") as null:
        structlog.configure(
            processors=[structlog.processors.TimeStamper(), structlog.processors.JSONRenderer(serializer=json.dumps)],
            logger_factory=structlog.WriteLoggerFactory(file=null),
            cache_logger_on_first_use=True,
        )
        logger = structlog.get_logger()
        yield Subject(lambda: logger.info(TOPIC, **FIELDS))


@contextmanager
def sentry_logs() -> Iterator[Subject]:
    """Sentry's logger.info, with a transport that does nothing."""
    import sentry_sdk
    import sentry_sdk.logger
    from sentry_sdk.transport import Transport

    class Nothing(Transport):
        def capture_envelope(self, envelope: object) -> None: ...

    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Nothing, enable_logs=True, default_integrations=False)
    yield Subject(lambda: sentry_sdk.logger.info(TOPIC, attributes=FIELDS), lambda: sentry_sdk.flush(5))


def _emptied(waiting: Any) -> Callable[[], object]:
    return lambda: until(waiting.empty, 30)


@contextmanager
def _forgetting_server() -> Iterator[int]:
    # In a process of its own: reading here would take the interpreter lock from the sender.
    with socket.create_server(("127.0.0.1", 0)) as server:
        if (child := os.fork()) == 0:
            connection, _ = server.accept()
            while connection.recv(2**20):
                pass
            os._exit(0)
        reaper = threading.Thread(target=os.waitpid, args=(child, 0), daemon=True)
        reaper.start()
        yield int(server.getsockname()[1])
        reaper.join(5)
