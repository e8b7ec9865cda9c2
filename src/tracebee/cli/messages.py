"""Errors and warnings as a person reads them, on standard error."""

from __future__ import annotations

import sys


def message_of(error: Exception) -> str:
    """The text of an error for a person."""
    from tracebee.errors import AttachError, SourceError, VerifierError

    if isinstance(error, SourceError):
        return str(error)
    if isinstance(error, VerifierError):
        from tracebee.cli.refusal import describe_refusal

        return describe_refusal(error)
    text = str(error)
    if isinstance(error, AttachError):
        told = error.explanation
        if told is not None and told.cause and told.sure:
            text = f"{text}\n{told.text()}"
    return f"ERROR: {text}" if text else ""


def report(message: str, hint: str) -> None:
    """Write a message and a hint to standard error."""
    lines = [line for line in (message, f"HINT: {hint}" if hint else "") if line]
    try:
        sys.stdout.flush()
        data = ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()
    except (BrokenPipeError, ValueError):
        pass
