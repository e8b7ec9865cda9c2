"""What Linux 7.3 and later explains itself, for logs whose message is cut off or new."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.explanation import shorten
from tracebee.explain.rules.record import WEAK, Finding

if TYPE_CHECKING:
    from tracebee.explain.case import Case

_CAUSES = (
    (r"dynptr", "dynptr"),
    (r"iterator", "iterator"),
    (r"Unreleased|still needs to be released|reference leak", "reference-leak"),
    (r"use after|already released|no longer valid", "use-after-release"),
    (r"Invalid dereference.*may be NULL", "null-check-missing"),
    (r"Invalid dereference", "direct-deref"),
    (r"outside bounds.*packet|packet.*outside", "packet-bounds"),
    (r"outside bounds.*stack", "stack-out-of-bounds"),
    (r"outside bounds", "map-value-oob"),
    (r"offset is not safe", "index-unbounded"),
    (r"[Pp]ointer arithmetic", "pointer-arithmetic"),
    (r"Unreadable register", "reg-uninit"),
    (r"Back-edge", "back-edge"),
    (r"[Rr]ecursive", "subprog-depth"),
    (r"fall through", "no-exit"),
    (r"Unreachable", "unreachable"),
    (r"spin.?lock|while (?:a lock|holding)", "spin-lock"),
    (r"context exit|RCU|preempt|IRQ", "rcu-preempt-context"),
    (r"GPL", "gpl-only"),
    (r"CAP_|privileg", "unprivileged-leak"),
    (r"Policy", "helper-not-allowed"),
    (r"call argument", "helper-arg-type"),
)
CAUSES_BY_WORDS = tuple((re.compile(pattern, re.DOTALL), cause) for pattern, cause in _CAUSES)


def from_reason(case: Case) -> Finding | None:
    """The cause that the kernel's own words point to; never sure, as they are groups and no causes."""
    reason = case.log.reason
    if reason is None or not reason.reason:
        return None
    words = f"{reason.category}: {reason.problem}: {reason.reason} {reason.at} {reason.suggestion}"
    cause = next((cause for pattern, cause in CAUSES_BY_WORDS if pattern.search(words)), "")
    if not cause:
        return None
    return Finding(cause, shorten(reason.reason, 400), shorten(reason.suggestion, 400), WEAK, False)
