"""Why an attempt failed, or would fail: all rules are asked, and the one with the best evidence speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.attach import (
    environment,
    events,
    functions,
    loads,
    maps,
    multi,
    places,
    silent,
    tracepoints,
    trampolines,
    uprobes,
)
from tracebee.explain.attach.machine import KPROBES_ENABLED
from tracebee.explain.explanation import Explanation

if TYPE_CHECKING:
    from tracebee.explain.attach.attempt import Attempt
    from tracebee.explain.attach.finding import Finding

# The environment comes before the program: of equal evidence the first speaks.
RULES = (
    *environment.RULES,
    *events.RULES,
    *loads.RULES,
    *maps.RULES,
    *places.RULES,
    *trampolines.RULES,
    *multi.RULES,
    *tracepoints.RULES,
    *uprobes.RULES,
    *functions.RULES,
    *silent.RULES,
)


def findings(attempt: Attempt) -> list[Finding]:
    """All that the rules find, the best first; of each cause its best finding."""
    found: dict[str, Finding] = {}
    for rule in RULES:
        for finding in rule.examine(attempt):
            known = found.get(finding.cause)
            if known is None or finding.weight > known.weight:
                found[finding.cause] = finding
    return sorted(found.values(), key=lambda finding: -finding.weight)


def diagnose(attempt: Attempt) -> Explanation:
    """Why it was refused, or is silent.  Where no rule fits, an explanation without a cause says so."""
    found = findings(attempt)
    if found:
        best = found[0]
        return best.explanation([finding.cause for finding in found[1:4]], _unreadable(attempt))
    return _unknown(attempt)


def obstacles(attempt: Attempt) -> list[Explanation]:
    """What would be in the way of an attempt that was not made, what is certain first; empty if nothing is known."""
    return [finding.explanation() for finding in findings(attempt)]


def _unknown(attempt: Attempt) -> Explanation:
    call = attempt.failed
    if call is None:
        sentence = "every call went well, and nothing that was looked at keeps the probe from firing"
        advice = "see whether the place is reached at all: trace a caller, or count the probe's hits"
    else:
        sentence = (
            f"{call.what} was refused with {call.errno}, and no known cause fits the facts that there are"
        )
        advice = "look into the kernel's log (dmesg) and error_log in tracefs for its own words"
    says = (*attempt.dmesg[-3:], *(line for line in (attempt.error_log or "").splitlines()[-3:]))
    return Explanation("", False, sentence, advice, kernel_says=says, evidence=_unreadable(attempt))


def _unreadable(attempt: Attempt) -> tuple[str, ...]:
    return tuple(
        f"could not be read: {name} ({why})"
        for name, why in attempt.machine.unreadable.items()
        if name != KPROBES_ENABLED or attempt.is_silent
    )
