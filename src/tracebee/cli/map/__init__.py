"""``tracebee map``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.verbs import Verb, run_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, Verb] = {
    "list": Verb("listing", "[id ID | name NAME | pinned PATH]", "a table of maps"),
    "show": Verb("listing", "[id ID | name NAME | pinned PATH]", "maps with all facts"),
}
"""The verbs, and where each is."""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee map`` with the words after it; the exit status.  Raises TracebeeError."""
    return run_verb("map", "maps in the kernel", VERBS, words)
