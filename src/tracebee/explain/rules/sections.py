"""Sections that a lock, RCU, preemption or interrupts make: their ends, and what may not be inside them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, plain, rule

if TYPE_CHECKING:
    from tracebee.explain.case import Case

REGIONS = {
    "bpf_spin_lock": ("spin-lock", "bpf_spin_lock", "bpf_spin_unlock"),
    "bpf_res_spin_lock": ("spin-lock", "bpf_res_spin_lock", "bpf_res_spin_unlock"),
    "bpf_rcu_read_lock": ("rcu-preempt-context", "bpf_rcu_read_lock (rcu)", "bpf_rcu_read_unlock"),
    "bpf_preempt_disable": ("rcu-preempt-context", "bpf_preempt_disable", "bpf_preempt_enable"),
    "bpf_local_irq_save": ("rcu-preempt-context", "bpf_local_irq_save (irq)", "bpf_local_irq_restore"),
}


def region_end(case: Case, region: str, _known: bool = False) -> Finding:
    """The program ends inside a section."""
    cause, enter, leave = REGIONS.get(region, ("rcu-preempt-context", region, "its end"))
    position = next(
        (at for at, name in reversed(case.path.calls_between(-1, case.end)) if name == region), None
    )
    place = case.place(position)
    taken = f" ({place.place()})" if place is not None and place.place() else ""
    thing = "lock" if "lock" in region and "rcu" not in region else "section"
    return Finding(
        cause,
        f"The program ends (or leaves) while the {thing} of {enter}{taken} is still held: on this path "
        f"{leave} is missing.",
        f"call {leave} on every path before return, also before early returns",
        fix=(place, case.place(case.end)),
        story=((case.step(position, f"{region}: entered"),) if position is not None else ())
        + (case.step(case.end, "the path ends inside of it"),),
    )


def inside_region(case: Case, found: re.Match[str]) -> Finding | None:
    """``BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region``."""
    what, region = found[1], found[2]
    if "EXIT" in what:
        return region_end(case, region)
    cause, enter, leave = REGIONS.get(region, ("rcu-preempt-context", region, "its end"))
    word = "lock is held" if cause == "spin-lock" else "section is active"
    return Finding(
        cause,
        f"{what[:60]} is used inside, while the {enter} {word}, which is not allowed.",
        f"do it before {region} or after {leave}",
    )


def missing_end(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    for region, (_, _, leave) in REGIONS.items():
        if leave in text:
            return region_end(case, region)
    return region_end(case, "bpf_preempt_disable")


def call_in_lock(case: Case, found: re.Match[str]) -> Finding | None:
    name = case.called or "a function"
    if "global function" in found[0]:
        sentence = (
            "A global function is called while a lock is held (inside bpf_spin_lock): only static functions "
            "may be called there."
        )
    else:
        sentence = (
            f"The helper (function) {name} is called while a spin lock is held: between bpf_spin_lock and "
            f"bpf_spin_unlock no "
            f"calls are allowed."
        )
    position = next(
        (at for at, called in reversed(case.path.calls_between(-1, case.end)) if called == "bpf_spin_lock"),
        None,
    )
    variable = case.variable(case.end)
    return Finding(
        "spin-lock",
        sentence,
        f"call {name} before bpf_spin_lock (or after "
        f"bpf_spin_unlock){f', and keep its result in a variable for `{variable}`' if variable else ''}; "
        f"inside the lock only read and write the value",
        fix=(case.place(position), case.place(case.end)),
        story=((case.step(position, "the lock is taken"),) if position is not None else ())
        + (case.step(case.end, f"{name} is called inside"),),
    )


def rcu_unmatched(case: Case, found: re.Match[str]) -> Finding | None:
    function = re.search(r"kernel function (\w{1,128})", found[0])
    name = function[1] if function else case.called or "the function"
    if "nested" in found[0]:
        sentence = f"{name} is called inside an RCU section that is already active (nested rcu lock)."
        advice = "take bpf_rcu_read_lock once, and unlock before the next"
    else:
        pair = {"bpf_rcu_read_unlock": "bpf_rcu_read_lock", "bpf_preempt_enable": "bpf_preempt_disable"}.get(
            name, "its start"
        )
        what = "rcu read lock" if "rcu" in found[0] else "preempt_disable"
        sentence = (
            f"{name} is unmatched: on this path it is called without a matching {pair} before it ({what} is "
            f"not held)."
        )
        advice = f"call {pair} first on every path, or remove the extra {name}"
    return Finding("rcu-preempt-context", sentence, advice, fix=(case.place(case.end),))


RULES: tuple[Rule, ...] = (
    rule(
        "spin-lock",
        r"(.{0,80}?) ?(?:cannot|can't) be used inside (bpf_\w+?)-ed region",
        inside_region,
        "6.12..7.3",
    ),
    rule(
        "spin-lock",
        r"bpf_(?:spin_unlock|rcu_read_unlock|local_irq_restore|preempt_enable)(?:\(s\))? (?:is|are) "
        r"missing|\d+ "
        r"bpf_preempt_enable\S* missing",
        missing_end,
        "5.1..6.12",
    ),
    rule(
        "spin-lock",
        r"(?:global )?function calls are not allowed while holding a lock",
        call_in_lock,
        "5.1..7.3",
    ),
    rule(
        "rcu-preempt-context",
        r"(?:unmatched (?:rcu read unlock|attempt to enable preemption)|nested rcu read lock).*"
        r"|(?:expected (?:an )?(?:un)?initialized irq flag|cannot restore irq state|irq flag acquired by).*",
        rcu_unmatched,
        "6.2..",
    ),
    plain(
        "rcu-preempt-context",
        r"global function calls are not allowed (with preemption disabled|inside)",
        "A global function is called inside an RCU, preemption or interrupt section ({0}), which is not "
        "allowed.",
        "make the function static, or call it outside of the section (after unlock or enable)",
        "6.12..",
    ),
)
