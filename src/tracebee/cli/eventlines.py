"""Events of a structure as lines of aligned columns, under the names of its members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.btf.values import BoolCodec, EnumCodec, NumberCodec, TextCodec

if TYPE_CHECKING:
    from tracebee.btf.values import RecordCodec, ValueCodec

WIDEST_TEXT = 32
"""Characters that are kept for text which is not the last of a line."""

_DIGITS = {1: 4, 2: 6, 4: 10, 8: 16}


class EventColumns:
    """Makes lines of values; the first has the headings in front."""

    def __init__(self, codec: RecordCodec) -> None:
        # Members that only fill up space tell nothing.
        self.places = [place for place in codec.places if not is_padding(place.name)]
        self._at = {place.name: number for number, place in enumerate(codec.places)}
        self._widths = [max(len(place.name), width_of(place.codec)) for place in self.places]
        self._has_headings = False

    def line(self, value: tuple[Any, ...]) -> str:
        cells = [cell(place.codec, value[self._at[place.name]]) for place in self.places]
        text = self._joined(cells)
        if self._has_headings:
            return text
        self._has_headings = True
        return f"{self._joined([place.name.upper() for place in self.places])}\n{text}"

    def _joined(self, cells: list[str]) -> str:
        parts = []
        for place, width, text in zip(self.places, self._widths, cells, strict=True):
            is_number = isinstance(place.codec, NumberCodec) and not isinstance(place.codec, EnumCodec)
            parts.append(text.rjust(width) if is_number else text.ljust(width))
        return " ".join(parts).rstrip()


def is_padding(name: str) -> bool:
    return name.strip("_").startswith(("pad", "unused", "reserved")) or not name.strip("_")


def width_of(codec: ValueCodec) -> int:
    if isinstance(codec, BoolCodec):
        return 5
    if isinstance(codec, NumberCodec):
        return _DIGITS.get(codec.size, 20)
    if isinstance(codec, TextCodec):
        return min(codec.size, WIDEST_TEXT)
    return 12


def cell(codec: ValueCodec, value: Any) -> str:
    """A value in its column: text as it is but for what would break the line."""
    if isinstance(codec, TextCodec):
        return "".join(char if char.isprintable() or char == " " else _escaped(char) for char in value)
    return codec.text(value)


def _escaped(char: str) -> str:
    """A control character or a byte of no text, as Python writes it."""
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
