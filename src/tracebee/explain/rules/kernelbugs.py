"""Faults of the kernel's own: internal errors of the verifier, and its violated invariants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule

if TYPE_CHECKING:
    import re

    from tracebee.explain.case import Case


def invariants(case: Case, found: re.Match[str]) -> Finding | None:
    """``REG INVARIANTS VIOLATION``: since 6.8 a remark, and the end where the loader asked for it (EFAULT)."""
    if any("REG INVARIANTS" not in line for line in case.errors):
        return None
    finding = bug(case, found)
    if finding is not None:
        finding.sure = case.facts.errno == "EFAULT"
    return finding


def bug(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "kernel-bug",
        f"The verifier reports a fault of its own: {found[0][:140]}. That is a bug of this kernel, set off "
        f"by the program.",
        "try another kernel version, or write the place differently (simpler), and report it to "
        "bpf@vger.kernel.org",
        LIKELY,
        False,
    )


RULES: tuple[Rule, ...] = (
    rule("kernel-bug", r"REG INVARIANTS VIOLATION.*", invariants, "6.8.."),
    rule(
        "kernel-bug",
        r".*(?:verifier internal error|verifier bug|[Vv]erifier BUG|\bBUG\b|internal "
        r"bug|misconfigured|BPF_PTR_POISON).*",
        bug,
        "4.15..7.3",
    ),
)
