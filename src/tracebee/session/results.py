"""What a script sends while it runs, as values for Python programs."""

from __future__ import annotations

from typing import Any

from tracebee.records import Frozen


class Result(Frozen):
    """Base of everything that a script can send."""

    __slots__ = ()


class Printed(Result):
    """A printf(): `text` as it would be printed, and the `values` that went into it (see spec.values)."""

    text: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return self.text


class Value(Result):
    """A print() of an expression."""

    value: Any


class MapPrinted(Result):
    """A print() of a map, as it was when the record was read.

    `items` are key and value in the order of printing; of a map without keys there is one, whose key is None.
    """

    name: str
    items: tuple[tuple[Any, Any], ...]


class Text(Result):
    """Text from elsewhere; `kind` is "time", "join", "cat" or "system"."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


class Message(Result):
    """Something that went wrong, or that the script complains of.

    `kind` is "error" (errorf), "warning" (warnf), "runtime" (the program's own checks), "helper" (a BPF helper
    failed), "lost" (events) or "session".  `line` and `column` are the place in the script, 0 if there is
    none.
    """

    kind: str
    text: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return self.text
