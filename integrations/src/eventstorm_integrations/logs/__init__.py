"""Log lines as events: nginx, Postfix, sshd, and whatever has a pattern.

A line comes out of a file (`follow`, `once`), a socket (`syslog_socket`) or a pipe (`standard_input`), goes through a
parser (`nginx`, `postfix`, `sshd`, `generic`, or a plug-in of the group ``eventstorm.parsers``), and its events leave
through a `stream` and its `outlet`; `run` keeps it going. Parsers are pure: no I/O, and the clock is an argument.
``docs/logs.md`` in the repository lists the fields.
"""

from __future__ import annotations

from eventstorm_integrations.logs.event import Encoding, Event, Parser, Remembering, Unparsed

__all__ = ["Encoding", "Event", "Parser", "Remembering", "Unparsed"]
