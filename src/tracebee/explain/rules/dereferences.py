"""Reads and writes through what is no pointer: plain numbers, saved pointers that the log lost, other types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.rules.lostpointers import damaged_spill, perhaps_stale, stale_packet, turned_number
from tracebee.explain.rules.nullchecks import folded_null, iterator_unchecked, may_be_null, wrong_branch
from tracebee.explain.rules.record import LIKELY, WEAK, Finding, Rule, rule
from tracebee.explain.rules.releases import released

if TYPE_CHECKING:
    import re

    from tracebee.explain.case import Case
    from tracebee.explain.history import Origin

READERS = "bpf_probe_read_kernel() or BPF_CORE_READ() (bpf_probe_read_user() for a user address)"


def number_as_pointer(case: Case, register: int) -> Finding:
    """A plain number is dereferenced: why it is one."""
    origin = case.trace(register)
    if origin.kind == "call" and origin.name.startswith("bpf_iter_") and origin.name.endswith("_next"):
        return iterator_unchecked(case, register, origin)
    special = (
        turned_number(case, register, origin)
        or released(case, register, origin)
        or stale_packet(case, register, origin)
        or damaged_spill(case, register, origin)
        or wrong_branch(case, register, origin)
        or folded_null(case, register, origin)
        or perhaps_stale(case, origin)
    )
    if special is not None:
        return special
    return direct(case, register, origin)


def direct(case: Case, register: int, origin: Origin) -> Finding:
    """A number that never was a pointer in the verifier's eyes."""
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    sure, weight = True, 90
    others: tuple[str, ...] = ()
    advice = (
        f"copy the bytes to the stack with {READERS} and use the copy; each further pointer in a chain needs "
        f"the same"
    )
    if case.log.gap or (origin.kind == "unknown" and not case.path.complete):
        sure, weight = False, LIKELY
        others = ("packet-pointer-stale", "use-after-release", "spill-corruption")
    match origin.kind:
        case "call" if origin.name == "bpf_get_current_task":
            source = "the task's address from bpf_get_current_task(), which is a plain number"
            advice = (
                "read fields with BPF_CORE_READ(task, field) or bpf_probe_read_kernel(), or take the task "
                "from "
                "bpf_get_current_task_btf() (Linux 5.11), whose result may be dereferenced"
            )
        case "call" if origin.name.startswith("bpf_get_current_") or origin.name:
            source = f"the result of {origin.name}, which is a plain number"
        case "context":
            source = (
                "a value from the context (an argument of the traced function or event), which is a plain "
                "number"
            )
        case "load":
            where = {"map_value": "a map value", "mem": "memory", "fp": "the stack"}.get(
                origin.name, "memory"
            )
            if origin.name.startswith(("ptr_", "trusted_ptr_", "rcu_ptr_")):
                where = "a kernel structure"
            source = (
                f"a value that was loaded from {where}; the verifier keeps no type for an address stored "
                f"there"
            )
        case "stored" if origin.name:
            source = (
                f"a value that {origin.name} put on the stack: an address that was copied is a plain number"
            )
        case "stored":
            source = f"a value from the stack (fp{origin.slot}), written as a plain number"
        case "constant":
            source = f"the number {origin.constant}"
        case "stack":
            return lost_spill(case, register, origin)
        case "argument" if case.log.validating:
            function = case.log.validating
            return Finding(
                "global-function",
                f"The global function {function}() dereferences R{register}, an argument that is a plain "
                f"number to the "
                f"verifier: a global function is checked on its own, from the types in its prototype alone.",
                f"give {function}() a typed pointer argument (and test it for NULL), or make it static",
                LIKELY,
                False,
                story=case.story(origin),
                others=("direct-deref",),
            )
        case _:
            source = "a plain number"
    if any(change.narrow for change in origin.changes):
        others = (*others, "pointer-arithmetic")
    return Finding(
        "direct-deref",
        f"{who} is dereferenced, but to the verifier it is a number and no pointer: it is {source}.",
        advice,
        weight,
        sure,
        story=case.story(origin),
        fix=(case.place(origin.position),),
        evidence=(f"R{register} comes from: {origin.kind} {origin.name}".rstrip(),),
        others=others,
    )


def lost_spill(case: Case, register: int, origin: Origin) -> Finding:
    """Loaded from a stack slot whose writing the log does not show."""
    old = case.older("5.11")
    if old or (case.log.gap and old is not False):
        return Finding(
            "spill-corruption",
            f"R{register} was saved on the stack (slot fp{origin.slot}) and loaded back, and the verifier "
            f"lost its type "
            f"there: before Linux 5.11 it did not keep the type of every saved pointer.",
            "avoid that the pointer is saved on the stack: fewer live variables around it, a barrier after "
            "the pointer "
            "is computed, a smaller function; or a newer kernel",
            LIKELY,
            False,
            story=case.story(origin),
            others=("direct-deref", "kernel-bug"),
        )
    return Finding(
        "direct-deref",
        f"R{register} is dereferenced, but to the verifier it is a number: it was loaded from the stack "
        f"(fp{origin.slot}), and what was written there was no pointer.",
        f"copy the data with {READERS} and use the copy",
        LIKELY,
        False,
        story=case.story(origin),
        others=("spill-corruption",),
    )


def invalid_access(case: Case, found: re.Match[str]) -> Finding | None:
    """``R1 invalid mem access 'TYPE'``."""
    register, kind = int(found[1]), found[2]
    if "or_null" in kind:
        return may_be_null(case, register, kind)
    if kind in ("scalar", "inv", "imm", "unknown_value", "unknown"):
        return number_as_pointer(case, register)
    if kind == "pkt_end":
        return Finding(
            "packet-bounds",
            f"R{register} is data_end, the end of the packet: it may be compared with, but no packet byte "
            f"may be read "
            f"through it.",
            "read through the data pointer, after a comparison of data plus the length with data_end",
            LIKELY,
            False,
        )
    if kind == "map_ptr":
        return Finding(
            "helper-arg-type",
            f"R{register} is the map itself and no pointer to a value of the map, and it is dereferenced.",
            "look the value up first: value = bpf_map_lookup_elem(&map, &key); test it for NULL, then use it",
            LIKELY,
            False,
            others=("pointer-arithmetic", "direct-deref"),
        )
    if kind.startswith(("ptr_", "percpu_ptr_", "untrusted_ptr_", "user_ptr", "trusted_ptr_")):
        return Finding(
            "btf-access",
            f"R{register} points to memory that may not be read directly ({kind}).",
            f"read it with {READERS}, or get a trusted pointer first",
            LIKELY,
            False,
            others=("direct-deref", "kfunc"),
        )
    return Finding(
        "direct-deref",
        f"R{register} has the type {kind}, through which this program may not read or write.",
        f"copy the data with {READERS}, or use the pointer only as the helper's documentation says",
        WEAK,
        False,
        story=case.story(case.trace(register)),
    )


RULES: tuple[Rule, ...] = (
    rule("direct-deref", r"(?:R|arg#)(\d+) invalid mem access '([^']{1,80})'", invalid_access, "4.15..7.3"),
)
