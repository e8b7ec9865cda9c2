"""``tracebee object``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.verbs import Verb, run_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, Verb] = {}
"""The verbs, and where each is."""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee object`` with the words after it; the exit status.  Raises TracebeeError."""
    return run_verb("object", "", VERBS, words)
