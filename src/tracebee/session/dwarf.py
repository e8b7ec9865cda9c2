"""Arguments of user functions, from the debug information (DWARF) of programs and libraries.

pyelftools decodes the entries; here they become types of scripts, and get the places that the calling
conventions give them (System V ABI for AMD64, 3.2.3; AAPCS64, 6.8.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.errors import FormatError
from tracebee.language.machine import FunctionArgument
from tracebee.spec.types import Array, Bool, Enum, Field, Int, Pointer, Str, Struct, Type, Void

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.language.machine import Arch

SAME_TYPE = ("DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_restrict_type", "DW_TAG_atomic_type")
POINTERS = {"DW_TAG_pointer_type": "*", "DW_TAG_reference_type": "&", "DW_TAG_rvalue_reference_type": "&&"}
COMPOSITES = {
    "DW_TAG_structure_type": "struct",
    "DW_TAG_class_type": "struct",
    "DW_TAG_union_type": "union",
}
DW_ATE_BOOLEAN, DW_ATE_FLOATS, DW_ATE_SIGNED = 2, (3, 4, 9, 15), (5, 6, 13)
MOST_LINKS = 64
"""How many typedefs, qualifiers and origins may follow each other: bad data can have circles."""

LARGEST_IN_REGISTERS = 16
"""Bytes of the largest structure that is passed in registers, on both architectures."""


class DebugInfo:
    """The debug information of one program or library."""

    def __init__(self, path: str) -> None:
        """Open it, or its separate debug file.  Raises OSError, FormatError."""
        self.path = path
        self._types: dict[int, Type] = {}
        self._dwarf: Any = None
        with _Border(path):
            self._dwarf = _open(path)

    @property
    def is_there(self) -> bool:
        return self._dwarf is not None

    def arguments(self, address: int, arch: Arch) -> list[FunctionArgument] | None:
        """The parameters of the function that begins at an address of the file; None if it is not described.

        Raises FormatError.
        """
        if self._dwarf is None:
            return None
        with _Border(self.path):
            function = self._find(address)
            if function is None:
                return None
            given = []
            for child in function.iter_children():
                name = _attribute(child, "DW_AT_name")
                if child.tag == "DW_TAG_formal_parameter" and name is not None:
                    given.append((name.value.decode(), _type_entry(child)))
            described = [(name, self._spelled(entry), self._type(entry), entry) for name, entry in given]
            positions = self._positions([(type_, entry) for _, _, type_, entry in described], arch)
        return [
            FunctionArgument(name, spelled, type_, position)
            for (name, spelled, type_, _), position in zip(described, positions, strict=True)
        ]

    # --- finding

    def _find(self, address: int) -> Any:
        for unit in self._units(address):
            for entry in unit.get_top_DIE().iter_children():
                found = _function_at(entry, address, 0)
                if found is not None:
                    return found
        return None

    def _units(self, address: int) -> Iterator[Any]:
        """The compile units that may hold an address: the one that .debug_aranges names, or all."""
        ranges = self._dwarf.get_aranges()
        offset = None if ranges is None else ranges.cu_offset_at_addr(address)
        if offset is not None:
            yield self._dwarf.get_CU_at(offset)
            return
        yield from self._dwarf.iter_CUs()

    # --- calling conventions

    def _positions(self, parameters: list[tuple[Type, Any]], arch: Arch) -> list[int | None]:
        """Which ``argN`` each parameter is; None where it lies elsewhere or cannot be told."""
        registers = len(arch.function_arguments)
        used, on_stack = 0, 0
        known = True
        positions: list[int | None] = []
        for type_, entry in parameters:
            position: int | None = None
            if isinstance(type_, Struct | Array | Str):
                words = (max(type_.size, 1) + 7) // 8
                if type_.size > LARGEST_IN_REGISTERS:
                    # A copy on the stack; AAPCS64 passes its address instead.
                    if arch.name == "x86_64":
                        on_stack += words
                    elif used < registers:
                        used += 1
                elif _has_float(entry, 0):
                    known = False
                elif used + words <= registers:
                    used += words
                else:
                    on_stack += words
            elif isinstance(type_, Void):
                # A floating-point number: in a register of its own kind, as long as there are some.
                if len(positions) >= 8:
                    known = False
            elif used < registers:
                position, used = used, used + 1
            else:
                position, on_stack = registers + on_stack, on_stack + 1
            positions.append(position if known else None)
        return positions

    # --- types

    def _type(self, entry: Any) -> Type:
        """The type of a script for an entry of a type; Void for what a script cannot read."""
        entry = _plain(entry)
        if entry is None:
            return Void()
        known = self._types.get(entry.offset)
        if known is None:
            known = self._types[entry.offset] = self._convert(entry)
        return known

    def _convert(self, entry: Any) -> Type:
        size = _size(entry)
        if entry.tag == "DW_TAG_base_type":
            encoding = entry.attributes["DW_AT_encoding"].value
            if encoding == DW_ATE_BOOLEAN:
                return Bool()
            if encoding in DW_ATE_FLOATS or size not in (1, 2, 4, 8):
                return Void(size)
            return Int(size, encoding in DW_ATE_SIGNED)
        if entry.tag in POINTERS:
            return Pointer(self._type(_type_entry(entry)), "user")
        if entry.tag == "DW_TAG_enumeration_type":
            values = [
                (child.attributes["DW_AT_const_value"].value, _name(child))
                for child in entry.iter_children()
                if child.tag == "DW_TAG_enumerator"
            ]
            width = size if size in (1, 2, 4, 8) else 4
            return Enum(_name(entry), width, any(value < 0 for value, _ in values), tuple(values))
        if entry.tag == "DW_TAG_array_type":
            return self._array(entry)
        if entry.tag in COMPOSITES:
            origin = ("dwarf", self.path, entry.offset)
            return Struct(COMPOSITES[entry.tag], _name(entry), size, 8, origin, lambda: self._fields(entry))
        return Void()

    def _array(self, entry: Any) -> Type:
        element = _plain(_type_entry(entry))
        type_ = self._type(element)
        counts = [_count(child) for child in entry.iter_children() if child.tag == "DW_TAG_subrange_type"]
        is_text = element is not None and element.tag == "DW_TAG_base_type" and _name(element) == "char"
        if is_text and counts and counts[-1]:
            type_ = Str(counts.pop())
        for count in reversed(counts):
            type_ = Array(type_, count)
        return type_

    def _fields(self, entry: Any) -> tuple[Field, ...]:
        with _Border(self.path):
            return tuple(
                self._field(child)
                for child in entry.iter_children()
                if child.tag in ("DW_TAG_member", "DW_TAG_inheritance")
                and "DW_AT_external" not in child.attributes
            )

    def _field(self, entry: Any) -> Field:
        type_ = self._type(_type_entry(entry))
        at = _attribute(entry, "DW_AT_data_member_location")
        offset = at.value if at is not None and isinstance(at.value, int) else 0
        bits = _attribute(entry, "DW_AT_bit_size")
        if bits is None:
            return Field(_name(entry), type_, offset)
        unit = max(1, type_.size)
        start = _attribute(entry, "DW_AT_data_bit_offset")
        if start is not None:
            first = start.value
        else:
            # DWARF 3 counts from the most significant bit of the unit.
            older = _attribute(entry, "DW_AT_bit_offset")
            first = 8 * (offset + unit) - (older.value if older is not None else 0) - bits.value
        offset = first // (8 * unit) * unit
        return Field(_name(entry), type_, offset, bits.value, first - 8 * offset)

    def _spelled(self, entry: Any) -> str:
        """A type as C writes it, stars directly behind the name."""
        return _spelled(entry, 0)


class _Border:
    """Turns whatever pyelftools raises on bad data, its own errors or Python's, into FormatError."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, FormatError | OSError):
            raise FormatError(f"DWARF of {self.path}: {error or type(error).__name__}") from error


def _open(path: str) -> Any:
    """pyelftools' view of the debug information of a file, or of its separate debug file; None without."""
    import os

    from tracebee.host.debugfiles import find_debug_file
    from tracebee.host.elf import ElfFile

    found = _read(path)
    if found is not None:
        return found
    with ElfFile.open(path) as elf:
        separate = find_debug_file(elf, os.path.realpath(path))
    if separate is None:
        return None
    with separate:
        name = separate.name
    return _read(name)


def _read(path: str) -> Any:
    """The sections of debug information, copied to memory."""
    from elftools.elf.elffile import ELFFile

    with open(path, "rb") as stream:
        file = ELFFile(stream)
        return file.get_dwarf_info(follow_links=False) if file.has_dwarf_info(strict=True) else None


def _attribute(entry: Any, name: str) -> Any:
    """An attribute of an entry, or of the one that it is another appearance of."""
    for _ in range(MOST_LINKS):
        if name in entry.attributes:
            return entry.attributes[name]
        for link in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if link in entry.attributes:
                entry = entry.get_DIE_from_attribute(link)
                break
        else:
            return None
    return None


def _function_at(entry: Any, address: int, depth: int) -> Any:
    """The function that begins at an address: this entry, or one in this namespace."""
    if entry.tag == "DW_TAG_subprogram":
        start = entry.attributes.get("DW_AT_low_pc")
        return entry if start is not None and start.value == address else None
    if entry.tag == "DW_TAG_namespace" and depth < MOST_LINKS:
        for child in entry.iter_children():
            found = _function_at(child, address, depth + 1)
            if found is not None:
                return found
    return None


def _type_entry(entry: Any) -> Any:
    """The entry of an entry's type; None for void."""
    for _ in range(MOST_LINKS):
        if "DW_AT_type" in entry.attributes:
            return entry.get_DIE_from_attribute("DW_AT_type")
        for link in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if link in entry.attributes:
                entry = entry.get_DIE_from_attribute(link)
                break
        else:
            return None
    return None


def _plain(entry: Any) -> Any:
    """A type without typedefs and qualifiers."""
    for _ in range(MOST_LINKS):
        if entry is None or entry.tag not in (*SAME_TYPE, "DW_TAG_typedef"):
            return entry
        entry = _type_entry(entry)
    return None


def _name(entry: Any) -> str:
    found = entry.attributes.get("DW_AT_name")
    return "" if found is None else found.value.decode(errors="replace")


def _size(entry: Any) -> int:
    found = entry.attributes.get("DW_AT_byte_size")
    return found.value if found is not None and isinstance(found.value, int) else 0


def _count(entry: Any) -> int:
    """The number of elements that a subrange has; 0 where it is open."""
    count = entry.attributes.get("DW_AT_count")
    if count is not None:
        return count.value if isinstance(count.value, int) else 0
    last = entry.attributes.get("DW_AT_upper_bound")
    return (
        last.value + 1 if last is not None and last.form.startswith(("DW_FORM_data", "DW_FORM_udata")) else 0
    )


def _has_float(entry: Any, depth: int) -> bool:
    """Whether a type holds a floating-point number."""
    entry = _plain(entry)
    if entry is None or depth > MOST_LINKS:
        return False
    if entry.tag == "DW_TAG_base_type":
        return entry.attributes["DW_AT_encoding"].value in DW_ATE_FLOATS
    if entry.tag == "DW_TAG_array_type":
        return _has_float(_type_entry(entry), depth + 1)
    if entry.tag not in COMPOSITES:
        return False
    members = (child for child in entry.iter_children() if child.tag == "DW_TAG_member")
    return any(_has_float(_type_entry(child), depth + 1) for child in members)


def _spelled(entry: Any, depth: int) -> str:
    if entry is None or depth > MOST_LINKS:
        return "void"
    if entry.tag in POINTERS:
        return f"{_spelled(_type_entry(entry), depth + 1)}{POINTERS[entry.tag]}"
    if entry.tag in SAME_TYPE:
        word = entry.tag.removeprefix("DW_TAG_").removesuffix("_type")
        inner = _spelled(_type_entry(entry), depth + 1)
        return f"{inner} {word}" if inner.endswith("*") else f"{word} {inner}"
    if entry.tag == "DW_TAG_array_type":
        counts = [_count(child) for child in entry.iter_children() if child.tag == "DW_TAG_subrange_type"]
        return _spelled(_type_entry(entry), depth + 1) + "".join(f"[{count or ''}]" for count in counts)
    if entry.tag == "DW_TAG_enumeration_type":
        return f"enum {_name(entry)}".strip()
    if entry.tag in COMPOSITES:
        return f"{COMPOSITES[entry.tag]} {_name(entry)}".strip()
    return _name(entry) or "void"
