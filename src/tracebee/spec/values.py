"""Decoded values that are more than a plain Python value.

What a value of a type is in Python:

    Int Enum Pointer                     int
    Bool                                 bool
    Str Named KSym USym Username
    Timestamp CgroupPath Inet MacAddr    str; bytes that are not UTF-8 are lone surrogates, as in file names
    Buffer                               bytes
    Array                                list
    Tuple                                tuple
    Record Struct                        dict by member name; members of anonymous members are the outer's own
    Void                                 None
    Stack                                StackTrace
    Count Sum                            int, summed over CPUs
    Extreme                              int, or None where there was no value
    Average                              AverageValue
    Hist LHist                           list of int, the buckets as the type describes them
    TSeries                              list of SeriesPoint, oldest first, without gaps
"""

from __future__ import annotations

from typing import NamedTuple

from tracebee.records import Frozen


class Frame(NamedTuple):
    """One call: `name` is empty where the address is not known; `path` is the file that holds it, if any.

    `inlined` frames have the address of the function that they are part of.  `source` is "file:line" or "".
    """

    address: int
    name: str = ""
    offset: int = 0
    path: str = ""
    source: str = ""
    inlined: bool = False


class StackTrace:
    """A call stack, innermost frame first.  Equal stacks are one object, so texts can be kept on it.

    `mode` is bpftrace, perf, raw or build_id.
    """

    __slots__ = ("frames", "mode", "text", "user")

    def __init__(self, frames: tuple[Frame, ...], mode: str, user: bool) -> None:
        self.frames = frames
        self.mode = mode
        self.user = user
        self.text: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StackTrace) and (self.frames, self.mode) == (other.frames, other.mode)

    def __hash__(self) -> int:
        return hash((self.frames, self.mode))

    def __repr__(self) -> str:
        return f"StackTrace({[frame.name or hex(frame.address) for frame in self.frames]})"


class AverageValue(Frozen):
    """What avg() and stats() have gathered."""

    count: int
    total: int

    @property
    def average(self) -> int:
        """Truncated toward zero; 0 without values."""
        if not self.count:
            return 0
        quotient = abs(self.total) // self.count
        return quotient if self.total >= 0 else -quotient


class SeriesPoint(NamedTuple):
    """One interval of a tseries(): its start in nanoseconds of Unix time, and its value if there was one."""

    start: int
    value: int | None
