"""Sinks: receive, account, store, draw."""

__version__ = "0.1.0"
