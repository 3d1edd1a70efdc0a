"""Eventstorm: emit events and forget about them."""

__version__ = "0.1.0"
