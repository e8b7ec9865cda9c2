"""Calls of machine code that this process has made itself."""

from __future__ import annotations


class Door:
    """The door to machine code (tracebee.engine.native)."""
