"""Accesses to map values and other memory of a known size: outside of it, or with an index without bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.case import Case, error_with, register_of
from tracebee.explain.history import Origin
from tracebee.explain.rules.globalfunctions import small_argument
from tracebee.explain.rules.indexes import (
    MEMORY,
    bound_test,
    index_of,
    largest_mask,
    origin_words,
    room_of,
    variable_part,
)
from tracebee.explain.rules.packets import packet
from tracebee.explain.rules.record import Finding, Rule, rule
from tracebee.explain.rules.sizes import size_problem, size_unbounded
from tracebee.explain.rules.stack import stack_variable

if TYPE_CHECKING:
    import re


def map_value(case: Case, found: re.Match[str]) -> Finding | None:
    """``invalid access to map value, value_size=8 off=8 size=8`` and the like for other memory."""
    what, room, offset, size = found[1], int(found[2]), int(found[3]), int(found[4])
    passed = small_argument(case, case.argument(found.string), size, max(room - offset, 0))
    if passed is not None:
        return passed
    detail = error_with(
        case, r"(?:R|arg#)(\d+) (min value is negative|max value is|min value is|unbounded memory)"
    )
    register = int(detail[1]) if detail else case.operation.base
    if detail and detail[2].startswith(("min value is negative", "unbounded")):
        return unbounded(case, detail)
    noun = {"map value": "map value", "map key": "map key"}.get(what, "memory")
    origin = case.trace(register) if register is not None else Origin("unknown")
    if noun == "memory" and origin.name.startswith("bpf_ringbuf"):
        noun = "ring buffer (ringbuf) record"
    base = origin.root()
    map_name = case.map_name(origin.position) if "map_lookup" in origin.name else ""
    if not map_name and register is not None and (known := case.value(register)) is not None:
        map_name = known.attributes.get("map", "")
    owner = f"{noun} of {map_name}" if map_name else noun
    if detail and detail[2] == "max value is":
        if register is not None and (finding := size_problem(case, register, size, room, noun)) is not None:
            return finding
        return bound_too_large(case, register, noun, room, offset, size, map_name)
    if (
        register is not None
        and case.called
        and (finding := size_problem(case, register, size, room, noun)) is not None
    ):
        return finding
    if origin.changes and variable_part(case, register or 0)[0] is not None and offset < 0:
        return bound_too_large(case, register, noun, room, offset, size, map_name, sure=False)
    where = f"bytes {offset} to {offset + size - 1}" if size else f"byte {offset}"
    helper = f"{case.called} reads or writes" if case.called else "The program uses"
    reserve = ""
    if origin.name.startswith("bpf_ringbuf"):
        reserve = " Reserve the size of the struct that is written: bpf_ringbuf_reserve(&rb, sizeof(*e), 0)."
    return Finding(
        "map-value-oob",
        f"{helper} {where} of a {owner} that has only {room} bytes: that is outside, beyond its end"
        f"{' (the offset is negative, before its start)' if offset < 0 else ''}.",
        f"make both sizes agree: the type of the pointer (or the size that is passed) must not be larger "
        f"than the "
        f"{room} bytes of the {noun}; either read less, or declare the {noun} large enough for "
        f"{offset + size} bytes." + reserve,
        story=case.story(origin),
        fix=(case.place(base.position), case.place(case.end)),
    )


def bound_too_large(
    case: Case,
    register: int | None,
    noun: str,
    room: int,
    offset: int,
    size: int,
    map_name: str,
    sure: bool = True,
) -> Finding:
    """A variable index whose bound lets it past the end."""
    _, index = index_of(case)
    origin, scale = variable_part(case, register) if register is not None else (None, 1)
    name = index or (case.variable(origin.position) if origin is not None else "")
    who = f"The index `{name}`" if name else "The index (offset)"
    limit = room // scale if scale else room
    past = offset + size - room
    by = f", {past} byte{'s' if past != 1 else ''} past the end" if past > 0 else ""
    off_by_one = " (off by one: use < and not <= in the test)" if 0 < past <= max(scale, size) else ""
    return Finding(
        "index-unbounded",
        f"{who} may be too large: at its max value the access reaches byte {offset + size - 1} of a {noun} "
        f"of {room} bytes"
        f"{f' in {map_name}' if map_name else ''}{by}{off_by_one}; the bound on it is missing or wrong.",
        f"bound the index so that it stays inside the range: if ({name or 'i'} >= {limit}) return 0; or a "
        f"mask such as "
        f"{name or 'i'} &= {largest_mask(limit)}; test the same variable that is used, after its last change",
        sure=sure,
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(origin.position) if origin is not None else None, case.place(case.end)),
        edit=bound_test(case, name, limit, origin) if limit else None,
    )


def unbounded(case: Case, found: re.Match[str]) -> Finding | None:
    """No bound at all, or a possibly negative one, on an offset."""
    text = found.string
    register = register_of(text)
    if "var &= const" in text:
        return size_unbounded(case, found)
    known = case.value(register) if register is not None else None
    if known is not None and known.kind in ("pkt", "pkt_meta"):
        return packet(case, None, register or 0)
    if known is not None and known.kind == "fp":
        return stack_variable(case, found)
    _, index = index_of(case)
    origin, scale = variable_part(case, register) if register is not None else (None, 1)
    name = index or (case.variable(origin.position) if origin is not None else "")
    who = f"The index or offset `{name}`" if name else "The index or offset"
    if register is not None:
        who += f" in R{register}"
    negative = "negative" in text
    room = known.number("vs") if known is not None else None
    if room is None and case.called == "":
        room = room_of(case)
    limit = room // scale if room else 0
    lead = (
        "may be negative (it is signed and has no minimum)"
        if negative
        else "has no upper bound (no maximum): the access could be anywhere"
    )
    source = origin_words(case, origin)
    return Finding(
        "index-unbounded",
        f"{who} {lead}; it has to be in the range of the memory that it indexes{source}.",
        f"make it unsigned and bound it right before the use: if ({name or 'i'} >= {limit or 'N'}) return 0; "
        f"or mask it: "
        f"{name or 'i'} &= {largest_mask(limit) if limit else 'N - 1'}. If there is such a check, the "
        f"compiler moved it or "
        f"tests a copy: read the value once into a local variable, and keep it with barrier_var(i) or a "
        f"volatile access",
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(origin.position) if origin is not None else None, case.place(case.end)),
        edit=bound_test(case, name, limit, origin) if limit else None,
    )


RULES: tuple[Rule, ...] = (
    rule(
        "map-value-oob",
        MEMORY,
        map_value,
        "4.15..7.3",
    ),
    rule(
        "index-unbounded",
        r"(?:R|arg#)\d+ unbounded memory access, make sure to bounds check",
        unbounded,
        "4.15..7.3",
    ),
    rule(
        "index-unbounded",
        r"(?:R|arg#)\d+ min value is negative, either use unsigned index",
        unbounded,
        "4.15..7.3",
    ),
)
