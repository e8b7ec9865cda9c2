"""The names of the tools that ship, known without loading what runs them."""

from __future__ import annotations

import os

FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "scripts")
SUFFIX = ".bt"

ALIASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ext4dist": ("fsdist", ("--type=ext4",)),
    "xfsdist": ("fsdist", ("--type=xfs",)),
}
"""Names that stand for a tool with some options."""


def is_tool(word: str) -> bool:
    """Whether a word is the name of a tool; asked without loading what runs them."""
    if not word.isalnum():
        return False
    return word in ALIASES or os.path.exists(os.path.join(FOLDER, word + SUFFIX))
