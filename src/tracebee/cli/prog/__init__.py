"""``tracebee prog``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.verbs import Verb, run_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, Verb] = {
    "list": Verb("listing", "[id ID | tag TAG | name NAME | pinned PATH]", "a table of programs"),
    "show": Verb("listing", "[id ID | tag TAG | name NAME | pinned PATH]", "programs with all facts"),
    "dump": Verb(
        "dump",
        "xlated|jited PROG [linum] [opcodes] [visual|intel] [file FILE]",
        "the code of a program, as the verifier left it or as machine code",
    ),
}
"""The verbs, and where each is."""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee prog`` with the words after it; the exit status.  Raises TracebeeError."""
    return run_verb("prog", "programs loaded into the kernel", VERBS, words)
