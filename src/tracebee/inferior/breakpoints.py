"""Breakpoints in the memory of followed processes."""

from __future__ import annotations


class Space:
    """An address space."""
