"""Arguments of the wrong type: what the called function wants in a register, and what is there."""

from __future__ import annotations

import re

from tracebee.errors import UsageError
from tracebee.explain.case import ORDINALS, Case, describe
from tracebee.explain.rules.lostpointers import damaged_spill, stale_packet, turned_number
from tracebee.explain.rules.nullchecks import may_be_null, wrong_branch
from tracebee.explain.rules.record import Finding, Rule, rule
from tracebee.explain.rules.releases import perhaps_released, released
from tracebee.insn.helpers import HelperArg
from tracebee.insn.helpers import describe as describe_helper

CALLER = 96
"""The weight of a line that explains the one before it."""

WANTED = {
    "map": "a map (its address: &map)",
    "key": "the address of the key: a pointer to a variable on the stack or to a map value",
    "value": "the address of the value: a pointer to a buffer on the stack or in a map",
    "ctx": "the context that the program got",
    "mem": "a pointer to memory: a buffer on the stack, a map value, a ring buffer record",
    "size": "a number of bytes",
    "string": "the address of a constant string",
    "number": "the address of a variable",
    "func": "a function of the program",
    "record": "the record that bpf_ringbuf_reserve returned",
    "timer": "a struct bpf_timer in a map value",
    "lock": "a struct bpf_spin_lock in a map value",
    "dynptr": "a struct bpf_dynptr on the stack",
    "pointer": "a pointer of that type",
    "address": "an address",
    "scalar": "a number",
}


def argument_of(case: Case, register: int) -> tuple[HelperArg | None, str]:
    """The helper's own words on the argument in a register, and the helper."""
    helper = case.called
    if not helper:
        return None, ""
    try:
        arguments = describe_helper(helper).args
    except UsageError:
        return None, helper
    return (arguments[register - 1] if 0 < register <= len(arguments) else None), helper


def wrong_type(case: Case, found: re.Match[str]) -> Finding | None:
    """``R2 type=scalar expected=fp, ...``."""
    register, kind, expected = int(found[1]), found[2], found[3] or ""
    if any("Caller passes invalid args" in line for line in case.errors):
        return bad_caller(case, register, kind, expected)
    into = case.called or "the function"
    if "or_null" in kind and "or_null" not in expected:
        return may_be_null(case, register, kind, into)
    origin = case.trace(register)
    if kind in ("scalar", "inv"):
        special = (
            turned_number(case, register, origin)
            or released(case, register, origin, into)
            or stale_packet(case, register, origin)
            or damaged_spill(case, register, origin)
            or wrong_branch(case, register, origin, into)
            or perhaps_released(case, register, origin)
        )
        if special is not None:
            return special
    argument, helper = argument_of(case, register)
    if argument is not None and argument.kind == "string" and "print" in helper:
        return Finding(
            "printk-format",
            f"The format string that {helper} gets is not a constant: it must be a NUL-terminated const "
            f"string in "
            f"read-only memory (.rodata), and R{register} is {describe(case.value(register))}.",
            'declare the format as static const char fmt[] = "..."; the kernel reads it when it loads the program',
            story=case.story(origin),
            fix=(case.place(origin.position),),
        )
    rules = {"timer": "timer-callback", "lock": "spin-lock", "dynptr": "dynptr"}
    if argument is not None and argument.kind in rules:
        return Finding(
            rules[argument.kind],
            f"Argument {register} of {helper} ({argument.name}) has to be {WANTED[argument.kind]}, and "
            f"R{register} is "
            f"{describe(case.value(register))}.",
            "pass the address of the member in a value that bpf_map_lookup_elem returned: &value->member"
            if argument.kind != "dynptr"
            else "pass the address of a struct bpf_dynptr on the stack that was initialised before",
            story=case.story(origin),
            others=("helper-arg-type",),
        )
    ordinal = ORDINALS[register] if register < len(ORDINALS) else f"number {register}"
    wanted = WANTED.get(argument.kind, "") if argument is not None else ""
    named = f" ({argument.name})" if argument is not None and argument.name else ""
    helper = helper or "the called function"
    have = {
        "scalar": "a plain number",
        "inv": "a plain number",
        "ctx": "the context (ctx)",
        "fp": "the address of something on the stack",
        "map_ptr": "a map and no pointer to one of its values",
        "pkt": "a packet pointer",
        "map_value": "a pointer to a map value",
    }.get(kind, kind)
    name = case.variable(origin.position)
    sentence = (
        f"The {ordinal} argument of {helper}{named}, R{register}{f' (`{name}`)' if name else ''}, is {have}, "
        f"but it has "
        f"to be {wanted or expected.strip(', ') or 'something else'}."
    )
    if kind in ("scalar", "inv"):
        if origin.kind in ("context", "load", "call", "stored"):
            advice = (
                "a kernel or user address is only a number here: copy the data into a buffer on the stack "
                "first with "
                "bpf_probe_read_kernel() or bpf_probe_read_user(), and pass a pointer to the copy (&copy)"
            )
        else:
            advice = (
                "put the value in a local variable and pass a pointer to it (its address: &variable), not "
                "the number"
            )
    elif kind == "ctx":
        advice = (
            "the context is no plain buffer: copy what is needed from it to a buffer on the stack, and pass "
            "that "
            "(or a map value)"
        )
    elif kind in ("pkt", "pkt_meta"):
        advice = (
            "copy the packet's bytes to a buffer on the stack (bpf_skb_load_bytes, bpf_xdp_load_bytes), pass "
            "that"
        )
    elif "map_ptr" in expected or kind == "map_ptr":
        advice = (
            "pass the map itself as &map where a map is wanted, and a pointer from bpf_map_lookup_elem for a "
            "value"
        )
    else:
        advice = f"pass {wanted or 'a pointer of the expected kind: ' + expected.strip(', ')}"
    return Finding(
        "helper-arg-type",
        sentence,
        advice,
        # Where the number's origin is cut off, it may have been a pointer.
        sure=kind not in ("scalar", "inv") or not case.is_hidden(origin),
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        evidence=(f"R{register} is {kind}, expected {expected.strip(', ')}"[:160],),
        others=("direct-deref",) if kind in ("scalar", "inv") else (),
    )


def bad_caller(case: Case, register: int, kind: str, expected: str) -> Finding:
    """A call of a global function with an argument that does not fit its prototype."""
    text = " ".join(case.errors)
    found = re.search(r"func#\d+ \('([^']{1,128})'\)", text)
    function = f"the global function {found[1]}()" if found else "a global function"
    have = "a plain number" if kind in ("scalar", "inv") else f"of type {kind}"
    if "or_null" in kind:
        have = "a pointer that may be NULL"
    ordinal = ORDINALS[register] if 0 < register < len(ORDINALS) else f"number {register}"
    return Finding(
        "global-function",
        f"The caller passes {have} as {ordinal} argument (R{register}) to {function}, which expects "
        + (f"a pointer ({expected.strip(', ')})." if expected else "something else."),
        "pass an argument of the type in the function's prototype (a pointer to initialised memory, the "
        "unchanged "
        "context), or make the function static: then it is checked together with its caller",
        story=case.story(case.trace(register)),
    )


def caller_only(case: Case, _found: re.Match[str]) -> Finding | None:
    first = case.errors[0]
    register = case.argument(first) or 1
    finding = bad_caller(case, register, "", "")
    # What is wrong with the memory, or what type it has, the line before says better.
    if not re.search(r"from stack |access to |!read_ok| type=|may be|is not known", first):
        finding.weight = CALLER
    return finding


RULES: tuple[Rule, ...] = (
    rule(
        "helper-arg-type",
        r"(?:R|arg#)(\d+) type=(\S{1,80})(?: expected=(.{0,300}))?",
        wrong_type,
        "4.15..7.3",
    ),
    rule("global-function", r"Caller passes invalid args into func#", caller_only, "5.10..7.3"),
)
