"""Scratch variables: what a ``$name`` stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language.tree import UNKNOWN

if TYPE_CHECKING:
    from tracebee.language.source import Span
    from tracebee.spec.types import Type


class Scratch:
    """One variable of one probe.

    `level` counts the callbacks (bodies of map loops) around its definition; where it is also used at a
    deeper level it is `captured`, and then it lives in memory that the callback can reach, as it does when
    its address is taken.
    """

    __slots__ = ("adapts", "address_taken", "captured", "declared", "level", "name", "span", "type")

    def __init__(self, name: str, span: Span, level: int) -> None:
        self.name = name
        self.span = span
        self.level = level
        self.type: Type = UNKNOWN
        self.declared: Type | None = None
        self.adapts = True
        self.captured = False
        self.address_taken = False

    def __repr__(self) -> str:
        return f"{self.name}: {self.type}"
