"""Global functions: the types of their parameters, and the memory that callers hand to them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, rule

if TYPE_CHECKING:
    from tracebee.explain.case import Case


def small_argument(case: Case, register: int | None, size: int, room: int | None) -> Finding | None:
    """The memory that a caller hands to a global function is smaller than the type of its parameter."""
    callee = next((line for line in case.errors if "Caller passes invalid args" in line), None)
    if callee is None:
        return None
    found = re.search(r"\('([^']{1,128})'\)", callee)
    function = f"the global function {found[1]}()" if found else "a global function"
    there = f"{room} bytes" if room is not None else "fewer bytes"
    return Finding(
        "global-function",
        f"The caller passes a pointer to memory that is too small to {function}: the type of argument "
        f"{register or 1} has {size} bytes, and {there} are there, so an access could go outside of it.",
        "pass a pointer to a variable of the parameter's own type, without a cast; or make the function static, "
        "so that it is checked together with its callers",
        story=case.story(case.trace(register)) if register is not None else (),
        fix=(case.place(case.end),),
        others=("stack-out-of-bounds",),
    )


def global_rules(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    function = re.search(r"(\w{1,128})\(\)", text)
    name = f"{function[1]}()" if function else f"{case.log.validating or 'the program'}()"
    return Finding(
        "global-function",
        f"The global (non-static) function {name} has an argument or result of a type that the verifier does "
        f"not support for global functions: "
        f"{text[:120]}.",
        "use numbers, pointers to structs of fixed size or the context as arguments (tags such as __arg_ctx, "
        "__arg_nonnull tell more), return a "
        "number; or make the function static",
        sure="not supported" in text or "Only those are supported" in text,
    )


RULES: tuple[Rule, ...] = (
    rule(
        "global-function",
        r"Arg#\d+ type \S+ in \w+\(\) is not supported yet|Global function \w+\(\).*|arg#\d+ (?:reference "
        r"type|pointer type|type "
        r"is not a struct|type doesn't have a name|has (?:invalid combination|unsupported set) of tags|type "
        r"tag).*|reg type unsupported for arg#.*"
        r"|Unrecognized arg#.*|func#\d+ .* doesn't match its global prototype",
        global_rules,
        "5.6..7.3",
    ),
)
