"""Eventstorm for hosts, frameworks and logs."""

__version__ = "0.1.0"
