"""Accesses to packets: the comparison with data_end that is missing or too short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.case import Case, error_with, register_of
from tracebee.explain.rules.record import Finding, Rule, rule

if TYPE_CHECKING:
    import re

PACKET = r"invalid access to packet, off=(-?\d+) size=(-?\d+), (?:R|arg#)(\d+)\(id=\d+,off=-?\d+,r=(-?\d+)\)"


def packet(case: Case, found: re.Match[str] | None, register: int = 0) -> Finding:
    """``invalid access to packet, off=54 size=1, R2(id=0,off=54,r=54)``."""
    if found is None:
        found = error_with(case, PACKET)
    if found is None:
        return Finding(
            "packet-bounds",
            f"R{register} points into the packet, and the access is not covered by a comparison with "
            f"data_end (the end of "
            f"the packet).",
            "compare first: if (p + n > data_end) return 0; with an offset that is bounded",
        )
    offset, size, register = int(found[1]), int(found[2]), int(found[3])
    proven = int(found[4])
    origin = case.trace(register)
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    if proven <= 0:
        known = "on this path nothing was compared with data_end for this pointer (or it was moved since)"
    else:
        known = f"on this path the bound check with data_end proves only the first {proven} bytes"
    ends = offset + size
    span = f"Packet bytes {offset} to {ends - 1} are" if size > 1 else f"Packet byte {offset} is"
    moved = (
        " The pointer has a variable part: it needs a comparison of its own, after the last change."
        if (proven <= 0 and any(change.source is not None for change in origin.changes))
        else ""
    )
    stop = case.place(case.end)
    old = case.older("5.16")
    also: tuple[str, ...] = ()
    if old and proven == offset and size == 1:
        also = (
            "verifiers before 5.16 count one byte too few for some comparisons (>=): compare with > there",
        )
    return Finding(
        "packet-bounds",
        f"{span} accessed through {who}, but {known}: the access may be past the end of the packet.{moved}",
        f"before the access compare with the packet's end: if ((void *)p + {size} > data_end) return 0; with "
        f"the very "
        f"pointer that is used (all {ends} bytes from data on), also inside a loop and after each change of "
        f"the pointer",
        story=case.story(origin),
        fix=(stop,),
        also=also,
    )


def packet_outside(case: Case, _found: re.Match[str]) -> Finding | None:
    return packet(case, None, register_of(_found.string) or 0)


RULES: tuple[Rule, ...] = (
    rule("packet-bounds", PACKET, packet, "4.15..7.3"),
    rule("packet-bounds", r"(?:R|arg#)\d+ offset is outside of the packet", packet_outside, "4.15..6.18"),
)
