"""Tables that fit the terminal: columns under headings, and the widest texts cut where there is no room."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

CUT = "…"
GAP = "  "
NARROWEST = 8
"""To how many characters a column may be cut; less tells nothing."""


class Column(NamedTuple):
    """A column: `right` aligns it to the right, as numbers are; `free` says that it may be cut to fit.

    With a `rank` it is left out where cutting is not enough, the column of the highest rank first.  `end` is for
    what tells most at its end, such as paths: it is cut at the beginning.
    """

    heading: str
    right: bool = False
    free: bool = False
    rank: int = 0
    end: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """The lines of a table: the headings, then a line for each row.

    Columns without a single text in them are left out.  `width` is the room in characters, None for as much as
    it takes; free columns are cut to fit into it, the widest first, and what then still has no room is left out.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    used = [index for index in range(len(columns)) if not cells or any(row[index] for row in cells)]
    columns = [columns[index] for index in used]
    cells = [[row[index] for index in used] for row in cells]
    widths = [
        max([len(column.heading), *(len(row[index]) for row in cells)])
        for index, column in enumerate(columns)
    ]
    if width is not None:
        kept = _kept(columns, widths, width)
        columns, widths = [columns[index] for index in kept], [widths[index] for index in kept]
        cells = [[row[index] for index in kept] for row in cells]
        _fit(columns, widths, width)
    lines = [_line(columns, widths, [column.heading for column in columns])]
    lines += [_line(columns, widths, row) for row in cells]
    return lines


def _narrowest(column: Column, width: int) -> int:
    """The width that a column can be cut to."""
    return min(width, max(NARROWEST, len(column.heading))) if column.free else width


def _kept(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """The columns that there is room for, by their index."""
    kept = list(range(len(columns)))
    while True:
        needed = sum(_narrowest(columns[index], widths[index]) for index in kept) + len(GAP) * (len(kept) - 1)
        last = max(kept, key=lambda index: columns[index].rank, default=None)
        if needed <= width or last is None or not columns[last].rank:
            return kept
        kept.remove(last)


def _fit(columns: Sequence[Column], widths: list[int], width: int) -> None:
    """Make free columns narrower until all fit, as far as that goes."""
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        free = [
            index for index, column in enumerate(columns) if widths[index] > _narrowest(column, widths[index])
        ]
        if not free:
            return
        widths[max(free, key=lambda index: widths[index])] -= 1


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    parts = []
    for column, room, cell in zip(columns, widths, cells, strict=True):
        text = cut(cell, room, column.end)
        parts.append(text.rjust(room) if column.right else text.ljust(room))
    return GAP.join(parts).rstrip()


def cut(text: str, room: int, end: bool = False) -> str:
    """A text in at most `room` characters; … stands for what is left out.

    That is its end, or with `end` its beginning.
    """
    if len(text) <= room:
        return text
    kept = max(0, room - len(CUT))
    return CUT + text[len(text) - kept :] if end else text[:kept] + CUT


def printable(text: str) -> str:
    """A text without anything that a terminal obeys: control characters become escapes, as in C."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == " " else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8, decoded with surrogateescape
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def block(facts: Sequence[tuple[str, str]], indent: str = "    ", width: int | None = None) -> list[str]:
    """Facts under one another: a word, then what it is; those without text are left out.

    A text longer than the line goes on below itself, broken at blanks.  Texts of several lines keep them.
    """
    facts = [(word, text) for word, text in facts if text]
    room = max((len(word) for word, _ in facts), default=0)
    lines = []
    for word, text in facts:
        first = f"{indent}{word:<{room}}  "
        for part in text.split("\n"):
            for piece in _wrapped(printable(part), None if width is None else width - len(first)):
                lines.append((first + piece).rstrip())
                first = " " * len(first)
    return lines


def _wrapped(text: str, room: int | None) -> list[str]:
    """A text in lines of at most `room` characters, words longer than that left whole."""
    if room is None or len(text) <= room:
        return [text]
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
