"""Values that nobody wrote: registers and bytes of the stack."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.case import ORDINALS, Case
from tracebee.explain.rules.arguments import argument_of
from tracebee.explain.rules.record import Finding, Rule, rule

if TYPE_CHECKING:
    from tracebee.explain.explanation import Step


def missing_weak(case: Case, position: int) -> Finding:
    """``call #0``: a weak kernel function that is not there; the verifier goes past the call and sets nothing."""
    place = case.place(position)
    words = re.findall(r"\b(bpf_\w{1,100})\s*\(", place.text) if place is not None else []
    name = words[-1] if words else "that the program calls"
    return Finding(
        "kfunc",
        f"The kernel function (kfunc) {name} does not exist on this kernel. It is declared weak, so its call "
        f"stayed in the program as a call of nothing, and the result in R0 has no value.",
        "call it only where bpf_ksym_exists() says that it is there, or use a kernel (or load a module) that "
        "has it",
        story=(
            case.step(position, "the call of a function that is not there"),
            case.step(case.end, "R0 is used"),
        ),
        fix=(place,),
        others=("core-relocation", "reg-uninit"),
    )


def no_value(case: Case, found: re.Match[str]) -> Finding | None:
    """``R0 !read_ok``."""
    register = int(found[1])
    stopped = case.stopped
    story: tuple[Step, ...] = ()
    if stopped is not None and stopped.opcode == 0x95 and register == 0 and len(case.path):
        at = case.path.definition(case.end, 0)
        if at is not None and case.path.insns[at].text.rstrip().endswith("#0"):
            return missing_weak(case, at)
    if stopped is not None and stopped.opcode == 0x95:
        sentence = (
            "The function returns without a return value: R0 was never set (it is uninitialized, not set) on "
            "this path."
        )
        advice = "end every path with a return of a number: return 0;"
    elif case.operation.kind == "call" and 1 <= register <= 5:
        argument, helper = argument_of(case, register)
        named = f" ({argument.name})" if argument is not None and argument.name else ""
        sentence = (
            f"The {ORDINALS[register]} argument{named} of {helper or 'the called function'}, register "
            f"R{register}, was "
            f"never set: it is uninitialized here (a call destroys R1 to R5)."
        )
        advice = "pass all arguments of the function; declare it with its right prototype"
    else:
        before = None
        if len(case.path):
            at = case.path.definition(case.end, register)
            if register == 0 and at is not None and case.path.insns[at].text.rstrip().endswith("#0"):
                return missing_weak(case, at)
            before = at if at is not None and case.path.operation(at).kind == "call" else None
        if before is not None and 1 <= register <= 5:
            name = case.path.operation(before).name or "a function"
            sentence = (
                f"R{register} is used after the call of {name}, which destroyed it: R1 to R5 hold no value "
                f"(are uninitialized, not set) after a call."
            )
            advice = (
                "keep the value in a variable over the call (R6 to R9 or the stack), or set it again after "
                "the call"
            )
            story = (case.step(before, f"{name}: R1 to R5 are destroyed"), case.step(case.end, "used here"))
        else:
            sentence = (
                f"Register R{register} is used on a path where it was never set: the variable in it is "
                f"uninitialized."
            )
            advice = "give the variable a value when it is declared, or on every branch before it is used"
    return Finding("reg-uninit", sentence, advice, story=story)


RULES: tuple[Rule, ...] = (rule("reg-uninit", r"R(\d+) !read_ok", no_value, "4.15..7.3"),)
