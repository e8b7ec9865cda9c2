"""``tracebee object``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.verbs import Verb, run_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, Verb] = {
    "show": Verb(
        "show",
        "FILE.o [--btf FILE|none] [--sections] [--relocations] [--types] [--disasm [PROGRAM]]",
        "what an object has: sections, programs, maps, variables, CO-RE relocations",
    ),
    "diff": Verb("diff", "OLD.o NEW.o [--disasm]", "what differs between two objects"),
    "link": Verb("link", "-o OUT.o A.o B.o ...", "many objects to one"),
}
"""The verbs, and where each is."""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee object`` with the words after it; the exit status.  Raises TracebeeError."""
    return run_verb("object", "objects that clang has made with -target bpf", VERBS, words)
