"""Accesses of a kind that the memory does not take: misaligned, atomic, or writes to what may only be read."""

from __future__ import annotations

import re

from tracebee.explain.case import Case, describe
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule


def misaligned(case: Case, found: re.Match[str]) -> Finding | None:
    size = re.search(r"size (\d{1,4})", found[0])
    expected = re.search(r"expected=(\d{1,4})", found[0])
    width = size[1] if size else expected[1] if expected else "its size"
    atomic = case.operation.kind == "atomic"
    what = "An atomic operation" if atomic else "An access"
    return Finding(
        "misaligned",
        f"{what} of {width} bytes is misaligned: its offset is not a multiple of {width} ({found[0][:100]}).",
        f"align the field to {width} bytes: put it at an offset that is a multiple of {width}, remove packed "
        f"from the struct, "
        f"or copy the bytes instead",
        fix=(case.place(case.end),),
    )


def read_only(case: Case, found: re.Match[str]) -> Finding | None:
    """Writes to what may only be read."""
    text = found[0]
    register = case.operation.base
    known = case.value(register) if register is not None else None
    origin = case.trace(register) if register is not None else None
    name = ""
    if known is not None:
        name = known.attributes.get("map", "")
    if not name and origin is not None and origin.kind == "call":
        name = case.map_name(origin.position)
    if "map" in text:
        verb = "read" if text.startswith("read from map") else "written"
        which = f"map {name}" if name else "the map"
        sentence = (
            f"A value of {which} is {verb} by the program, but the map is read-only for programs: it is a "
            f"constant (.rodata), "
            f"frozen, or was made with BPF_F_RDONLY_PROG."
        )
        advice = (
            "do not write to const variables (make the variable non-const, so that it is in .data or .bss), "
            "or make the map "
            "without BPF_F_RDONLY_PROG"
        )
    elif "packet" in text:
        sentence = "The program writes into the packet, which this kind of program may only read."
        advice = "use a program type that may write to packets (tc, XDP), or bpf_skb_store_bytes()"
    else:
        struct = describe(known) if known is not None else "kernel memory"
        sentence = (
            f"The program writes to {struct}, but kernel structures (such as a task) are read-only: only "
            f"reading is supported."
        )
        advice = (
            "do not write to kernel structures; only helpers and kfuncs change them. Keep own data in a map"
        )
    return Finding(
        "read-only-write",
        sentence,
        advice,
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(case.end),),
    )


def atomic_target(case: Case, found: re.Match[str]) -> Finding | None:
    """Atomic operations on what has none."""
    kind = found[3]
    return Finding(
        "bad-instruction",
        f"An atomic operation (BPF_XADD, BPF_ATOMIC) on R{found[2]}, which is "
        f"{'the context (ctx)' if kind == 'ctx' else kind}, is "
        f"not allowed: atomics work on the stack, map values and such memory only.",
        "do the atomic add (__sync_fetch_and_add) on a map value; change context fields with a plain store "
        "where that is allowed",
        fix=(case.place(case.end),),
    )


def store_target(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "read-only-write",
        f"A constant is stored (BPF_ST) into R{found[1]}, which is {found[2]}: this kernel does not allow "
        f"that instruction there, "
        f"or the memory may only be read.",
        "store it from a register (a variable), or do not write there",
        LIKELY,
        False,
        others=("bad-instruction", "ctx-access", "instruction-too-new"),
    )


RULES: tuple[Rule, ...] = (
    rule("misaligned", r"misaligned .*|.*access misaligned expected=.*", misaligned, "4.15..7.3"),
    rule(
        "bad-instruction",
        r"BPF_(XADD|ATOMIC) (?:stores into|loads from) R(\d+) (\S+) is not allowed",
        atomic_target,
        "4.15..",
    ),
    rule("read-only-write", r"BPF_ST stores into R(\d+) (\S+) is not allowed", store_target, "4.18..6.1"),
    rule(
        "read-only-write",
        r"(?:write into|read from) map forbidden.*|only read (?:from \S+ )?is supported|cannot write into \S+"
        r"|write to change key .* not allowed|Writes through BTF pointers are not allowed",
        read_only,
        "4.15..7.3",
    ),
)
