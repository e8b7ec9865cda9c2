"""The shape of a rule: what the kernel prints, since when, and who judges what it means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.records import Frozen, Mutable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.explain.case import Case
    from tracebee.explain.explanation import Edit, SourceLine, Step

CERTAIN = 90
LIKELY = 60
WEAK = 30


class Finding(Mutable):
    """What a rule makes of a message: a cause with its weight, and what to say.

    `weight` orders findings of several rules.  Without `sure`, the evidence allows another cause.
    `insn` and `stop` replace the last instruction and its line; `fix` are lines to change.
    """

    cause: str
    sentence: str
    advice: str
    weight: int = CERTAIN
    sure: bool = True
    insn: int | None = None
    stop: SourceLine | None = None
    fix: tuple[SourceLine | None, ...] = ()
    story: tuple[Step, ...] = ()
    edit: Edit | None = None
    evidence: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    no_insn: bool = False


class Rule(Frozen):
    """A message and its judge.

    `pattern` is searched in each error line; `kernels` are those that print it, as far as known; `judge` says
    what it means in a case, or None if this is not for it.  `cause` is the usual cause.
    """

    cause: str
    pattern: re.Pattern[str]
    judge: Callable[[Case, re.Match[str]], Finding | None]
    kernels: str = ""


def rule(
    cause: str, pattern: str, judge: Callable[[Case, re.Match[str]], Finding | None], kernels: str = ""
) -> Rule:
    """A rule; the pattern is compiled here."""
    return Rule(cause, re.compile(pattern), judge, kernels)


def plain(
    cause: str,
    pattern: str,
    sentence: str,
    advice: str,
    kernels: str = "",
    sure: bool = True,
    weight: int = CERTAIN,
) -> Rule:
    """A rule whose message means one thing; ``{0}``, ``{1}`` in its words are the groups of the pattern."""

    def judge(_case: Case, found: re.Match[str]) -> Finding:
        groups = [group or "" for group in found.groups()]
        return Finding(cause, sentence.format(*groups), advice.format(*groups), weight, sure)

    return rule(cause, pattern, judge, kernels)
