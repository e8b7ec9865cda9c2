"""Dynptrs and iterators, the objects of the kernel that live on the program's stack."""

from __future__ import annotations

import re

from tracebee.explain.case import RELEASERS, Case
from tracebee.explain.rules.record import Finding, Rule, rule


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


RULES: tuple[Rule, ...] = (
    rule("dynptr", r"arg (\d{1,2}) is an unacquired reference", dynptr_gone, "5.19..6.12"),
    rule("dynptr", r".*[Dd]ynptr.*", dynptr, "5.19..7.3"),
    rule(
        "iterator",
        r"expected (?:an )?(?:un)?initialized iter_.*|expected valid iter pointer.*|.*expected pointer to an "
        r"iterator on stack.*"
        r"|css_task_iter is only allowed.*|.*bad parent state for iter next call",
        iterator,
        "6.3..7.3",
    ),
)
