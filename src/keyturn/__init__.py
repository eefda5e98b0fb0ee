"""Keyturn: no successor without clearance."""

__version__ = "0.1.0"
