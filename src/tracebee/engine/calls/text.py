"""Helper functions for strings in the program's memory (kernel/bpf/helpers.c)."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from tracebee.engine.calls.base import MASK32
from tracebee.engine.calls.output import string_at

if TYPE_CHECKING:
    from tracebee.engine.calls.base import Make
    from tracebee.engine.runtime import Helper, Runtime

BASE_MASK = 0x1F
LONGEST_NUMBER = 63
_HEX = re.compile(rb"[0-9a-fA-F]+")
_DIGITS = {8: re.compile(rb"[0-7]+"), 10: re.compile(rb"[0-9]+"), 16: _HEX}


def strncmp(machine: Runtime) -> Helper:
    """(string, its size, constant string): -1, 0 or 1."""
    memory = machine.memory

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        size = r2 & MASK32
        first = memory.read(r1, size).partition(b"\0")[0]
        second = string_at(machine, r3)[:size]
        return (first > second) - (first < second)

    return call


def parse_integer(text: bytes, flags: int) -> tuple[int, int]:
    """The number at the start of `text` and how many bytes it takes; minus an errno instead of the latter.

    White space may come first, and a minus; `flags` is the base, 0 for what the digits' prefix says.
    """
    base = flags & BASE_MASK
    if flags & ~BASE_MASK or base not in (0, 8, 10, 16) or not text:
        return 0, -errno.EINVAL
    digits = text.lstrip(b" \t\n\v\f\r\xa0")
    negative = digits[:1] == b"-"
    if negative:
        digits = digits[1:]
    if not digits:
        return 0, -errno.EINVAL
    used = len(text) - len(digits)
    digits = digits[:LONGEST_NUMBER].partition(b"\0")[0]
    prefixed = digits[:2].lower() == b"0x"
    if base == 0:
        base = 10 if digits[:1] != b"0" else 16 if prefixed and _HEX.match(digits, 2) else 8
    found = _DIGITS[base].match(digits, 2 if prefixed and base == 16 else 0)
    if found is None:
        return 0, -errno.EINVAL
    value = int(found[0], base)
    if value >> 64:
        return 0, -errno.ERANGE
    return -value if negative else value, used + found.end()


def _parser(signed: bool) -> Make:
    """A helper (text, its size, flags, where the number goes)."""

    def make(machine: Runtime) -> Helper:
        memory = machine.memory

        def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
            memory.view(r4, 8, writable=True)
            value, used = parse_integer(memory.read(r1, r2 & MASK32), r3)
            if used >= 0:
                if not signed and value < 0:
                    used = -errno.EINVAL
                elif signed and not -(1 << 63) <= value < 1 << 63:
                    used = -errno.ERANGE
            memory.write(r4, (value if used >= 0 else 0).to_bytes(8, "little", signed=signed))
            return used

        return call

    return make


MAKERS = {"strncmp": strncmp, "strtol": _parser(True), "strtoul": _parser(False)}
