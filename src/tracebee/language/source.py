"""Source text and places in it."""

from __future__ import annotations

from bisect import bisect_right

from tracebee.errors import UsageError
from tracebee.records import Frozen
from tracebee.spec.events import Location


class Source:
    """A named text: a script, an imported file, a command line.  Offsets count characters from 0."""

    __slots__ = ("_starts", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._starts: list[int] | None = None

    @classmethod
    def decode(cls, name: str, data: bytes) -> Source:
        """The source in a file, which must be UTF-8.  Raises UsageError with the place that is not."""
        try:
            return cls(name, data.decode("utf-8"))
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
            raise UsageError(
                f"{name}:{line}:{column}: the script is not valid UTF-8 (byte 0x{data[error.start]:02x})",
                "save it as UTF-8, or write the byte as \\xNN in a string",
            ) from None

    @property
    def line_starts(self) -> list[int]:
        """The offset at which each line starts."""
        if self._starts is None:
            starts = [0]
            at = self.text.find("\n")
            while at >= 0:
                starts.append(at + 1)
                at = self.text.find("\n", at + 1)
            self._starts = starts
        return self._starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line, counted from 1, without its newline."""
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start:] if end < 0 else self.text[start:end]


class Span(Frozen):
    """The characters from `start` up to, not including, `end`.

    A node that comes from a macro's body has the place in the body here, and in `expanded_from` the call.
    """

    source: Source
    start: int
    end: int
    expanded_from: Span | None = None

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """From the start of this to the end of `other`, which lies in the same source."""
        if other.source is not self.source:
            return self
        return Span(self.source, self.start, max(self.end, other.end), self.expanded_from)

    @property
    def heading(self) -> str:
        """How a message about this place starts: ``name:line:column-column``, or line-line when longer.

        Columns count from 1; the second is the one after the last.
        """
        line, column = self.source.position(self.start)
        last_line, last_column = self.source.position(self.end)
        if line == last_line:
            return f"{self.source.name}:{line}:{column}-{last_column}"
        return f"{self.source.name}:{line}-{last_line}"

    @property
    def excerpt(self) -> str:
        """The source line with a row of marks below it; only the lines where the span covers several."""
        line, column = self.source.position(self.start)
        last_line, last_column = self.source.position(self.end)
        if line != last_line:
            return "\n".join(self.source.line(number) for number in range(line, last_line + 1))
        text = self.source.line(line)
        # A tab takes what the terminal gives it, so it stands in the row of marks as itself.
        indent = "".join("\t" if char == "\t" else " " for char in text[: column - 1])
        return f"{text}\n{indent}{'~' * max(1, last_column - column)}"

    def location(self) -> Location:
        """The same place as a plain value that can go into a schema."""
        line, column = self.source.position(self.start)
        chain: list[Location] = []
        outer = self.expanded_from
        while outer is not None:
            outer_line, outer_column = outer.source.position(outer.start)
            chain.append(Location(outer.source.name, outer_line, outer_column, outer.heading, outer.excerpt))
            outer = outer.expanded_from
        return Location(self.source.name, line, column, self.heading, self.excerpt, tuple(chain))
