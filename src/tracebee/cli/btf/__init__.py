"""``tracebee btf``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.verbs import Verb, run_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, Verb] = {
    "list": Verb("listing", "[id ID | name NAME]", "a table of BTF objects"),
    "show": Verb("listing", "[id ID | name NAME]", "BTF objects with all facts"),
    "dump": Verb(
        "dump",
        "[ID | name NAME | prog PROG | map MAP [key|value|kv|all] | file FILE] [format raw|c] [type NAME]",
        "prints types, as they are stored or as C; one with its offsets",
    ),
}
"""The verbs, and where each is."""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee btf`` with the words after it; the exit status.  Raises TracebeeError."""
    return run_verb("btf", "type information in the kernel and in files", VERBS, words)
