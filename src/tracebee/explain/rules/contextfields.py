"""Fields of the context, arguments of the hook and members of kernel structs that cannot be read so."""

from __future__ import annotations

import re

from tracebee.explain.case import Case, error_with
from tracebee.explain.rules.record import Finding, Rule, rule


def context(case: Case, found: re.Match[str]) -> Finding | None:
    """``invalid bpf_context access off=176 size=8``."""
    offset, size = int(found["off"]), int(found["size"])
    missing = error_with(case, r"func '([^']{1,128})' doesn't have (\d{1,3})-th argument")
    operation = case.operation
    write = operation.kind in ("store", "atomic")
    section = case.facts.section
    kind = case.kind
    if missing:
        number = offset // 8 + 1
        sentence = (
            f"The program reads argument {number} of {missing[1]} (context offset {offset}), but that "
            f"tracepoint or "
            f"function (func) has fewer arguments: the access is past their end."
        )
        advice = (
            f"use only the arguments that {missing[1]} has (its prototype: bpftool btf dump, or tracebee -lv)"
        )
    elif write:
        field = f" at offset {offset}"
        sentence = (
            f"The program writes {size} bytes into the context (ctx){field}: that field is read-only for "
            f"{kind}, or is no "
            f"field of that size."
        )
        advice = (
            "do not write this context field: most fields may only be read; change what may be changed "
            "through a helper, "
            "or use a program type that may write it"
        )
    elif section.startswith(("raw_tp", "raw_tracepoint", "tp_btf", "fentry", "fexit", "lsm", "fmod_ret")):
        sentence = (
            f"The program reads argument {offset // 8 + 1} (context ctx offset {offset}, index "
            f"{offset // 8}), which is "
            f"outside, past the end of the arguments of this hook."
        )
        advice = "use an index below the number of arguments that the function or tracepoint has"
    else:
        struct = (
            " (struct pt_regs)"
            if section.startswith(("kprobe", "kretprobe", "uprobe", "ksyscall", "usdt"))
            else ""
        )
        sentence = (
            f"The context{struct} (ctx) has no readable field at offset {offset} with {size} bytes for "
            f"{kind}: the access is "
            f"outside of it, past its end, or not of the field's size."
        )
        advice = (
            "read the context's fields by name, with their own size, and only those that this program type "
            "offers"
        )
    return Finding(
        "ctx-access",
        sentence,
        advice,
        fix=(case.place(case.end),),
        story=case.story(case.trace(operation.base)) if operation.base is not None else (),
    )


def missing_argument(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "ctx-access",
        f"The traced function or tracepoint {found[1]} has fewer arguments than the program reads: argument "
        f"number "
        f"{int(found[2]) + 1} does not exist (the context access is outside of them).",
        "use only the arguments of its prototype",
    )


def btf_member(case: Case, found: re.Match[str]) -> Finding | None:
    """``access beyond struct task_struct at off 1000000 size 8`` and its kin."""
    text = found[0]
    struct = re.search(r"struct (\w{1,128})", text)
    member = re.search(r"member (\w{1,128})", text)
    register = case.operation.base
    name = f"struct {struct[1]}" if struct else "the kernel structure"
    if "beyond struct" in text:
        sentence = (
            f"The access is outside of {name}: its offset is beyond (past) the end of the struct, by its "
            f"size in this kernel."
        )
    elif member:
        sentence = (
            f"The access does not fit the member {member[1]} of {name}: it goes beyond (past) the end of "
            f"that field, or "
            f"outside of its size."
        )
    elif "negative" in text:
        sentence = (
            f"The access is before the start of {name} (a negative offset), outside of the struct or member."
        )
    elif "variable" in text:
        sentence = (
            f"{name} is accessed at a variable offset; a field of a kernel struct needs a constant one."
        )
    elif "user memory" in text:
        sentence = f"The member of {name} points to user memory, and may not be read directly."
    else:
        sentence = (
            f"The access to {name} is not allowed: it is outside of a struct member that may be read so "
            f"({text[:80]})."
        )
    return Finding(
        "btf-access",
        sentence,
        "read one whole member with its own type and size; let CO-RE find its offset (preserve_access_index, "
        "BPF_CORE_READ), "
        "and copy arrays or odd parts with bpf_probe_read_kernel()",
        story=case.story(case.trace(register)) if register is not None else (),
    )


RULES: tuple[Rule, ...] = (
    rule(
        "ctx-access",
        r"invalid (?:bpf_context|\w+) access off=(?P<off>-?\d+) size=(?P<size>\d+)",
        context,
        "4.15..7.3",
    ),
    rule(
        "ctx-access", r"func '([^']{1,128})' doesn't have (\d{1,3})-th argument", missing_argument, "5.5..7.3"
    ),
    rule(
        "btf-access",
        r"access beyond (?:struct|the end of member) .*|cannot access ptr member .*|(?:R\d+|arg#\d+) is \S+ "
        r"invalid (?:negative access|variable offset).*|.*access (?:user|percpu) memory.*"
        r"|struct \w+ doesn't have field at offset \d+",
        btf_member,
        "5.5..7.3",
    ),
)
