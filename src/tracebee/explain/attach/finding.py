"""What a rule has found out: a cause, how sure that is, and what to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.explain.explanation import Explanation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.explain.attach.attempt import Attempt

PROVEN = 90
"""The recorded facts allow nothing else."""

TOLD = 80
"""The kernel's or the loader's own words name it."""

LIKELY = 60
"""It is what such an answer nearly always means, and no fact speaks against it."""

GUESS = 40
"""One of several; said with reserve."""


class Finding(NamedTuple):
    """A cause with its `weight`; the texts are those of an Explanation."""

    cause: str
    weight: int
    sentence: str
    advice: str = ""
    evidence: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    reference: str = ""

    @property
    def is_sure(self) -> bool:
        return self.weight >= LIKELY

    def explanation(self, others: Iterable[str] = (), evidence: Iterable[str] = ()) -> Explanation:
        """What is said; `others` are causes that were also found."""
        return Explanation(
            self.cause,
            self.is_sure,
            self.sentence,
            self.advice,
            kernel_says=self.says,
            evidence=tuple(dict.fromkeys((*self.evidence, *evidence))),
            others=tuple(others),
            also=self.also,
            reference=self.reference,
        )


class Rule(NamedTuple):
    """Something that makes attaching fail.

    `about` says what in a word or two, `examine` gives what it finds in an attempt: nothing, where it does not
    apply.  Attempts without calls are asked about ahead: then it tells what would be in the way.
    """

    about: str
    examine: Callable[[Attempt], Iterable[Finding]]
