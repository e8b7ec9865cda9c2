"""Changes of the source that rules propose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.explanation import Edit

if TYPE_CHECKING:
    from tracebee.explain.facts import Source

MAX_MAP_LINES = 40
"""Lines that the declaration of a map may have."""


def replace(source: Source | None, number: int, old: str, new: str) -> Edit | None:
    """Line `number` with `old`, which must be there once, replaced."""
    if source is None:
        return None
    text = source.whole(number)
    if text.count(old) != 1 or old == new:
        return None
    return Edit((text,), (text.replace(old, new),), source.file, number)


def section_edit(source: Source | None, section: str, wanted: str) -> Edit | None:
    """The section of a program by another name."""
    if source is None or not section or not wanted:
        return None
    place = source.search(rf'SEC\("\??{re.escape(section)}"\)')
    return replace(source, place.line, f'{section}"', f'{wanted}"') if place is not None else None


def map_type_edit(source: Source | None, name: str, wanted: str) -> Edit | None:
    """The declaration of a map with another type, which is named as BPF_MAP_TYPE_ARRAY is."""
    if source is None or not name or not re.fullmatch(r"BPF_MAP_TYPE_\w+", wanted):
        return None
    place = source.search(rf"\}}\s*{re.escape(name)}\s+SEC")
    if place is None:
        return None
    for number in range(place.line, max(place.line - MAX_MAP_LINES, 0), -1):
        found = re.search(r"__uint\(type,\s*(BPF_MAP_TYPE_\w+)\)", source.whole(number))
        if found:
            return replace(source, number, f"{found[1]})", f"{wanted})")
        if number < place.line and source.whole(number).startswith("}"):
            break
    return None
