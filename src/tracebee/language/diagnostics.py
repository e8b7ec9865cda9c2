"""What is wrong with a script, as values; and the collector that passes report to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from tracebee.errors import SourceError
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.source import Span

LONG_LINE = 240
"""Source lines beyond this length are shown in part: the text of a message stays readable."""


class Diagnostic(Frozen):
    """One complaint: `severity` is "ERROR", "WARNING" or, for a plain statement, empty.

    `span` is None where no place can be named; `hint` says what to try, and may be empty.
    """

    severity: str
    message: str
    span: Span | None = None
    hint: str = ""

    def render(self) -> str:
        """The message with its place, the source line, marks below it, and the hint; no final newline."""
        if self.span is None:
            lines = [f"{self.severity}: {self.message}" if self.severity else self.message]
        else:
            lines = [f"{self.span.heading}: {self.severity}: {self.message}", _shortened(self.span.excerpt)]
            outer = self.span.expanded_from
            while outer is not None:
                lines += [f"{outer.heading}: {self.severity}: expanded from", _shortened(outer.excerpt)]
                outer = outer.expanded_from
        if self.hint:
            lines.append(f"HINT: {self.hint}")
        return "\n".join(lines)


def _shortened(excerpt: str) -> str:
    """An excerpt whose lines fit a screen: the part around the marks of a very long line."""
    lines = excerpt.split("\n")
    if all(len(line) <= LONG_LINE for line in lines):
        return excerpt
    marks = lines[-1]
    if len(lines) != 2 or set(marks) - set(" \t~"):
        shown = [line if len(line) <= LONG_LINE else line[:LONG_LINE] + " …" for line in lines[:20]]
        return "\n".join(shown)
    first = len(marks) - len(marks.lstrip(" \t"))
    start = max(0, first - LONG_LINE // 2)
    end = start + LONG_LINE
    before, after = ("… " if start else ""), (" …" if end < len(lines[0]) else "")
    return f"{before}{lines[0][start:end]}{after}\n{' ' * len(before)}{marks[start:end]}"


class Diagnostics:
    """Collects what the passes find.  The same complaint about the same place is kept once."""

    MOST_ERRORS = 50

    def __init__(self) -> None:
        self._found: dict[Diagnostic, None] = {}
        self._errors = 0

    def error(self, message: str, span: Span | None, hint: str = "") -> None:
        diagnostic = Diagnostic("ERROR", message, span, hint)
        if diagnostic not in self._found:
            self._found[diagnostic] = None
            self._errors += 1
            if self._errors >= self.MOST_ERRORS:
                raise SourceError(self.all)

    def warning(self, message: str, span: Span | None, hint: str = "") -> None:
        self._found[Diagnostic("WARNING", message, span, hint)] = None

    @property
    def all(self) -> tuple[Diagnostic, ...]:
        """Everything found, errors and warnings, in the order of their places."""
        return tuple(sorted(self._found, key=_place))

    @property
    def has_errors(self) -> bool:
        return self._errors > 0

    def complained_in(self, span: Span) -> bool:
        """Whether there is an error about this place or a part of it: what follows from it needs no other."""
        return any(
            found.severity == "ERROR"
            and found.span is not None
            and found.span.source is span.source
            and span.start <= found.span.start
            and found.span.end <= span.end
            for found in self._found
        )

    def stop_if_errors(self) -> None:
        """Raise SourceError with everything found so far if any of it is an error."""
        if self._errors:
            raise SourceError(self.all)

    def fail(self, message: str, span: Span | None, hint: str = "", severity: str = "ERROR") -> NoReturn:
        """Report what nothing sensible can follow."""
        self._found[Diagnostic(severity, message, span, hint)] = None
        raise SourceError(self.all)


def _place(diagnostic: Diagnostic) -> tuple[int, int]:
    """Errors without a place first, then by place in the script that the user wrote."""
    span = diagnostic.span
    if span is None:
        return (-1, -1)
    while span.expanded_from is not None:
        span = span.expanded_from
    return (span.start, span.end)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known word closest to `name`, or an empty string."""
    from difflib import get_close_matches  # costs 3 ms, and only a message needs it

    found = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"did you mean '{found[0]}'?" if found else ""
