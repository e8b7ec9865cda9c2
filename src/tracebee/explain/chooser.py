"""Ranks the causes of a refusal by evidence, and makes the explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.case import Case
from tracebee.explain.causes import CAUSES
from tracebee.explain.explanation import Explanation, SourceLine, Step, shorten
from tracebee.explain.facts import Facts
from tracebee.explain.log import read_text
from tracebee.explain.rules import RULES
from tracebee.explain.rules.emptylog import empty_log, from_loader, log_cut
from tracebee.explain.rules.kernelreason import from_reason
from tracebee.explain.rules.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.explain.log import VerifierLog

MAX_ERRORS = 12
MAX_ERROR = 600
"""Characters of an error line that rules look at."""

NO_FACTS = Facts()


def explain_text(text: str, facts: Facts = NO_FACTS) -> Explanation:
    """The explanation of a log; there is one for any text, and none raises."""
    return explain_log(read_text(text), facts)


def explain_log(log: VerifierLog, facts: Facts = NO_FACTS) -> Explanation:
    """The explanation of a log that was read."""
    case = Case(log, facts)
    findings = list(find_all(case))
    if not findings:
        return unexplained(case)
    # The heaviest; of equals the first, as the verifier says the special thing before the general one.
    best = max(findings, key=lambda finding: finding.weight)
    others = [finding.cause for finding in findings if finding is not best]
    return explanation_of(case, best, others)


def find_all(case: Case) -> Iterable[Finding]:
    """What the rules find: the environment first, then each error line."""
    if not case.log.insns and not case.errors:
        finding = from_reason(case) or from_loader(case) or log_cut(case) or empty_log(case)
        if finding is not None:
            yield finding
            return
        # Some loaders put the verifier's last words into a message of their own.
        for line in reversed((*case.log.loader, *case.facts.loader.splitlines()[-40:])):
            finding = judge_line(case, line[:MAX_ERROR])
            if finding is not None:
                finding.weight -= 10
                yield finding
                return
        return
    known = False
    for number, line in enumerate(case.errors[:MAX_ERRORS]):
        finding = judge_line(case, line[:MAX_ERROR])
        if finding is not None:
            # Lines that follow the first are mostly about its consequences.
            finding.weight -= min(number, 5)
            known = True
            yield finding
    if not known:
        finding = from_reason(case) or log_cut(case) or from_loader(case)
        if finding is not None:
            yield finding


def judge_line(case: Case, line: str) -> Finding | None:
    """What the first fitting rule says of an error line."""
    for rule in RULES:
        found = rule.pattern.search(line)
        if found is not None:
            finding = rule.judge(case, found)
            if finding is not None:
                return finding
    return None


def explanation_of(case: Case, finding: Finding, others: Iterable[str]) -> Explanation:
    """The explanation that a finding amounts to."""
    stopped = case.stopped
    insn: int | None = None
    stop: SourceLine | None = None
    if not finding.no_insn:
        if finding.insn is not None:
            insn, stop = finding.insn, finding.stop
        elif stopped is not None and not gap_hides_end(case):
            insn, stop = stopped.index, finding.stop or case.place(case.end)
    seen: list[SourceLine] = []
    for place in finding.fix:
        if place is not None and place not in seen:
            seen.append(place)
    also = list(finding.also)
    if case.facts.errno == "ENOSPC" and finding.cause != "log-truncated" and not also:
        also.append(
            "the log's buffer was too small, its start is missing; ENOSPC speaks of the log, not of the program"
        )
    says = [shorten(line.strip()) for line in case.errors[-3:]]
    reason = case.log.reason
    if reason is not None and reason.problem:
        says.append(f"{reason.category}: {reason.problem}")
    if reason is not None and reason.reason:
        says.append(shorten(reason.reason, 300))
    ranked = [cause for cause in dict.fromkeys((*finding.others, *others)) if cause != finding.cause]
    cause = CAUSES.get(finding.cause)
    return Explanation(
        finding.cause,
        finding.sure,
        finding.sentence,
        finding.advice,
        insn,
        stop,
        tuple(seen),
        finding.story,
        finding.edit,
        cause.reference if cause is not None else "",
        tuple(says),
        finding.evidence,
        tuple(ranked) if not finding.sure else (),
        tuple(also),
    )


def gap_hides_end(case: Case) -> bool:
    """Whether lines are missing between the last instruction and the error."""
    return case.log.gap_at_end


def unexplained(case: Case) -> Explanation:
    """No rule fits: what the log does say, without a cause."""
    stopped = case.stopped
    says = tuple(shorten(line.strip()) for line in case.errors[:3])
    if says:
        sentence = f"This message is not known, so the cause is not explained: {says[0]}"
    elif stopped is not None:
        sentence = "The log shows instructions but no error: there is nothing to explain (was the program accepted?)."
    else:
        errno = f" The errno was {case.facts.errno}." if case.facts.errno else ""
        sentence = f"There is no verifier log, so the cause is not known.{errno}"
    reason = case.log.reason
    if reason is not None and reason.reason:
        sentence = f"The kernel says: {shorten(reason.reason, 300)}"
    advice = reason.suggestion if reason is not None else ""
    story: tuple[Step, ...] = ()
    if stopped is not None:
        registers = [number for number in (case.operation.base, case.operation.source) if number is not None]
        if registers:
            story = case.story(case.trace(registers[0]))
    return Explanation(
        "",
        False,
        sentence,
        shorten(advice, 300),
        stopped.index if stopped is not None else None,
        case.place(case.end) if stopped is not None else None,
        story=story,
        kernel_says=says,
    )
