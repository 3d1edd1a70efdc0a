"""``python -m eventstorm_integrations COMMAND …`` is ``eventstorm-instrument COMMAND …``, by a chosen interpreter."""

from __future__ import annotations

import sys

from eventstorm_integrations.instrument.command import main

if __name__ == "__main__":
    sys.exit(main())
