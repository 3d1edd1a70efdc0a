"""What is recorded of HTTP requests, whatever the server and the framework: no module in here does I/O."""

from __future__ import annotations

from eventstorm_integrations.http.recorder import Emits, Hook
from eventstorm_integrations.http.settings import HttpSettings

__all__ = ["Emits", "Hook", "HttpSettings"]
