"""Log lines as events: nginx, Postfix, sshd, and whatever has a pattern.

A line comes out of a file (`follow`), an archive (`archive`), the journal or a socket (`inputs`), goes through a parser
(`nginx`, `postfix`, `sshd`, `generic`, or a plug-in of the group ``eventstorm.parsers``), and its events leave through
`pipeline`. Parsers are pure: no I/O, and the clock is an argument. ``docs/logs.md`` in the repository lists the fields.
"""

from __future__ import annotations

from eventstorm_integrations.logs.event import Event, Parser, Remembering, Unparsed

__all__ = ["Event", "Parser", "Remembering", "Unparsed"]
