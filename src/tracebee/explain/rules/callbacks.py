"""Timers, work queues and the functions that they and other helpers call back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, plain, rule

if TYPE_CHECKING:
    import re

    from tracebee.explain.case import Case


def timer(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    thing = "bpf_wq" if "wq" in text or "workqueue" in text else "bpf_timer"
    if "tracing progs" in text:
        sentence = (
            f"A tracing program such as {case.kind} cannot use a {thing} (timer): that type of program is not "
            f"allowed to, on this kernel."
        )
        advice = (
            "start the timer in a program of another type (tc, XDP, cgroup, struct_ops), or do without: poll "
            "from user space"
        )
    elif "map_uid" in text or "doesn't match" in text:
        sentence = (
            "The timer and the map that bpf_timer_init gets do not belong together: the timer has to be in a "
            "value of that map."
        )
        advice = (
            "pass the map that the value was looked up in: bpf_timer_init(&value->timer, &that_map, "
            "CLOCK_MONOTONIC)"
        )
    elif "directly by load/store" in text:
        sentence = (
            "The memory of a struct bpf_timer is read or written directly; it may only be used with the "
            "bpf_timer helpers."
        )
        advice = "do not copy or set the whole map value that holds the timer"
    elif "PREEMPT_RT" in text:
        sentence = "This kernel is built with PREEMPT_RT, where this program cannot use a bpf_timer."
        advice = "use a kernel without PREEMPT_RT, or poll from user space"
    else:
        sentence = f"A rule for timers (bpf_timer) is broken: {text[:140]}."
        advice = (
            "put one struct bpf_timer into the value of a map with BTF types, and init, set callback and "
            "start it in that order"
        )
    fix = case.source.search(r"bpf_(?:timer|wq)\b") if case.source is not None else None
    return Finding(
        "timer-callback",
        sentence,
        advice,
        others=("helper-not-allowed",),
        fix=(fix,),
        no_insn="progs cannot use" in text,
    )


RULES: tuple[Rule, ...] = (
    rule(
        "timer-callback",
        r".*(?:cannot use bpf_(?:timer|wq)|(?:bpf_timer|bpf_wq) (?:cannot|is mangled|be "
        r"used)|(?:timer|workqueue|task_work"
        r"|bpf_task_work) pointer in|'struct bpf_(?:timer|wq)'|no valid "
        r"bpf_(?:timer|wq)|bpf_timer.*(?:constant offset|PREEMPT_RT)).*",
        timer,
        "5.15..7.3",
    ),
    plain(
        "timer-callback",
        r"(callback function (?:not static|cannot be the main program))",
        "The callback of a timer, loop or other helper is not right: {0}.",
        "pass a static function of this program whose prototype fits the helper",
        "5.13..",
        False,
    ),
    plain(
        "map-helper-mismatch",
        r"callback function not allowed for map",
        "bpf_for_each_map_elem does not work on a map of this type: the kernel cannot call a function (callback) "
        "for its elements.",
        "use a map of a hash or array type with bpf_for_each_map_elem",
        "5.13..",
    ),
)
