"""The record of a tracepoint as a structure: in C, Python's struct, ctypes or numpy.

Widths come from the sizes that the format file gives, not from the C names: the ``int dfd`` of a system call
takes 8 bytes.  The common header and every gap are written out, so that the layout is the same for every compiler
and reader.
"""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

INTEGER_SIZES = (1, 2, 4, 8)


class EventField(Protocol):
    """What is needed of a field (tracebee.host.tracefs.TracepointField)."""

    @property
    def name(self) -> str: ...
    @property
    def c_type(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def signed(self) -> bool: ...
    @property
    def is_common(self) -> bool: ...
    @property
    def count(self) -> int: ...
    @property
    def is_array(self) -> bool: ...
    @property
    def data_loc(self) -> str: ...


class Slot(NamedTuple):
    """A piece of the record: a field, or a gap (`field` is None) of `size` bytes.

    `width` is the size of one element and `elements` their number; a plain value has 0.  `text` says that
    the elements are characters.
    """

    name: str
    offset: int
    size: int
    width: int
    elements: int
    signed: bool
    text: bool
    field: EventField | None


class Layout(NamedTuple):
    """A whole record.  `overlapping` are fields that share bytes with ones before them."""

    event: str
    slots: tuple[Slot, ...]
    overlapping: tuple[EventField, ...]
    size: int
    alignment: int

    @property
    def struct_name(self) -> str:
        """``sched:sched_switch`` → "sched_switch"; what is no C identifier becomes an underscore."""
        name = re.sub(r"\W", "_", self.event.rpartition(":")[2]) or "event"
        return f"_{name}" if name[0].isdigit() else name

    @property
    def is_packed(self) -> bool:
        """Whether a field lies where a C compiler would not put it."""
        return any(slot.field is not None and slot.offset % max(slot.width, 1) for slot in self.slots)


def lay_out(event: str, fields: Sequence[EventField]) -> Layout:
    """The pieces of a record in order, gaps between them written out, and one at the end up to the alignment."""
    slots: list[Slot] = []
    overlapping: list[EventField] = []
    at = 0
    alignment = 1
    for field in sorted(fields, key=lambda one: one.offset):
        if field.offset < at:
            overlapping.append(field)
            continue
        if field.offset > at:
            slots.append(_gap(len(slots), at, field.offset - at))
        slot = _slot(field)
        slots.append(slot)
        alignment = max(alignment, slot.width)
        at = field.offset + field.size
    layout = Layout(event, tuple(slots), tuple(overlapping), at, alignment)
    rest = -at % alignment
    if rest and not layout.is_packed and not (slots and not slots[-1].size):
        slots.append(_gap(len(slots), at, rest))
        return layout._replace(slots=tuple(slots))
    return layout


def _gap(number: int, offset: int, size: int) -> Slot:
    return Slot(f"__pad_{offset}", offset, size, 1, size, False, False, None)


def _slot(field: EventField) -> Slot:
    if field.data_loc:
        return Slot(
            f"__{field.data_loc}_{field.name}", field.offset, field.size, field.size, 0, False, False, field
        )
    width = field.size // field.count if field.count else field.size
    text = field.c_type.split()[-1:] == ["char"] and (field.count > 0 or field.is_array)
    if field.is_array and not field.count:
        return Slot(field.name, field.offset, field.size, 1, field.size, False, text, field)
    if width not in INTEGER_SIZES:
        return Slot(field.name, field.offset, field.size, 1, field.size, False, False, field)
    return Slot(field.name, field.offset, field.size, width, field.count, field.signed, text, field)


def note(slot: Slot) -> str:
    """What the format file says of the field, for a comment."""
    field = slot.field
    if field is None:
        return "a gap"
    if field.data_loc:
        base = "the record" if field.data_loc == "data_loc" else "the end of this field"
        return f"{field.c_type}[]: length << 16 | offset from the start of {base}".replace(
            "start of the end", "end"
        )
    brackets = f"[{field.count or ''}]" if field.is_array else ""
    return f"{field.c_type}{brackets}"


# ---------------------------------------------------------------------- C


def to_c(layout: Layout) -> str:
    """A structure of fixed-width types, with a check of its size."""
    lines = [f"/* {layout.event}: {layout.size} bytes */", f"struct {layout.struct_name} {{"]
    lines += _with_headings(layout, lambda slot: f"\t{_c_member(slot)}", "\t/* {} */")
    for field in layout.overlapping:
        lines.append(
            f"\t/* at {field.offset}, over what is above: {field.c_type} {field.name}, {field.size} bytes */"
        )
    packed = " __attribute__((packed))" if layout.is_packed else ""
    lines.append(f"}}{packed};")
    if layout.slots:
        end = layout.slots[-1].offset + layout.slots[-1].size
        lines.append(
            f'_Static_assert(sizeof(struct {layout.struct_name}) == {end}, "{layout.struct_name} has {end} bytes");'
        )
    return "\n".join(lines)


def _c_member(slot: Slot) -> str:
    kind = "char" if slot.text else f"__{'s' if slot.signed else 'u'}{slot.width * 8}"
    brackets = (
        f"[{slot.elements or ''}]"
        if slot.elements or (slot.field is not None and slot.field.is_array)
        else ""
    )
    if slot.field is not None and slot.field.data_loc:
        brackets = ""
    declared = f"{kind} {slot.name}{brackets};"
    return f"{declared:36} /* {slot.offset:4}: {note(slot)} */"


# ---------------------------------------------------------------------- Python


def to_python(layout: Layout) -> str:
    """A class that takes a record apart with the struct module."""
    names = python_names(layout)
    code = "".join(_struct_code(slot) for slot in layout.slots)
    fields = [slot for slot in layout.slots if slot.field is not None and slot.size]
    shown = ", ".join(f'"{names[slot]}"' for slot in fields)
    lines = [
        "import struct",
        "",
        "",
        f"class {layout.struct_name}:",
        f'    """{layout.event}: {layout.size} bytes."""',
        "",
        f'    LAYOUT = struct.Struct("={code}")',
        f"    __slots__ = ({shown}{',' if len(fields) == 1 else ''})",
        "",
        "    def __init__(self, record):",
        "        values = iter(self.LAYOUT.unpack_from(record))",
    ]
    lines += _with_headings(layout, lambda slot: _python_member(slot, names), "        # {}")
    for field in layout.overlapping:
        lines.append(f"        # at {field.offset}, over what is above: {field.c_type} {field.name}")
    return "\n".join(lines)


def _struct_code(slot: Slot) -> str:
    if slot.field is None:
        return f"{slot.size}x"
    if not slot.size:
        return ""
    if slot.text or (slot.elements and slot.width == 1):
        return f"{slot.size}s"
    letter = {1: "b", 2: "h", 4: "i", 8: "q"}[slot.width]
    return f"{slot.elements or ''}{letter if slot.signed else letter.upper()}"


def _python_member(slot: Slot, names: dict[Slot, str]) -> str:
    if slot.field is None:
        return f"        # {slot.size} bytes at {slot.offset}: a gap"
    name = names[slot]
    if not slot.size:
        return f"        # {name}: from {slot.offset} to the end of the record"
    if slot.text:
        value = "next(values).partition(b'\\0')[0]"
    elif slot.elements and slot.width > 1:
        value = f"[next(values) for _ in range({slot.elements})]"
    else:
        value = "next(values)"
    return f"        self.{name} = {value}  # {slot.offset}: {note(slot)}"


def python_names(layout: Layout) -> dict[Slot, str]:
    """Names that Python takes as attributes: no keywords, no leading underscores, which classes change."""
    found: dict[Slot, str] = {}
    taken: set[str] = set()
    for slot in layout.slots:
        name = slot.name.lstrip("_") or "field"
        if keyword.iskeyword(name) or name == "LAYOUT":
            name += "_"
        while name in taken:
            name += "_"
        taken.add(name)
        found[slot] = name
    return found


def to_ctypes(layout: Layout) -> str:
    """A ctypes.Structure."""
    lines = [
        "import ctypes",
        "",
        "",
        f"class {layout.struct_name}(ctypes.Structure):",
        f'    """{layout.event}: {layout.size} bytes."""',
        "",
        "    _pack_ = 1",
        "    _fields_ = [",
    ]
    lines += _with_headings(layout, _ctypes_member, "        # {}")
    lines.append("    ]")
    for field in layout.overlapping:
        lines.append(f"    # at {field.offset}, over what is above: {field.c_type} {field.name}")
    return "\n".join(lines)


def _ctypes_member(slot: Slot) -> str:
    kind = "ctypes.c_char" if slot.text else f"ctypes.c_{'' if slot.signed else 'u'}int{slot.width * 8}"
    is_array = slot.elements or (slot.field is not None and slot.field.is_array and not slot.field.data_loc)
    if is_array:
        kind = f"{kind} * {slot.elements}"
    return f'        ("{slot.name}", {kind}),  # {slot.offset}: {note(slot)}'


def to_numpy(layout: Layout) -> str:
    """A numpy.dtype with offsets, in which fields may share bytes."""
    lines = [
        "import numpy as np",
        "",
        f"{layout.struct_name} = np.dtype(  # {layout.event}",
        "    {",
    ]
    slots = [slot for slot in layout.slots if slot.field is not None and slot.size]
    slots += [slot for slot in map(_slot, layout.overlapping) if slot.size]
    names, formats, offsets = [], [], []
    for slot in slots:
        names.append(f'"{slot.name}"')
        formats.append(f'"{_numpy_code(slot)}"')
        offsets.append(str(slot.offset))
    for label, values in (("names", names), ("formats", formats), ("offsets", offsets)):
        lines.append(f'        "{label}": [{", ".join(values)}],')
    lines += [f'        "itemsize": {layout.size},', "    }", ")"]
    gaps = [slot for slot in layout.slots if slot.field is None and slot.offset < layout.size]
    lines += [f"# {slot.size} bytes at {slot.offset}: a gap" for slot in gaps]
    lines += [
        f"# {slot.name}: {note(slot)}" for slot in slots if slot.field is not None and slot.field.data_loc
    ]
    return "\n".join(lines)


def _numpy_code(slot: Slot) -> str:
    if slot.text:
        return f"S{slot.size}"
    kind = "i" if slot.signed else "u"
    return f"({slot.elements},){kind}{slot.width}" if slot.elements else f"{kind}{slot.width}"


WRITERS: dict[str, Callable[[Layout], str]] = {
    "c": to_c,
    "python": to_python,
    "ctypes": to_ctypes,
    "numpy": to_numpy,
}


def _with_headings(layout: Layout, write: Callable[[Slot], str], comment: str) -> Iterator[str]:
    """The lines of all slots, with a heading before the common header and one before the event's own fields."""
    part = ""
    for slot in layout.slots:
        if slot.field is not None:
            now = "the header of every record" if slot.field.is_common else "the event's own fields"
            if now != part:
                part = now
                yield comment.format(now)
        yield write(slot)
