"""Sizes that go to functions: negative, too large, zero, or not the constant that they must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.case import Case, describe, register_of
from tracebee.explain.rules.arguments import argument_of
from tracebee.explain.rules.indexes import origin_words
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule

if TYPE_CHECKING:
    import re


def size_register(case: Case, register: int) -> int | None:
    """The register with the size of the memory in `register`, or with what is in it if it is a size."""
    argument, _ = argument_of(case, register)
    if argument is not None and argument.kind == "size":
        return register
    following, _ = argument_of(case, register + 1)
    if following is not None and following.kind == "size":
        return register + 1
    # bpf_probe_read(dst, size, src) and others say what follows; what is not known has its size behind it.
    return register + 1 if argument is None and case.called and register < 5 else None


def is_variable(case: Case, register: int) -> bool:
    """Whether a number in a register is not one constant."""
    known = case.value(register)
    if known is not None and known.is_scalar():
        return known.const is None
    return case.trace(register).kind not in ("constant", "unknown")


def size_problem(case: Case, register: int, size: int | None, room: int | None, what: str) -> Finding | None:
    """The size argument of a helper is variable and may be too large for the memory."""
    length = size_register(case, register)
    if not case.called or length is None or not is_variable(case, length):
        return None
    known = case.value(length)
    origin = case.trace(length)
    name = case.variable(origin.position)
    who = f"`{name}` (R{length})" if name else f"R{length}"
    upper = known.upper() if known is not None else None
    most = f" up to {size} bytes" if size else f" up to {upper}" if upper is not None else ""
    fits = f", but only {room} bytes are there" if room else ""
    return Finding(
        "helper-mem-size",
        f"The size argument of {case.called}, {who}, may be larger than the {what}: the bound on the length "
        f"allows"
        f"{most}{fits}, so the access can go outside of (beyond) the {what}.",
        f"bound the size by the size of the buffer: if (len > sizeof(buf)) len = sizeof(buf); or mask it: "
        f"len &= sizeof(buf) - 1{f'. At most {room} bytes fit' if room else ''}",
        story=case.story(origin),
        fix=(case.place(origin.position),),
    )


def size_unbounded(case: Case, found: re.Match[str]) -> Finding | None:
    """A size argument that may be negative, or has no upper bound."""
    text = found.string
    register = register_of(text) or 0
    origin = case.trace(register)
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    helper = case.called or "the called function"
    problem = (
        "may be negative (it is signed, its min value is below 0)"
        if "negative" in text
        else "is unbounded: it has no maximum"
    )
    known = case.value(register)
    state = f" The verifier knows: {describe(known)}." if known is not None and known.is_scalar() else ""
    return Finding(
        "helper-mem-size",
        f"The size (length) argument of {helper}, {who}, {problem}{origin_words(case, origin)}.{state}",
        "make the length unsigned and bound it to the buffer: if (len > sizeof(buf)) len = sizeof(buf); or "
        "mask it: "
        "len &= sizeof(buf) - 1 (with a power of two), right before the call, on the variable that is passed",
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
    )


def not_constant(case: Case, found: re.Match[str]) -> Finding | None:
    """An argument that has to be one constant; 5.10 words it as a size without a bound."""
    register = register_of(found[0]) or 0
    origin = case.trace(register)
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    argument, helper = argument_of(case, register)
    helper = helper or "the called function"
    named = f" ({argument.name})" if argument is not None and argument.name else ""
    other = " A record of variable size can be sent with bpf_ringbuf_output." if "ringbuf" in helper else ""
    return Finding(
        "helper-arg-type",
        f"Argument {register} of {helper}{named}, {who}, is a variable, but it has to be a "
        f"constant: a number that the verifier knows when it loads the program.",
        f"pass a constant, such as sizeof(struct ...), a literal or a #define; a bound or a mask is not "
        f"enough.{other}",
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        evidence=(f"R{register} is {describe(case.value(register))}",),
    )


def zero_sized(case: Case, found: re.Match[str]) -> Finding | None:
    register = register_of(found.string)
    if case.called.startswith("bpf_map_"):
        return Finding(
            "map-helper-mismatch",
            f"{case.called} is used on a map that has no key or no value of that kind (its size is 0), such "
            f"as a ring "
            f"buffer: the helper does not work on this type of map.",
            "use a hash or array map with this helper, or the helpers for that map type",
            LIKELY,
            False,
            others=("helper-mem-size",),
        )
    who = f"R{register}" if register is not None else "the size"
    return Finding(
        "helper-mem-size",
        f"The size argument of {case.called or 'the called function'} ({who}) may be zero, and a read of "
        f"zero bytes is "
        f"not allowed.",
        "test that the size is not 0 before the call, and bound it from above: if (!len || len > "
        "sizeof(buf)) return 0;",
    )


RULES: tuple[Rule, ...] = (
    rule(
        "helper-mem-size",
        r"(?:R|arg#)\d+ (?:min value is negative|unbounded memory access), (?:either )?use "
        r".*'var &= const'",
        size_unbounded,
        "4.15..7.3",
    ),
    rule(
        "helper-arg-type",
        r"(?:R|arg#)\d+ (?:unbounded size, use|is not a (?:known )?const|must be a known constant)",
        not_constant,
        "5.8..7.3",
    ),
    rule("helper-mem-size", r"invalid zero-sized read", zero_sized, "4.15..7.3"),
    rule(
        "helper-mem-size",
        r"memory, len pair leads to invalid memory access|memory size \d+ is too large",
        size_unbounded,
    ),
)
