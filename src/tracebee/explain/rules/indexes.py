"""Indexes into memory: where the variable part of an address came from, its bounds, and the test that limits it."""

from __future__ import annotations

import re

from tracebee.explain.case import Case, error_with
from tracebee.explain.explanation import Edit
from tracebee.explain.history import Origin
from tracebee.explain.rules.packets import PACKET, packet
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule

INDEXED = re.compile(r"[\w.>-]{0,80}?(\w{1,64})\s*\[\s*([^\]]{1,80})\]")

MEMORY = (
    r"invalid access to (map value|map key|memory), (?:value|key|mem)_size=(\d+) off=(-?\d+) size=(-?\d+)"
)


def index_of(case: Case) -> tuple[str, str]:
    """The array and the index in the line that stopped, or empty."""
    place = case.place(case.end)
    found = INDEXED.search(place.text) if place is not None else None
    return (found[1], found[2].strip()) if found else ("", "")


def variable_part(case: Case, register: int) -> tuple[Origin | None, int]:
    """Where the variable part of an address came from, and its scale in bytes."""
    position = case.end
    operation = case.operation
    source = operation.source if operation.kind == "alu" and operation.target == register else None
    if source is None:
        for _ in range(20):
            at = case.path.definition(position, register) if len(case.path) else None
            if at is None:
                return None, 1
            step = case.path.operation(at)
            if step.kind == "alu" and step.operator in ("+", "-") and step.source is not None:
                added = case.path.value(at, step.source)
                if added is not None and added.is_pointer():
                    # index + pointer: the sum is in the register that held the index.
                    position, source = at, register
                else:
                    position, source = at, step.source
                break
            if step.kind == "move" and step.source is not None:
                register = step.source
            elif step.kind != "alu":
                return None, 1
            position = at
        if source is None:
            return None, 1
    origin = case.trace(source, position)
    scale = 1
    for change in origin.changes:
        if change.operator == "<<" and change.constant is not None and 0 <= change.constant < 16:
            scale <<= change.constant
        elif change.operator == "*" and change.constant is not None and 0 < change.constant < 65536:
            scale *= change.constant
    # A pair of shifts by 32 is the conversion from 32 bits, not a scale.
    return origin, min(scale, 65536)


def bound_test(case: Case, index: str, limit: int, origin: Origin | None) -> Edit | None:
    """A test of the index in front of the line that stopped, or a mask in it.

    Where the index is computed, the compiler may test what it is computed from: a bound that the verifier does not
    see in the index.  A mask stays.
    """
    place = case.place(case.end)
    if place is None or not place.line or case.source is None or not re.fullmatch(r"[A-Za-z_]\w*", index):
        return None
    text = case.source.whole(place.line)
    if not text.rstrip().endswith(";"):
        return None
    if origin is not None and any(change.operator not in ("<<", "+") for change in origin.changes):
        if limit < 2 or limit & (limit - 1) or text.count(f"[{index}]") != 1:
            return None
        return Edit(
            (text,), (text.replace(f"[{index}]", f"[{index} & {limit - 1}]"),), place.file, place.line
        )
    indent = text[: len(text) - len(text.lstrip())]
    step = "\t" if "\t" in indent or not indent else "    "
    return Edit(
        (text,),
        (f"{indent}if ({index} >= {limit})", f"{indent}{step}return 0;", text),
        place.file,
        place.line,
    )


def largest_mask(limit: int) -> int:
    """The largest 2^n-1 below a limit."""
    mask = 1
    while mask * 2 + 1 < limit:
        mask = mask * 2 + 1
    return mask if limit > 1 else 0


def room_of(case: Case) -> int | None:
    """The size of the map value that the last instruction indexes, from any state that was printed."""
    for position in range(case.end, max(case.end - 200, -1), -1):
        for state in (case.path.insns[position].after(), case.path.insns[position].before()):
            for value in state.registers.values():
                if value.kind == "map_value" and not value.maybe_null and value.number("vs"):
                    return value.number("vs")
    return None


def origin_words(case: Case, origin: Origin | None) -> str:
    if origin is None:
        return ""
    if origin.kind == "call" and origin.name:
        return f" (it comes from {origin.name})"
    if origin.kind == "context":
        return " (it comes from the context)"
    if origin.kind in ("load", "stored", "stack"):
        return " (it was loaded from memory, where any bound is forgotten)"
    return ""


def math_between(case: Case, found: re.Match[str]) -> Finding | None:
    """``math between map_value pointer and register with unbounded min value is not allowed``."""
    kind = found[1]
    operation = case.operation
    source = operation.source
    target = operation.target
    if source is not None and (known := case.value(source)) is not None and known.is_pointer():
        source = target
    known = case.value(source) if source is not None else None
    origin = case.trace(source) if source is not None else Origin("unknown")
    _, scale = variable_part(case, target) if target is not None else (None, 1)
    _, index = index_of(case)
    name = index or case.variable(origin.position)
    who = f"The index or offset `{name}`" if name else "The index or offset"
    if source is not None:
        who += f" (R{source})"
    room = room_of(case) if "map_value" in kind else None
    limit = room // scale if room else 0
    tested = signed_test(case, source)
    signed = tested or (
        known is not None and known.upper() is None and known.number("smax", "smax_value") is not None
    )
    if signed:
        lead = (
            "is signed and only its upper side is checked, so it may be negative: its minimum (min value) is "
            "unbounded"
        )
        advice = (
            f"make it unsigned, or also check that it is not negative: if ({name or 'i'} < 0 || "
            f"{name or 'i'} >= "
            f"{limit or 'N'}) return 0; or mask it with & {largest_mask(limit) if limit else '(N - 1)'}"
        )
    else:
        lead = "is not bounded: for the verifier it may be negative or of any size"
        advice = (
            f"bound the index to the range of the array before it is used: if ({name or 'i'} >= "
            f"{limit or 'N'}) return 0; "
            f"with an unsigned variable, or a mask {name or 'i'} &= "
            f"{largest_mask(limit) if limit else 'N - 1'}; in a loop "
            f"on an old kernel unroll it or keep the check inside"
        )
    if kind == "fp":
        return Finding(
            "stack-out-of-bounds",
            f"{who} {lead}, and it is added to a stack pointer: the access may be outside of the buffer.",
            advice,
            LIKELY,
            False,
            story=case.story(origin),
            fix=(case.place(origin.position), case.place(case.end)),
            others=("index-unbounded",),
        )
    sure = "map_value" in kind or kind in ("mem", "ringbuf_mem", "alloc_mem")
    noun = {"map_value": "a map value", "fp": "a stack pointer", "pkt": "a packet pointer"}.get(
        kind, f"a {kind} pointer"
    )
    return Finding(
        "index-unbounded",
        f"{who} {lead}, and it is added to {noun}{origin_words(case, origin)}.",
        advice,
        sure=sure,
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        edit=bound_test(case, name, limit, origin) if limit and not signed else None,
        others=() if sure else ("packet-bounds" if kind == "pkt" else "stack-out-of-bounds",),
    )


def signed_test(case: Case, register: int | None) -> bool:
    """Whether the value in a register was compared as a signed number on the path."""
    if register is None or not len(case.path):
        return False
    origin = case.trace(register)
    for position in range(case.end - 1, max(case.end - 300, -1), -1):
        step = case.path.operation(position)
        if step.kind == "jump" and step.operator in ("s>", "s>=", "s<", "s<=") and step.base is not None:
            tested = case.path.trace(position, step.base)
            if tested.position is not None and tested.position == origin.position:
                return True
    return False


def out_of_bounds_offset(case: Case, found: re.Match[str]) -> Finding | None:
    number = re.search(r"math between fp pointer and (-?\d{1,20}) ", found[0])
    if number:
        return Finding(
            "stack-out-of-bounds",
            f"The constant {number[1]} is added to a stack pointer: that is far outside of the stack, which "
            f"has 512 bytes (pointer arithmetic is limited to 2^29 bytes on the way).",
            "correct the constant, or the type of the index that it was computed from: it mostly comes from a "
            "negative number that was taken for an unsigned one of 32 bits",
            LIKELY,
            False,
            fix=(case.place(case.end),),
            others=("pointer-arithmetic", "index-unbounded"),
        )
    return Finding(
        "index-unbounded",
        f"An index or offset is far outside of the range of the memory ({found[0][:120]}).",
        "bound the index with an unsigned comparison before it is added to the pointer, or correct the "
        "constant",
        LIKELY,
        False,
        others=("map-value-oob",),
    )


def outside(case: Case, found: re.Match[str]) -> Finding | None:
    """``R0 max value is outside of the allowed memory range`` without the line that says of what."""
    register = int(found[1])
    if error_with(case, PACKET):
        return packet(case, None, register)
    if error_with(case, MEMORY):
        return None
    known = case.value(register)
    if known is not None and known.kind in ("pkt", "pkt_meta"):
        return packet(case, None, register)
    origin, _ = variable_part(case, register) if len(case.path) else (None, 1)
    _, index = index_of(case)
    who = f"`{index}` (in R{register})" if index else f"in R{register}"
    if found[2] == "max":
        return Finding(
            "index-unbounded",
            f"The index or offset {who} may be too large: its maximum is outside of the range of the memory, "
            f"past its "
            f"end; the bound on it is missing or wrong.",
            "bound the index by the number of elements right before the use: if (i >= N) return 0; or mask "
            "it: i &= N - 1",
            story=case.story(origin) if origin is not None else (),
        )
    return Finding(
        "map-value-oob",
        f"The access through R{register} is outside of the memory: the place is beyond its size (a fixed "
        f"offset and "
        f"size that are larger than the value), or before its start.",
        "make the pointer's type and the size of the memory agree, or bound the offset",
        LIKELY,
        False,
        story=case.story(origin) if origin is not None else (),
        others=("index-unbounded", "packet-bounds"),
    )


RULES: tuple[Rule, ...] = (
    rule(
        "index-unbounded",
        r"math between (\S+) pointer and register with unbounded min value",
        math_between,
        "4.15..7.3",
    ),
    rule(
        "index-unbounded",
        r"math between (\S+) pointer and -?\d+ is not allowed|value -?\d+ makes \S+ pointer be out of bounds"
        r"|\S+ pointer offset -?\d+ is not allowed",
        out_of_bounds_offset,
        "4.15..7.3",
    ),
    rule(
        "index-unbounded",
        r"(?:R|arg#)(\d+) (max|min) value is outside of the (?:allowed memory|array) range",
        outside,
        "4.15..7.3",
    ),
)
