"""Messages about what a program holds and where it is: references, locks, RCU, dynptrs, iterators, kfuncs."""

from __future__ import annotations

import re

from tracebee.explain.case import ACQUIRERS, RELEASERS, Case, describe
from tracebee.explain.edits import section_edit
from tracebee.explain.explanation import Step
from tracebee.explain.rules.record import LIKELY, Finding, Rule, plain, rule
from tracebee.explain.rules.releases import perhaps_released, released


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


def lock_rules(case: Case, found: re.Match[str]) -> Finding | None:
    """The other messages about locks, by what they hold."""
    text = found[0]
    map_found = re.search(r"map '([^']{1,64})'", text)
    name = map_found[1] if map_found else ""
    if "has to have BTF" in text:
        fix = (
            case.source.search(rf"\}}\s*{re.escape(name)}\s+SEC")
            if case.source is not None and name
            else None
        )
        thing = "bpf_timer" if "timer" in text else "bpf_kptr_xchg" if "kptr" in text else "bpf_spin_lock"
        cause = (
            "timer-callback"
            if thing == "bpf_timer"
            else "spin-lock"
            if thing == "bpf_spin_lock"
            else "btf-invalid"
        )
        return Finding(
            cause,
            f"Map {name} has no BTF type for its value, so the kernel cannot find the lock (struct {thing}) "
            f"in it.",
            "declare the map with __type(key, ...) and __type(value, struct ...) instead of key_size and "
            "value_size, so that the "
            "loader sends its types (BTF), and build with -g",
            fix=(fix,),
            sure=cause != "btf-invalid",
        )
    if "deadlock" in text or "two bpf_spin_locks" in text or "out of order" in text:
        sentence = (
            "A second spin lock is taken while one is held, or locks are released out of order: only one "
            "bpf_spin_lock may be held."
        )
        advice = "unlock (bpf_spin_unlock) the first lock before the second is taken"
    elif "without taking a lock" in text:
        sentence = (
            "bpf_spin_unlock is called although no lock is held on this path: it has no matching "
            "bpf_spin_lock."
        )
        advice = "call bpf_spin_lock first on every path that unlocks"
    elif "different lock" in text:
        sentence = "bpf_spin_unlock gets another lock than the one that bpf_spin_lock took."
        advice = "lock and unlock the same struct bpf_spin_lock of the same value pointer (look it up once)"
    elif "directly by load/store" in text:
        sentence = (
            "The memory of a struct bpf_spin_lock is read or written directly: a lock may only be used with "
            "bpf_spin_lock and bpf_spin_unlock."
        )
        advice = (
            "do not copy or set the whole value: leave the lock out, or use bpf_map_update_elem with "
            "BPF_F_LOCK"
        )
    elif "cannot use bpf_spin_lock" in text:
        sentence = f"A program of this type ({case.kind}) cannot use bpf_spin_lock: {text[:80]}."
        advice = "use atomic operations (__sync_fetch_and_add) or a per-CPU map instead of a lock"
    elif "must be held" in text or "expected an RCU" in text:
        sentence = (
            "This function needs the bpf_spin_lock that belongs to the list or tree to be held, and it is "
            "not."
        )
        advice = "call bpf_spin_lock on the lock in the same map value or object before, and unlock after"
    elif "constant offset" in text or "doesn't point to" in text:
        sentence = (
            "The argument of bpf_spin_lock is not the struct bpf_spin_lock of a map value at its fixed place."
        )
        advice = "pass the address of the lock member: bpf_spin_lock(&value->lock)"
    else:
        sentence = f"A rule for spin locks is broken: {text[:140]}."
        advice = (
            "keep one struct bpf_spin_lock at the top level of a map value with BTF type; lock, change the "
            "value, unlock"
        )
    return Finding("spin-lock", sentence, advice, fix=(case.place(case.end),))


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


def dynptr(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    name = case.called or "the function"
    if "overwrite" in text:
        sentence = (
            "The stack memory of a live dynptr is overwritten: it still holds a reference (a ring buffer "
            "record), which would be lost."
        )
        advice = (
            "do not write to the struct bpf_dynptr itself; submit or discard it first "
            "(bpf_ringbuf_submit_dynptr), then it may be used again"
        )
    elif "uninitialized dynptr" in text:
        sentence = (
            f"{name} makes a new dynptr, but the struct bpf_dynptr that it gets is in use already: it has to "
            f"be an uninitialized one."
        )
        advice = "use a second struct bpf_dynptr on the stack, or release the first one before"
    elif "initialized dynptr" in text:
        overwritten = overwritten_dynptr(case, text)
        if overwritten is not None:
            at = case.place(overwritten)
            place = f" ({at.place()})" if at is not None and at.place() else ""
            return Finding(
                "dynptr",
                f"The dynptr that {name} gets was overwritten (clobbered) on the stack{place} after it was "
                f"created, so it is no initialized "
                f"dynptr any more.",
                "do not write to the memory of a struct bpf_dynptr; submit or discard it first",
                fix=(at, case.place(case.end)),
                story=(
                    case.step(overwritten, "the dynptr's stack slot is overwritten"),
                    case.step(case.end, f"{name}: needs it"),
                ),
            )
        sentence = (
            f"{name} needs an initialized dynptr, but the struct bpf_dynptr that it gets was never created "
            f"(or was released) on this path."
        )
        advice = (
            "initialise it first: bpf_dynptr_from_mem(), bpf_ringbuf_reserve_dynptr() or "
            "bpf_dynptr_from_skb() must create the dynptr on "
            "every path before it is used; declare it on the stack and pass its address"
        )
    elif "type" in text:
        sentence = f"{name} gets a dynptr of another type than it needs ({text[:100]})."
        advice = (
            "create the dynptr with the function for that type (from_mem, ringbuf_reserve_dynptr, from_skb, "
            "from_xdp)"
        )
    elif "offset" in text:
        sentence = (
            "A dynptr is passed at an offset: the pointer has to point to the start of the struct bpf_dynptr."
        )
        advice = "pass &dynptr itself"
    elif "constant size" in text:
        sentence = f"The size that {name} gets for the slice of a dynptr is not a constant."
        advice = "pass a constant size and a buffer of that size"
    elif "from_mem data" in text:
        sentence = (
            "A dynptr can only be made of a map value here: bpf_dynptr_from_mem got another kind of memory."
        )
        advice = "pass a pointer into a map value to bpf_dynptr_from_mem, and initialise the dynptr with it"
    else:
        sentence = f"A rule for dynptrs is broken: {text[:140]}."
        advice = (
            "create the dynptr on the stack, use it, and release it (submit or discard) on every path; do "
            "not overwrite it"
        )
    return Finding("dynptr", sentence, advice, fix=(case.place(case.end),))


def dynptr_gone(case: Case, found: re.Match[str]) -> Finding | None:
    """``arg 1 is an unacquired reference``: said by 5.19 to 6.x of dynptrs alone, where a function takes one back."""
    name = case.called or "the function"
    register = int(found[1])
    slot = case.path.frame_offset(case.end, register) if len(case.path) else None
    earlier = None
    for position, called in reversed(case.path.calls_between(-1, case.end)):
        if called in RELEASERS and called.endswith("_dynptr"):
            given = case.path.frame_offset(position, 1)
            if given is None or slot is None or given == slot:
                earlier = position
                break
    if earlier is None:
        sentence = (
            f"{name} is to give a dynptr back that holds nothing: it was never reserved on this path, or was "
            f"submitted or discarded before."
        )
    else:
        before = case.path.operation(earlier).name
        at = case.place(earlier)
        where = f" ({at.place()})" if at is not None and at.place() else ""
        sentence = (
            f"{name} gives the dynptr back a second time: {before}{where} submitted or discarded (released) it "
            f"already, and after that it is no initialized dynptr any more."
        )
    return Finding(
        "dynptr",
        sentence,
        "submit or discard a dynptr exactly once on each path, after bpf_ringbuf_reserve_dynptr, and do "
        "nothing with it afterwards",
        fix=(case.place(earlier), case.place(case.end)),
        story=(
            *((case.step(earlier, "the dynptr is given back here"),) if earlier is not None else ()),
            case.step(case.end, f"{name}: once more" if earlier is not None else f"{name}: nothing is held"),
        ),
        others=("use-after-release",),
    )


def overwritten_dynptr(case: Case, text: str) -> int | None:
    """The store that overwrote the dynptr that the last call gets, or None."""
    number = re.search(r"as (?:arg ?#(\d{1,2})|R(\d{1,2}))", text)
    if number is None or not len(case.path):
        return None
    register = int(number[1] or number[2])
    slot = case.path.frame_offset(case.end, register)
    if slot is None:
        return None
    writer = case.path.writer(case.end, slot, 16)
    if writer is None or case.path.operation(writer).kind not in ("store", "atomic"):
        return None
    earlier = case.path.writer(writer, slot, 16)
    return writer if earlier is not None and case.path.operation(earlier).kind == "call" else None


def iterator(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    kind = re.search(r"iter_(\w{1,40})", text)
    name = f"bpf_iter_{kind[1]}" if kind else "bpf_iter_..."
    if "uninitialized" in text:
        sentence = (
            f"A new iterator is created in memory where an iterator ({name}) is still active: it was not "
            f"destroyed first."
        )
        advice = f"call {name}_destroy(&it) before the next {name}_new(&it), or use a second variable"
    elif "initialized" in text or "valid iter" in text:
        sentence = (
            f"{case.called or 'The call'} gets an iterator that was not created on this path: {name}_new was "
            f"not called, or it is destroyed already."
        )
        advice = (
            f"call {name}_new(&it) first, on every path; then {name}_next until NULL, then {name}_destroy; "
            f"or use bpf_for_each()"
        )
    else:
        sentence = f"A rule for iterators is broken: {text[:140]}."
        advice = "keep the iterator on the stack: _new, _next until it returns NULL, _destroy, on every path"
    return Finding("iterator", sentence, advice, fix=(case.place(case.end),))


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


def kfunc(case: Case, found: re.Match[str]) -> Finding | None:
    """What kernel functions ask of their arguments and callers."""
    text = found[0]
    name = case.called or "the kernel function (kfunc)"
    named = re.search(r"(?:kernel func(?:tion)?|kfunc) (\w{3,128})", text)
    if named and named[1] not in ("args", "call", "calls", "expected", "is"):
        name = named[1]
    register = case.argument(text)
    value = case.value(register) if register is not None and case.called else None
    if register is not None and value is not None and value.is_scalar():
        gone = released(case, register, case.trace(register), name)
        if gone is not None:
            return gone
    if (
        "rcu pointer" in text
        or "referenced or trusted" in text
        or "must be referenced" in text
        or "trusted" in text
    ):
        known = case.value(register) if register is not None else None
        what = describe(known) if known is not None else "an untrusted pointer"
        who = f"R{register}" if register is not None else "an argument"
        return Finding(
            "kfunc",
            f"The kfunc {name} gets {what} in {who} that is not trusted: it was read from another object, or "
            f"its reference is gone, and "
            f"the function needs a trusted or referenced pointer.",
            "acquire a reference first (bpf_task_acquire(), bpf_task_from_pid(), bpf_cgroup_acquire(), "
            "bpf_kptr_xchg()), or pass the pointer "
            "that the program got as argument itself; a pointer that was read from a struct needs "
            "bpf_rcu_read_lock() around both. "
            "Where the kernel asks for an rcu pointer, a trusted one will do",
            story=case.story(case.trace(register)) if register is not None else (),
        )
    if "is not allowed" in text or "not allowed" in text:
        sentence = (
            f"The kernel function (kfunc) {name} may not be called from {case.kind}: it is not registered "
            f"for that type of program."
        )
        advice = "use a program type that may call it, or a helper that does the same"
    elif "cannot find address" in text or "failed to find BTF" in text or "is not a function" in text:
        sentence = (
            f"The kernel function (kfunc) {name} does not exist on this kernel, or is not to be found there."
        )
        advice = (
            "use a newer kernel that has the function, load its module, or test with bpf_ksym_exists() and "
            "go without"
        )
    elif "JIT" in text or "non-JITed" in text:
        return Finding(
            "jit",
            f"The JIT compiler of this kernel or architecture cannot call kernel functions (kfunc): "
            f"{text[:120]}.",
            "enable the JIT (/proc/sys/net/core/bpf_jit_enable), or use a kernel whose JIT supports it",
            others=("kfunc",),
        )
    elif "CAP_SYS_BOOT" in text:
        sentence = f"The kernel function (kfunc) {name} is destructive and needs the capability CAP_SYS_BOOT."
        advice = "load the program with that capability"
    else:
        sentence = f"The call of the kernel function (kfunc) {name} is not right: {text[:140]}."
        advice = (
            "pass arguments of exactly the types in its prototype (bpftool btf dump, or the kernel's "
            "documentation)"
        )
    return Finding("kfunc", sentence, advice, fix=(case.place(case.end),))


def kfunc_argument(case: Case, found: re.Match[str]) -> Finding | None:
    """``arg#0 pointer type STRUCT task_struct must point to scalar`` at the call of a kernel function.

    The kernel takes the argument for plain memory when the register holds no typed pointer: mostly a number.
    """
    name = case.called
    if not name or case.operation.kind != "call":
        return None
    register = case.argument(found[0]) or 1
    origin = case.trace(register)
    known = case.value(register)
    number = known is not None and known.is_scalar()
    if number or known is None:
        gone = released(case, register, origin, name) or perhaps_released(case, register, origin)
        if gone is not None:
            return gone
    struct = re.search(r"(?:STRUCT|struct|UNION|union) (\w{1,128})", found[0])
    wanted = f"a pointer to struct {struct[1]}" if struct else "a pointer of another type"
    source = f", the result of {origin.name}" if origin.kind == "call" and origin.name else ""
    have = f"a plain number{source}" if number else describe(known) if known is not None else "something else"
    advice = (
        f"pass a pointer that the verifier knows as {wanted.removeprefix('a pointer to ')}: an argument of the "
        f"hook, or the result of an acquiring function"
    )
    if origin.name == "bpf_get_current_task":
        advice = "take the task from bpf_get_current_task_btf() (Linux 5.11): its result is a typed pointer"
    return Finding(
        "kfunc",
        f"The kernel function (kfunc) {name} gets {have} as argument {register} (R{register}), but needs "
        f"{wanted}.",
        advice,
        sure=number,
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        others=("helper-arg-type", "direct-deref", "global-function"),
    )


def not_acquired(case: Case, found: re.Match[str]) -> Finding | None:
    name = case.called or "the function"
    register = 1
    origin = case.trace(register)
    return Finding(
        "use-after-release",
        f"{name} releases something that this program did not acquire, or that it has released already.",
        "release exactly what an acquiring function returned, and once only; do not release a socket that "
        "was read from the context",
        LIKELY,
        False,
        story=case.story(origin),
        others=("helper-arg-type", "kfunc"),
    )


RULES: tuple[Rule, ...] = (
    rule("reference-leak", r"Unreleased reference id=\d+ alloc_insn=(\d{1,9})", leak, "4.20..7.3"),
    rule("reference-leak", r"Leaking reference id=\d+ alloc_insn=(\d{1,9})", leak, "7.2.."),
    rule("reference-leak", r".{0,80} would lead to reference leak", reference_leak, "6.13..7.2"),
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
    rule(
        "timer-callback",
        r".*(?:cannot use bpf_(?:timer|wq)|(?:bpf_timer|bpf_wq) (?:cannot|is mangled|be "
        r"used)|(?:timer|workqueue|task_work"
        r"|bpf_task_work) pointer in|'struct bpf_(?:timer|wq)'|no valid "
        r"bpf_(?:timer|wq)|bpf_timer.*(?:constant offset|PREEMPT_RT)).*",
        timer,
        "5.15..7.3",
    ),
    rule(
        "spin-lock",
        r".*(?:has to have BTF in order to use|Locking two bpf_spin_locks|deadlock detected|_unlock "
        r"(?:cannot be out of "
        r"order|of different lock|without taking a lock)|bpf_spin_lock cannot be accessed|cannot use "
        r"bpf_(?:res_)?spin_lock|'struct "
        r"bpf_spin_lock'|has no valid bpf_(?:res_)?spin_lock|must be held for|held lock and "
        r"object|spin_\{?lock|w/o active lock|"
        r"bpf_spin_lock (?:has to be at|is mangled)).*",
        lock_rules,
        "5.1..7.3",
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
    rule("dynptr", r"arg (\d{1,2}) is an unacquired reference", dynptr_gone, "5.19..6.12"),
    rule("dynptr", r".*[Dd]ynptr.*", dynptr, "5.19..7.3"),
    rule(
        "kfunc",
        r"(?:R|arg#)\d{1,2} (?:pointer type|reference type).*",
        kfunc_argument,
        "5.13..7.3",
    ),
    rule(
        "iterator",
        r"expected (?:an )?(?:un)?initialized iter_.*|expected valid iter pointer.*|.*expected pointer to an "
        r"iterator on stack.*"
        r"|css_task_iter is only allowed.*|.*bad parent state for iter next call",
        iterator,
        "6.3..7.3",
    ),
    rule(
        "kfunc",
        r".*(?:must be (?:a rcu pointer|referenced)|referenced or trusted|calling kernel function|kernel "
        r"function (?:\S+ )?args#"
        r"|expects refcounted PTR_TO_BTF_ID|expects referenced PTR_TO_BTF_ID|kernel "
        r"function btf_id|for kernel function"
        r"|destructive kfunc|kfunc \S+ (?:failed|conversion)|too many different kernel function|can only "
        r"take non-owning).*",
        kfunc,
        "5.18..7.3",
    ),
    rule("use-after-release", r".*reference has not been acquired before", not_acquired, "4.20..6.12"),
    plain(
        "modified-ctx",
        r"((?:R|arg#)\d+) must have zero offset when passed to release func",
        "{0}, the pointer that is to be released, was moved: a release function needs the pointer that was "
        "acquired, unchanged.",
        "keep the original pointer and pass that (without an added offset)",
        "5.19..",
        False,
    ),
    plain(
        "helper-arg-type",
        r"((?:R|arg#)\d+) must be referenced when passed to release function",
        "{0} is passed to a function that releases it, but this program holds no reference to it.",
        "pass what the acquiring function returned (bpf_ringbuf_reserve, bpf_sk_lookup_*), unchanged",
        "5.19..",
        False,
    ),
)
