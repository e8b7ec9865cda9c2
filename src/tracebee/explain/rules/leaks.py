"""References that a program still holds at its end: which call took them, and how they are given back."""

from __future__ import annotations

import re

from tracebee.explain.case import ACQUIRERS, Case
from tracebee.explain.explanation import Step
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule
from tracebee.explain.rules.sections import region_end


def leak(case: Case, found: re.Match[str]) -> Finding | None:
    """``Unreleased reference id=2 alloc_insn=5``: which call took it, and what gives it back."""
    slot = int(found[1])
    position = case.slot_position(slot)
    name = (
        case.path.operation(position).name
        if position is not None
        else case.log.calls.get(slot, "").partition("#")[0]
    )
    place = case.place(position) if position is not None else case.slot_place(slot)
    variable = case.variable(position)
    at = (
        f" ({place.place()})"
        if place is not None and place.place()
        else f" (instruction {slot})"
        if name
        else ""
    )
    unseen = held_on_stack(case, found.string) if not name else None
    if unseen is not None:
        return unseen
    if name.startswith("bpf_iter_"):
        kind = name.removesuffix("_new")
        return Finding(
            "iterator",
            f"The iterator that {name} created{at} is not destroyed on this path before the program ends.",
            f"call {kind}_destroy(&it) on every path after {name}, also where it failed, or use "
            f"bpf_for_each()",
            fix=(place,),
            others=("reference-leak",),
        )
    if name.endswith("_dynptr"):
        return Finding(
            "dynptr",
            f"The dynptr that {name} made{at} is not released on this path before the program ends: it is "
            f"never submitted or "
            f"discarded.",
            "call bpf_ringbuf_submit_dynptr or bpf_ringbuf_discard_dynptr on every path, also where the "
            "reservation failed (a "
            "dynptr has to be given back then too)",
            fix=(place,),
            others=("reference-leak",),
        )
    if name in ("bpf_local_irq_save", "bpf_res_spin_lock_irqsave"):
        return region_end(case, "bpf_local_irq_save", place is not None)
    release, thing = ACQUIRERS.get(name, ("", ""))
    if case.called == "bpf_tail_call":
        held = f"the {thing} from {name}{at}" if thing else f"what was acquired{at}"
        return Finding(
            "tail-call",
            f"A tail call is done while a reference is held: {held} was not released before bpf_tail_call, "
            f"and the "
            f"program cannot do it.",
            f"call {release or 'its release function'} before bpf_tail_call",
            fix=(place, case.place(case.end)),
            others=("reference-leak",),
        )
    if not name:
        release, thing = guess_release(case)
    release = release or "what releases it (bpf_ringbuf_submit or bpf_ringbuf_discard, bpf_sk_release)"
    thing = thing or "reference"
    who = f" in `{variable}`" if variable else ""
    count = sum(1 for _, called in case.path.calls_between(-1, case.end) if called == name) if name else 0
    again = (
        " It is taken again in a loop, and the earlier one is lost when the variable is overwritten."
        if count > 1
        else ""
    )
    return Finding(
        "reference-leak",
        f"The {thing} from {name or 'the call at instruction ' + str(slot)}{at}{who} is not released on this "
        f"path: the program "
        f"returns (or overwrites it) and leaks it.{again}",
        f"call {release} on every path before return, also on the early "
        f"ones{' and before taking the next one' if again else ''}",
        story=(
            *(
                (case.step(position, f"{name}: acquired, must be released"),)
                if position is not None
                else (Step("acquired", slot, place),)
            ),
            case.step(case.end, "the path ends here, and it is still held"),
        ),
        fix=(place,),
        evidence=(f"acquired at instruction {slot}",),
    )


def held_on_stack(case: Case, message: str) -> Finding | None:
    """The reference is that of an iterator or dynptr, and the call that made it is not in the log."""
    number = re.search(r"id=(\d{1,9})", message)
    reference = int(number[1]) if number else -1
    for position in range(case.end, max(case.end - 500, -1), -1):
        for value in case.path.insns[position].after().slots.values():
            if value.kind.startswith("dynptr_") and value.number("ref_id") == reference:
                return dynptr_kept(True)
            if value.kind.startswith("iter_") and value.number("ref_id") == reference:
                return Finding(
                    "iterator",
                    f"An iterator (bpf_{value.kind}) is not destroyed on this path before the program ends.",
                    f"call bpf_{value.kind}_destroy(&it) on every path, also where making it failed",
                    others=("reference-leak",),
                )
    # Up to 6.1 the state does not say whose a reference is.
    if any(name.startswith("bpf_dynptr_") for _, name in case.path.calls_between(-1, case.end)):
        return dynptr_kept(False)
    return None


def dynptr_kept(sure: bool) -> Finding:
    """A dynptr that still holds a record at the end."""
    return Finding(
        "dynptr",
        "A dynptr that holds a ring buffer record is not released on this path before the program ends: it "
        "is never submitted or discarded.",
        "call bpf_ringbuf_submit_dynptr or bpf_ringbuf_discard_dynptr on every path, also where the "
        "reservation failed",
        sure=sure,
        others=("reference-leak",),
    )


def guess_release(case: Case) -> tuple[str, str]:
    """How what is held is given back, where the log does not show the call that took it."""
    for position in range(case.end, max(case.end - 500, -1), -1):
        for value in case.path.insns[position].after().registers.values():
            if "mem" in value.kind and "ref_obj_id" in value.attributes:
                return ACQUIRERS["bpf_ringbuf_reserve"]
            if value.kind.startswith(("sock", "tcp_sock")):
                return ACQUIRERS["bpf_sk_lookup_tcp"]
    return "", ""


def reference_leak(case: Case, found: re.Match[str]) -> Finding | None:
    """What newer kernels say after (or instead of) the reference's number."""
    text = found[0]
    if "tail_call" in text:
        return None
    return Finding(
        "reference-leak",
        f"The program ends (or does {text.split(' would')[0][:60]}) while it still holds a reference: it was "
        f"acquired and never "
        f"released.",
        "release it on every path before return: bpf_ringbuf_submit or bpf_ringbuf_discard, bpf_sk_release, "
        "or the function that "
        "fits",
        LIKELY,
    )


RULES: tuple[Rule, ...] = (
    rule("reference-leak", r"Unreleased reference id=\d+ alloc_insn=(\d{1,9})", leak, "4.20..7.3"),
    rule("reference-leak", r"Leaking reference id=\d+ alloc_insn=(\d{1,9})", leak, "7.2.."),
    rule("reference-leak", r".{0,80} would lead to reference leak", reference_leak, "6.13..7.2"),
)
