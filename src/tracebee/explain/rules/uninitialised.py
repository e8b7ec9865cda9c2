"""Values that nobody wrote: registers and bytes of the stack."""

from __future__ import annotations

import re

from tracebee.explain.case import ORDINALS, Case, register_of
from tracebee.explain.explanation import Edit, SourceLine, Step
from tracebee.explain.rules.arguments import argument_of
from tracebee.explain.rules.lostpointers import is_pointer_store
from tracebee.explain.rules.record import Finding, Rule, rule


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


def uninitialised_helper(case: Case, found: re.Match[str]) -> Finding | None:
    """``invalid indirect read from stack R2 off -16+8 size 16``."""
    register = register_of(found[0])
    return uninitialised(
        case, register, int(found["start"]), int(found["start"]) + int(found["byte"]), int(found["size"])
    )


def uninitialised(case: Case, register: int | None, start: int, missing: int, size: int) -> Finding:
    """Stack bytes that nobody wrote."""
    helper = case.called
    writer = (
        case.path.writer(case.end, missing, 1) if case.facts.is_unprivileged() and len(case.path) else None
    )
    if writer is not None and is_pointer_store(case, writer):
        return Finding(
            "unprivileged-leak",
            f"{helper or 'The program'} would read a pointer that is saved on the stack (fp{start}): an "
            f"unprivileged program may not learn (leak) a kernel address that way.",
            "do not put pointers into keys, values or buffers, or load the program with CAP_BPF and CAP_PERFMON",
            story=(case.step(writer, "a pointer is stored here"), case.step(case.end, "and read here")),
            fix=(case.place(writer), case.place(case.end)),
            others=("stack-uninit",),
        )
    variable = stack_variable_name(case)
    what = f"`{variable}`" if variable else "a variable or struct on the stack"
    offset = missing - start
    if helper:
        argument, _ = argument_of(case, register or 0)
        named = f" as its {argument.name}" if argument is not None and argument.name else ""
        padding = offset > 0
        hint = (
            " Bytes between or behind the members are padding, which setting the members does not write."
            if padding
            else ""
        )
        sentence = (
            f"{helper} reads {size} bytes of {what} at fp{start}{named}, and byte {offset} of them was never "
            f"written "
            f"(it is uninitialized, not initialised).{hint}"
        )
        advice = (
            "set all bytes before the call: zero the whole variable first with = {} or __builtin_memset(&v, "
            "0, sizeof(v)), "
            "then fill it; or remove the padding with explicit members"
        )
    else:
        sentence = (
            f"Stack bytes at fp{start} ({size} bytes, {what}) are read, but were never written on this path: "
            f"the variable "
            f"is uninitialized (not initialised)."
        )
        advice = "initialise the variable when it is declared (= 0 or = {}), on every path before it is read"
    also: tuple[str, ...] = ()
    if case.older("6.3") is not False:
        also = ("Linux 6.3 and later let privileged programs read such bytes",)
    edit = zeroed(case, variable)
    fix = SourceLine(edit.file, edit.line, edit.old[0].strip()) if edit is not None else case.place(case.end)
    return Finding("stack-uninit", sentence, advice, also=also, fix=(fix,), edit=edit)


def zeroed(case: Case, variable: str) -> Edit | None:
    """The declaration of a variable, with all of it set to zero."""
    place = case.place(case.end)
    if not variable or case.source is None or place is None:
        return None
    declared = re.compile(
        rf"^(\s+(?:struct\s+|union\s+|unsigned\s+)?\w+\s+{re.escape(variable)})\s*(\[\w*\])?;\s*$"
    )
    for number in range(min(place.line - 1, len(case.source.lines)), 0, -1):
        text = case.source.whole(number)
        found = declared.match(text)
        if found:
            return Edit((text,), (f"{found[1]}{found[2] or ''} = {{}};",), case.source.file, number)
        if text.startswith("}"):
            break
    return None


def stack_variable_name(case: Case) -> str:
    place = case.place(case.end)
    if place is None or not case.called:
        return ""
    names = re.findall(r"&\s*(\w{1,64})\b(?!\s*[,)]?\s*\()", place.text)
    argument_names = [name for name in names if name != case.map_name(case.end)]
    return argument_names[0] if argument_names else ""


RULES: tuple[Rule, ...] = (
    rule("reg-uninit", r"R(\d+) !read_ok", no_value, "4.15..7.3"),
    rule(
        "stack-uninit",
        r"invalid(?: indirect)? read from stack (?:(?:R|arg#)\d+ )?off (?P<start>-?\d+)\+(?P<byte>\d+) "
        r"size (?P<size>\d+)",
        uninitialised_helper,
        "4.15..7.3",
    ),
)
