"""Accesses to the stack: outside of its 512 bytes, or at a place that varies."""

from __future__ import annotations

import re

from tracebee.explain.case import Case, register_of
from tracebee.explain.rules.globalfunctions import small_argument
from tracebee.explain.rules.indexes import index_of
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule
from tracebee.explain.rules.sizes import size_problem
from tracebee.explain.rules.uninitialised import uninitialised

MAX_STACK = 512


def stack_access(case: Case, found: re.Match[str]) -> Finding | None:
    """Reads and writes through stack pointers, in the forms of all kernels."""
    text = found[0]
    register = register_of(text)
    offset = re.search(r"off[= ](-?\d{1,10})", text)
    size = re.search(r"(?:access_)?size[= ](-?\d{1,10})", text)
    start = int(offset[1]) if offset else 0
    length = int(size[1]) if size else 1
    outside = start < -MAX_STACK or start >= 0 or start + length > 0
    passed = small_argument(case, register, length, -start if start < 0 else None) if outside else None
    if passed is not None:
        return passed
    if "read" in text and not outside and "indirect access" not in text:
        return uninitialised(case, register, start, start, length)
    if case.called and register is not None and start >= -MAX_STACK:
        finding = size_problem(case, register, length, -start if start < 0 else None, "stack buffer")
        if finding is not None:
            finding.others = ("stack-out-of-bounds",)
            return finding
    who = f"R{register}" if register is not None else "the pointer"
    if start < -MAX_STACK:
        sentence = (
            f"The access at fp{start} is below the stack: a BPF program has 512 bytes of stack (fp-512 to "
            f"fp-1), and its "
            f"local variables need more."
        )
        advice = (
            "use less stack: put large buffers into a per-CPU array map (one element) or a ring buffer record"
        )
    else:
        past = start + length
        sentence = (
            f"The access of {length} bytes at fp{start:+d} through {who} is outside of the stack: it goes "
            f"{past} bytes "
            f"beyond (past) the end of the buffer at the frame's top."
        )
        advice = (
            "keep index and size inside the buffer on the stack: compare with sizeof(buffer), or make it "
            "larger"
        )
    return Finding(
        "stack-out-of-bounds",
        sentence,
        advice,
        others=("helper-mem-size",) if case.called else ("stack-limit",) if start < -MAX_STACK else (),
    )


def stack_variable(case: Case, found: re.Match[str]) -> Finding | None:
    """A variable index into the stack."""
    register = register_of(found.string)
    _, index = index_of(case)
    name = index
    if register is not None and case.called:
        finding = size_problem(case, register, None, None, "stack buffer")
        if finding is not None:
            finding.sure = False
            return finding
    who = f"`{name}`" if name else f"R{register}" if register is not None else "the offset"
    return Finding(
        "stack-out-of-bounds",
        f"The stack is accessed at a variable offset ({who}) that is not bounded to the buffer on the stack: "
        f"the access "
        f"may be outside of it.",
        f"bound the index to the range of the array ({name or 'i'} < sizeof, as an unsigned number, or a "
        f"mask), initialise the "
        f"whole buffer, or index an array in a map instead",
        LIKELY,
        False,
        story=case.story(case.trace(register)) if register is not None else (),
        others=("index-unbounded", "stack-uninit"),
    )


RULES: tuple[Rule, ...] = (
    rule(
        "stack-out-of-bounds",
        r"invalid (?:unbounded )?variable-offset.* stack (?:R|arg#)\d+|invalid variable stack "
        r"(?:read|access)|variable offset stack pointer "
        r"cannot be passed|invalid(?: indirect)? read from stack (?:R|arg#)\d+ var_off",
        stack_variable,
        "4.15..7.3",
    ),
    rule(
        "stack-out-of-bounds",
        r"invalid (?:(?:indirect |zero-size )?(?:read from|write to|access to) )?stack (?:type )?"
        r"(?:(?:R|arg#)\d+ )?(?:type=\S+ )?off[= ].*",
        stack_access,
        "4.15..7.3",
    ),
)
