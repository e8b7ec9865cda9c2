"""Sleepable programs: calls that may sleep, and the programs and maps that allow it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.edits import section_edit
from tracebee.explain.rules.record import Finding, Rule, rule

if TYPE_CHECKING:
    from tracebee.explain.case import Case

SECTION_SLEEPABLE = re.compile(r"[^/]*\.s(?:/|$)")


def sleeping(case: Case, found: re.Match[str]) -> Finding | None:
    """Something that may sleep: in a program that may not, or in a section."""
    text = found[0]
    region = re.search(
        r"(non-preemptible|preempt\w*|rcu_read_lock|RCU|IRQ|irq|lock)\S* (?:region|section)|in "
        r"(rcu|lock|irq)",
        text,
    )
    name = case.called or "the function"
    if region:
        return Finding(
            "rcu-preempt-context",
            f"{name} may sleep, and is called inside a section (RCU, preemption or interrupts disabled) "
            f"where sleeping is not allowed "
            f"({text[:100]}).",
            "call it before the section (before bpf_rcu_read_lock or bpf_preempt_disable), or after its end",
            others=("sleepable",),
        )
    return Finding(
        "sleepable",
        f"{name} may sleep, but the program is not sleepable: only sleepable programs may call it.",
        'put the program into a sleepable section, with .s after its type: SEC("fentry.s/..."), '
        'SEC("lsm.s/..."), '
        'SEC("uprobe.s/..."), SEC("iter.s/..."), where the hook allows that; or use a variant that does '
        "not sleep",
        edit=section_edit(case.source, case.facts.section, sleepable_section(case.facts.section)),
        others=("kfunc",) if "kfunc" in text or "kernel func" in text else ("helper-not-allowed",),
    )


def sleeping_function(case: Case, found: re.Match[str]) -> Finding | None:
    """A global function that may sleep; the message does not say whether the program or a section forbids it."""
    section = case.facts.section
    is_sleepable = SECTION_SLEEPABLE.match(section) is not None
    name = case.called or "the function"
    if is_sleepable:
        return Finding(
            "rcu-preempt-context",
            f"{name} may sleep, and is called inside a section (RCU, preemption or interrupts disabled) where "
            "sleeping is not allowed.",
            "call it before the section, or after its end",
            sure=False,
            others=("sleepable",),
        )
    return Finding(
        "sleepable",
        f"{name} is a global function that may sleep, as something that it calls may, but the program is not "
        "sleepable: only sleepable programs may call it.",
        'put the program into a sleepable section, with .s after its type, such as SEC("fentry.s/..."), where the '
        "hook allows that; or have the function call nothing that sleeps",
        edit=section_edit(case.source, section, sleepable_section(section)),
        sure=bool(section),
        others=("rcu-preempt-context",),
    )


def sleepable_section(section: str) -> str:
    """The section of the sleepable program of that kind; empty where there is none."""
    found = re.match(r"(fentry|fexit|fmod_ret|lsm|uprobe|uretprobe|iter)/", section)
    return f"{found[1]}.s{section[found.end(1) :]}" if found else ""


def sleepable_maps(case: Case, found: re.Match[str]) -> Finding | None:
    kinds = found[0].removeprefix("Sleepable programs can only use ").strip(". ")
    return Finding(
        "sleepable",
        f"The program is sleepable, and uses a map of a type that sleepable programs may not use on this "
        f"kernel: they can only use {kinds}.",
        "use one of those map types, or make the program non-sleepable (take the .s out of its section name)",
        no_insn=True,
    )


def sleepable_type(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "sleepable",
        f"The program is marked as sleepable, but this kind of program or hook cannot sleep here "
        f"({found[0][:120]}).",
        "take the .s out of the section name, or attach to a hook that may sleep (fentry on an "
        "error-injectable function, a sleepable LSM "
        "hook, uprobe, iter)",
    )


RULES: tuple[Rule, ...] = (
    rule(
        "sleepable",
        r"global functions that may sleep are not allowed in non-sleepable context.*",
        sleeping_function,
        "6.16..7.3",
    ),
    rule("sleepable", r"Sleepable programs can only use .*", sleepable_maps, "5.10..7.3"),
    rule(
        "sleepable",
        r"Only .* programs can be sleepable|Program of this type cannot be sleepable|BPF_LSM_CGROUP programs "
        r"cannot be "
        r"sleepable|Syscall programs can only be sleepable|\S+ is not sleepable|Sleepable program cannot "
        r"attach to non-faultable.*"
        r"|Extension program may sleep.*",
        sleepable_type,
        "5.10..7.3",
    ),
    rule(
        "sleepable",
        r"helper call might sleep in a non-sleepable prog|sleepable (?:helper|global function) .* in .*"
        r"|program must be sleepable to call sleepable kfunc.*|kernel func(?:tion)? \S+ is sleepable "
        r"(?:within|but).*"
        r"|sleepable global function .*",
        sleeping,
        "5.10..7.3",
    ),
)
