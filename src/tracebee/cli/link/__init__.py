"""``tracebee link``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.verbs import Verb, run_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, Verb] = {
    "list": Verb("listing", "[id ID | pinned PATH]", "a table of links"),
    "show": Verb("listing", "[id ID | pinned PATH]", "links with all facts"),
    "detach": Verb("detach", "LINK", "detaches at once, whoever holds the link"),
    "pin": Verb("pin", "LINK PATH", "keeps a link in a bpf file system when its owners are gone"),
}
"""The verbs, and where each is."""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee link`` with the words after it; the exit status.  Raises TracebeeError."""
    return run_verb("link", "links: which program hangs where", VERBS, words)
