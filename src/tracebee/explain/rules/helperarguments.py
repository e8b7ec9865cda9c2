"""Arguments that a helper takes in one form only: format strings, constants, kinds of pointers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.rules.record import LIKELY, Finding, Rule, plain, rule

if TYPE_CHECKING:
    import re

    from tracebee.explain.case import Case


def format_string(case: Case, found: re.Match[str]) -> Finding | None:
    """Format strings, and other constant strings."""
    helper = case.called or "the helper"
    if helper in ("bpf_strncmp", "bpf_kallsyms_lookup_name") or (
        "print" not in helper and "printf" not in helper and helper.startswith("bpf_")
    ):
        return Finding(
            "helper-arg-type",
            f"{helper} needs a constant string that ends in NUL and lies in a read-only map (const, "
            f".rodata): {found[0][:80]}.",
            'declare the string as static const char s[] = "..."; and pass that',
            LIKELY,
            False,
            others=("printk-format",),
        )
    if "Invalid format" in found[0] or "fmt" in found[0]:
        sentence = (
            f"The format string that {helper} gets has a specifier (after %) that it does not know, or more "
            f"than there are arguments."
        )
        advice = (
            "use only the specifiers that bpf helpers know: %d %i %u %x %ld %lu %lx %lld %llu %llx %p %pK "
            "%ps %s %c %pI4; no %f, no widths with *"
        )
    else:
        sentence = (
            f"The format string that {helper} gets is not a constant: it must be a NUL-terminated const "
            f"string in read-only memory (.rodata)."
        )
        advice = (
            'declare it as static const char fmt[] = "..."; (the kernel reads it when it loads the program)'
        )
    fix = case.source.search(r"%[^a-zA-Z]{0,4}[a-zA-Z]") if case.source is not None else None
    return Finding("printk-format", sentence, advice, fix=(fix,))


RULES: tuple[Rule, ...] = (
    rule(
        "printk-format",
        r"[Ii]nvalid format string|.*(?:doesn't point to a const string|does not point to a readonly "
        r"map|string is not "
        r"zero-terminated|direct value access on string failed|is not a constant address).*|.*fmt string.*",
        format_string,
        "5.13..7.3",
    ),
    plain(
        "helper-arg-type",
        r"((?:R|arg#)\d+) (?:is not a scalar|expected pointer to "
        r"\w+|doesn't point to a map value|doesn't have constant offset|is not a pointer|is of type \S+ "
        r"but .*|invalid \S+ buffer access.*)",
        "An argument of the called helper ({0}) has the wrong kind or type: the helper asks for another "
        "kind of pointer or number there.",
        "pass the kind of pointer (at a constant offset) or the number that the helper's prototype asks for",
        "4.15..",
    ),
    plain(
        "helper-arg-type",
        r"(helper access to the packet is not allowed|cannot update sockmap in this context|off -?\d+ "
        r"doesn't point to .*"
        r"|pointer in \S+ isn't map pointer|release \S+ \S+ expects .*)",
        "An argument has the wrong kind for the called function: {0}.",
        "pass what the function's prototype asks for; copy packet data to the stack first",
        "4.15..",
        False,
    ),
)
