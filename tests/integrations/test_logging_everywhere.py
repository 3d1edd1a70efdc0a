"""`eventstorm_integrations.logging.instrument`: all loggers are recorded, and programs see nothing of it.

Each test is a program of its own, since what is instrumented is the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.peer import Peer, run

TOPIC = "log.record"
START = """
import logging, sys
from eventstorm_integrations.logging import EventstormHandler, instrument, uninstrument
instrument()
"""


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Who listens to records, and to nothing else."""
    with Peer(b"log.record\0") as started:
        yield started


def bodies(peer: Peer, folder: Path, code: str) -> tuple[list[str], str]:
    """Run a program that ends well; return the bodies of its records, and what it printed to standard error."""
    exit_code, _, err, _ = run(START + code, peer.endpoint, folder)
    assert exit_code == 0, err
    return [event["body"] for event in peer.events(TOPIC)], err


def test_loggers_that_do_not_propagate_are_recorded_too(peer: Peer, tmp_path: Path) -> None:
    code = """
logging.getLogger("access").propagate = False
logging.getLogger("access").addHandler(logging.NullHandler())
logging.getLogger("access").error("a")
logging.getLogger("other").error("b")
logging.error("c")
logging.info("not enabled")
"""
    assert bodies(peer, tmp_path, code)[0] == ["a", "b", "c"]


def test_warnings_are_printed_where_no_handler_is(peer: Peer, tmp_path: Path) -> None:
    assert bodies(peer, tmp_path, 'logging.getLogger("x").warning("printed")') == (["printed"], "printed\n")


def test_basic_config_and_the_lists_of_handlers_are_as_without_it(peer: Peer, tmp_path: Path) -> None:
    code = """
assert not logging.getLogger().handlers and not logging.getLogger("x").hasHandlers()
logging.basicConfig(format="told: %(message)s", level=logging.INFO)
logging.info("x")
assert len(logging.getLogger().handlers) == 1
"""
    assert bodies(peer, tmp_path, code) == (["x"], "told: x\n")


def test_it_survives_a_new_configuration(peer: Peer, tmp_path: Path) -> None:
    code = """
import logging.config
logging.config.dictConfig({"version": 1})
logging.error("still there")
"""
    assert bodies(peer, tmp_path, code)[0] == ["still there"]


def test_a_record_is_one_event_where_the_program_has_a_handler_too(peer: Peer, tmp_path: Path) -> None:
    code = """
logging.getLogger().addHandler(EventstormHandler(logging.ERROR))
class Logs(logging.Handler):
    def emit(self, record):
        if record.name == "root": logging.getLogger("inner").error("inner")
logging.getLogger().addHandler(Logs())
logging.error("outer")
logging.warning("below its level")
"""
    found, _ = bodies(peer, tmp_path, code)
    assert sorted(found) == ["below its level", "inner", "inner", "outer"]


def test_a_record_is_one_event_though_another_came_in_between(peer: Peer, tmp_path: Path) -> None:
    code = """
logging.getLogger("inner").propagate = False
logging.getLogger("inner").addHandler(logging.NullHandler())
logging.getLogger().addHandler(EventstormHandler())
class Logs(logging.Handler):
    def emit(self, record): logging.getLogger("inner").error("inner")
logging.getLogger().addHandler(Logs())
logging.error("outer")
"""
    assert sorted(bodies(peer, tmp_path, code)[0]) == ["inner", "outer"]


def test_uninstrument_undoes_it_and_instrument_does_it_again(peer: Peer, tmp_path: Path) -> None:
    code = """
uninstrument()
assert logging.Logger.callHandlers.__module__ == "logging"
logging.error("a")
instrument()
logging.error("b")
uninstrument()
uninstrument()
logging.error("c")
"""
    assert bodies(peer, tmp_path, code)[0] == ["b"]


def test_uninstrument_works_beneath_what_others_have_wrapped_around_it(peer: Peer, tmp_path: Path) -> None:
    code = """
ours = logging.Logger.callHandlers
logging.Logger.callHandlers = lambda self, record: ours(self, record)
logging.error("a")
uninstrument()
logging.error("b")
instrument()
logging.error("c")
"""
    assert bodies(peer, tmp_path, code)[0] == ["a", "c"]


def test_a_second_time_is_told_and_changes_nothing(peer: Peer, tmp_path: Path) -> None:
    found, err = bodies(peer, tmp_path, 'instrument()\nlogging.error("a")')

    assert found == ["a"]
    assert err == "logging is instrumented already\nERROR:root:a\n"


def test_a_message_that_cannot_be_formatted_is_told_by_the_programs_handlers_alone(peer: Peer, tmp_path: Path) -> None:
    code = """
import eventstorm_integrations
logging.getLogger().addHandler(logging.NullHandler())
logging.getLogger("x").error("%d", "no number")
assert eventstorm_integrations.stats() == {"log.unformatted": 1}
logging.getLogger("x").addHandler(logging.StreamHandler())
logging.getLogger("x").error("%d", "no number")
logging.getLogger("x").error("good")
"""
    found, err = bodies(peer, tmp_path, code)

    assert found == ["good"]
    assert err.count("--- Logging error ---") == 1


def test_a_handler_that_raises_raises_as_before_and_the_record_is_there(peer: Peer, tmp_path: Path) -> None:
    code = """
class Raises(logging.Handler):
    def handle(self, record): raise ZeroDivisionError
logging.getLogger().addHandler(Raises())
try:
    logging.error("a")
except ZeroDivisionError:
    logging.getLogger().handlers.clear()
    logging.error("b")
"""
    assert bodies(peer, tmp_path, code)[0] == ["a", "b"]


def test_a_child_that_is_forked_while_a_thread_logs_first_is_no_hostage_of_its_import(
    peer: Peer, tmp_path: Path
) -> None:
    code = f"""
import os, signal, threading, time
os.register_at_fork(before=lambda: time.sleep(0.1))  # another's hook, which runs after those that are registered later
{START}
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name in ("bson", "zmq"):  # of the thread, and then of its publisher
            importing.set()
            time.sleep(0.3)  # what an import takes on a busy machine

importing = threading.Event()
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=logging.error, args=("in a thread",))
thread.start()
importing.wait()
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
else:
    signal.alarm(10)  # rather than to wait for ever
    logging.error("in a child")
"""
    exit_code, _, err, _ = run(code, peer.endpoint, tmp_path)
    assert exit_code == 0, err
    assert sorted(event["body"] for event in peer.events(TOPIC)) == ["in a child", "in a thread"]


@pytest.mark.parametrize("broken", ["", "raise ValueError", "raise SystemExit(3)"])
def test_a_module_of_the_program_that_the_sdk_takes_for_its_own_costs_it_nothing(
    broken: str, peer: Peer, tmp_path: Path
) -> None:
    (tmp_path / "bson.py").write_text(f"import sys\nprint('bson', file=sys.stderr)\n{broken}\n")
    code = """
import eventstorm_integrations
logging.getLogger("quiet").addHandler(logging.NullHandler())
logging.getLogger("quiet").propagate = False
for number in range(2000):
    logging.getLogger("quiet").error("record %d", number)
assert eventstorm_integrations.stats()["instrument.fault"] >= 1
"""
    told, err = bodies(peer, tmp_path, code)

    assert told == []
    assert err.count("log records are not recorded: the SDK cannot be imported; at most one such line a minute") == 1
    assert err.splitlines().count("bson") < 200, "not for each record"


def test_nothing_is_imported_before_a_record(peer: Peer, tmp_path: Path) -> None:
    code = 'assert not {"eventstorm", "bson", "zmq"} & set(sys.modules)\nlogging.error("a")'

    assert bodies(peer, tmp_path, code)[0] == ["a"]
