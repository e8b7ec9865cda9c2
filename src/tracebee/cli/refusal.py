"""A program that the kernel refused: why, the script's line, what to change, and where the whole log is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tracebee.session  # noqa: F401 - gives VerifierError its explanation
from tracebee.kernel.programs import save_log

if TYPE_CHECKING:
    from tracebee.errors import VerifierError

LAST_LINES = 12


def describe_refusal(error: VerifierError) -> str:
    """The message for a person."""
    lines = [f"ERROR: {error}"]
    told = error.explanation
    if told is not None and told.cause:
        lines += told.text().splitlines()
    else:
        source = last_source_line(error.log)
        if source:
            lines.append(f"at {source}")
    log = [line for line in error.log.splitlines() if line.strip()]
    if log:
        if told is None or not told.sure:
            lines.append("the last lines of the kernel's log:")
            lines += [f"    {line[:200]}" for line in log[-LAST_LINES:]]
        path = save_log(error)
        if path:
            lines.append(f"the whole log is in {path}")
    return "\n".join(lines)


def last_source_line(log: str) -> str:
    """The script's line that the verifier quoted last: ``; text @ file:line``, or else ``; text``."""
    for line in reversed(log.splitlines()):
        text = line.strip()
        if text.startswith("; ") and not text.startswith("; R"):
            body, at, place = text[2:].rpartition(" @ ")
            return f"{place}: {body}" if at else text[2:]
    return ""
