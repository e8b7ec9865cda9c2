"""What a program can tell user space: actions, and the layout of the records that carry them.

A record in the ring buffer starts with a u32, the index of its `Event` in `Schema.events`; everything that
is known at compile time (format strings, map names, places in the script) stays in the Event, so that a
record holds only what the probe measured.
"""

from __future__ import annotations

from tracebee.records import Frozen
from tracebee.spec.printf import Format
from tracebee.spec.types import Type


class Location(Frozen):
    """A place in a script, for messages at run time: `line` and `column` count from 1.

    `heading` is how it starts a message, such as ``stdin:1:9-62``; `excerpt` is the source line with marks
    below it; `expanded_from` are the calls of the macros that the place lies in, innermost first.
    """

    filename: str
    line: int
    column: int
    heading: str
    excerpt: str = ""
    expanded_from: tuple[Location, ...] = ()


class Slot(Frozen):
    """One value in a record.

    A fixed value lies at `offset`, laid out by its type.  A `dynamic` one (a Str or Buffer whose length is
    known only at run time) has its u32 length at `offset`; its bytes follow the fixed part of the record, in
    slot order, without padding and without a NUL.
    """

    type: Type
    offset: int
    dynamic: bool = False


class Layout(Frozen):
    """How the values of a record lie: `size` bytes of fixed part, the leading u32 id included."""

    slots: tuple[Slot, ...]
    size: int

    @property
    def is_fixed(self) -> bool:
        return not any(slot.dynamic for slot in self.slots)

    @property
    def largest(self) -> int:
        """The bytes of a record whose dynamic values are all as long as they can be."""
        return self.size + sum(slot.type.size for slot in self.slots if slot.dynamic)


class Action(Frozen):
    """Base of what user space does when it reads a record."""

    __slots__ = ()


class Printf(Action):
    """Write the values through a format.

    `kind` says what for: "printf" writes it, "errorf" and "warnf" make a message at `location`, "cat" and
    "system" name a file to copy out or a command to run.  `literals` are the arguments that were put into the
    format already, with their positions among all arguments.
    """

    kind: str
    format: Format
    location: Location | None = None
    literals: tuple[tuple[int, str], ...] = ()


class PrintValue(Action):
    """print(expression): the one value, on a line."""

    __slots__ = ()


class PrintMap(Action):
    """print(@map, top, div): the map as it is when the record is read; `top` and `div` may be 0."""

    map: str
    top: int = 0
    div: int = 0


class ClearMap(Action):
    """clear(@map)."""

    map: str


class ZeroMap(Action):
    """zero(@map)."""

    map: str


class PrintTime(Action):
    """time(format): the reader's wall-clock time through strftime."""

    format: str


class Join(Action):
    """join(array, delimiter): the values are dynamic strings; a missing one ends the list."""

    delimiter: str


class Exit(Action):
    """exit(code): the value is the exit status."""

    __slots__ = ()


class HelperFailed(Action):
    """A helper returned an error; the value is its (negative) result."""

    helper: str
    location: Location


class RuntimeWarning(Action):
    """Something that the script would not expect happened, such as a division by zero."""

    message: str
    location: Location


class Unwatch(Action):
    """unwatch(address): the value is the address."""

    __slots__ = ()


class Event(Frozen):
    """One call in the script that sends records."""

    id: int
    action: Action
    layout: Layout
