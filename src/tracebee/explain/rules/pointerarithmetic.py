"""Arithmetic on pointers: operations that are never allowed, moved context pointers, two kinds in one access."""

from __future__ import annotations

import re

from tracebee.explain.case import Case, describe, register_of
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule


def pointer_math(case: Case, found: re.Match[str]) -> Finding | None:
    """The arithmetic on pointers that is never allowed."""
    text = found[0]
    register = register_of(text)
    known = case.value(register) if register is not None else None
    operation = case.operation
    if (known is None or known.is_scalar()) and operation.source is not None:
        other = case.value(operation.source)
        if other is not None and other.is_pointer():
            known = other
    what = describe(known) if known is not None and known.is_pointer() else "a pointer"
    kind = re.search(r"arithmetic on (\S+) prohibited", text)
    operator = re.search(r"operator (\S+)", text)
    who = f"R{register}" if register is not None else "a register"
    if kind and kind[1] == "map_ptr":
        sentence = (
            f"{who} is the map itself, and an offset is added to it: a map is no pointer to its values."
        )
        advice = (
            "do a lookup first: value = bpf_map_lookup_elem(&map, &key); test it for NULL, and add to that "
            "pointer"
        )
    elif kind and "pkt_end" in kind[1]:
        sentence = f"{who} is data_end, the end of the packet, and pointer arithmetic on it is not allowed."
        advice = "move the data pointer instead: if (data + n > data_end) return 0;"
    elif kind:
        sentence = f"{who} is {what} ({kind[1]}): adding to such a pointer is not allowed."
        advice = "use the pointer as it is, with a constant offset in the access itself"
    elif "32-bit" in text or "partial copy" in text:
        sentence = (
            f"{who} holds {what}, and a 32-bit operation works on one half of it: a pointer has 64 bits, and "
            f"arithmetic on its half is not allowed."
        )
        advice = "keep pointers in 64-bit variables (pointer types, long, __u64), never in int or __u32"
    elif "pointer prohibited" in text and "+=" in text:
        sentence = (
            f"Two pointers are added ({operation_text(case)}): only a number may be added to a pointer."
        )
        advice = "add an offset that is a number; the difference of two pointers is a number"
    elif "subtract" in text:
        sentence = (
            f"A pointer is subtracted from something else in {who}, which is not allowed "
            f"({operation_text(case)})."
        )
        advice = "only subtract a number from a pointer, or a packet pointer from another of the same packet"
    elif operator:
        word = {
            "*=": "multiplication",
            "<<=": "a shift",
            ">>=": "a shift",
            "/=": "division",
            "%=": "a remainder",
            "&=": "masking",
            "|=": "an or",
            "^=": "an xor",
            "s>>=": "a shift",
        }.get(operator[1], "this")
        sentence = (
            f"{who} is {what}, and the operator {operator[1]} is applied to it: {word} on a pointer is not "
            f"allowed, "
            f"only adding or subtracting a number."
        )
        advice = (
            "do the operation on a number: on a copy that was read as data with bpf_probe_read_kernel(), or "
            "on the "
            "index before it is added; pointers cannot be tagged, shifted, multiplied or aligned"
        )
    else:
        sentence = (
            f"An operation on {what} ({who}: {operation_text(case)}) is not allowed: only plus or minus a "
            f"number is."
        )
        advice = "compute the offset as a number first and add it to the pointer in 64 bits"
    origin = case.trace(register) if register is not None else None
    return Finding(
        "pointer-arithmetic",
        sentence,
        advice,
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(origin.position),) if origin is not None else (),
    )


def operation_text(case: Case) -> str:
    return case.stopped.text if case.stopped is not None else "the instruction"


def unprivileged_math(case: Case, found: re.Match[str]) -> Finding | None:
    """What only programs without CAP_PERFMON hear, and before 4.14 all."""
    if case.facts.is_root() and "for !root" not in found[0] and "comparison" not in found[0]:
        return pointer_math(case, found)
    return Finding(
        "unprivileged-leak",
        f"An unprivileged program does pointer arithmetic or a pointer comparison that could tell it a "
        f"kernel address "
        f"({found[0][:120]}).",
        "use constant offsets and compare numbers, or load the program with CAP_BPF and CAP_PERFMON (or as "
        "root)",
    )


def modified_context(case: Case, found: re.Match[str]) -> Finding | None:
    """``dereference of modified ctx ptr R1 off=4 disallowed`` and its kin."""
    text = found[0]
    register = register_of(text)
    kind = found[1]
    origin = case.trace(register) if register is not None else None
    who = f"R{register}" if register is not None else "the pointer"
    offset = re.search(r"off=(-?\d{1,10})", text)
    by = f" by {offset[1]} bytes" if offset else ""
    if kind != "ctx":
        return Finding(
            "btf-access",
            f"{who}, {describe(case.value(register)) if register is not None else kind}, was moved{by} "
            f"before it is used: "
            f"such a pointer must keep its original form.",
            "use the original pointer, with a constant field offset in the access itself",
            LIKELY,
            False,
            story=case.story(origin) if origin is not None else (),
            others=("modified-ctx", "helper-arg-type", "pointer-arithmetic"),
        )
    return Finding(
        "modified-ctx",
        f"The context pointer (ctx, {who}) was changed{by} (an offset was added, or it is indexed with a "
        f"variable) "
        f"before the access; context fields may only be read through the unmodified pointer with a constant "
        f"offset.",
        "read ctx->field with a fixed offset; where the compiler merged the accesses of several branches, "
        "read the "
        "field into a variable first (volatile, or barrier_var()), or copy the array and index the copy",
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(origin.position),) if origin is not None else (),
    )


def different_pointers(case: Case, _found: re.Match[str]) -> Finding | None:
    """One instruction, two kinds of pointers on two paths."""
    return Finding(
        "modified-ctx",
        "The same instruction is reached with different kinds of pointers (the context on one path, another "
        "pointer "
        "on the other): the compiler merged the accesses of two branches into one.",
        "keep the accesses of the branches apart: read each into a variable in its own branch, with a "
        "volatile access or "
        "barrier_var(), so that the context is used unmodified",
        LIKELY,
        False,
        others=("direct-deref",),
    )


RULES: tuple[Rule, ...] = (
    rule(
        "unprivileged-leak",
        r"R\d+ pointer comparison prohibited|R\d+ pointer arithmetic prohibited"
        r"|R\d+ (?:has pointer with unsupported alu operation|tried to \w+ (?:from|beyond)|has unknown "
        r"scalar with "
        r"mixed signed bounds|could not be pushed for speculative).*|.*prohibited for !root.*",
        unprivileged_math,
        "4.15..",
    ),
    rule(
        "pointer-arithmetic",
        r"R\d+ (?:32-bit pointer arithmetic|bitwise operator \S+ on pointer|pointer \S+ pointer"
        r"|pointer arithmetic on \S+|pointer arithmetic with \S+ operator|subtraction from stack pointer) "
        r"prohibited.*"
        r"|R\d+ tried to subtract pointer from scalar|R\d+ partial copy of pointer|R\d+ sign-extension part "
        r"of pointer",
        pointer_math,
        "4.15..",
    ),
    rule("modified-ctx", r"dereference of modified (\S+) ptr.*", modified_context, "4.15..7.3"),
    rule("modified-ctx", r"variable (\S+) access var_off=.*", modified_context, "4.15..7.3"),
    rule("modified-ctx", r"negative offset (\S+) ptr.*", modified_context, "6.0..7.3"),
    rule(
        "modified-ctx", r"same insn cannot be used with different pointers", different_pointers, "4.15..7.3"
    ),
)
