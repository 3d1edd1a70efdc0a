"""The router of Eventstorm: sources connect to its ingress, sinks to its egress, and what sinks want goes back up."""

from eventstorm_router.router import Router
from eventstorm_router.settings import RouterSettings

__all__ = ["Router", "RouterSettings", "__version__"]

__version__ = "0.1.0"
