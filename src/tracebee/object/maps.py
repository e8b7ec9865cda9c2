"""The maps that an object defines: by types in .maps, by structures in old "maps" sections, and as variables.

A map in .maps is a variable that is never filled: what it is like is in its type.  ``__uint(max_entries, 10)`` is
a member ``int (*max_entries)[10]``, ``__type(key, int)`` a member ``int *key``.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.btf.types import VAR_GLOBAL_EXTERN, Array, Composite, Datasec, Enumeration, FuncProto, Ptr, Var
from tracebee.errors import FormatError
from tracebee.object.elf import SHF_ALLOC, SHN_UNDEF, SHT_NOBITS, SHT_PROGBITS, STT_FUNC, STT_SECTION, shown
from tracebee.spec.objects import MapSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.btf.reader import Btf
    from tracebee.object.elf import Elf, Section, Symbol
    from tracebee.object.problems import Problems

_TYPES = """
UNSPEC HASH ARRAY PROG_ARRAY PERF_EVENT_ARRAY PERCPU_HASH PERCPU_ARRAY STACK_TRACE CGROUP_ARRAY LRU_HASH
LRU_PERCPU_HASH LPM_TRIE ARRAY_OF_MAPS HASH_OF_MAPS DEVMAP SOCKMAP CPUMAP XSKMAP SOCKHASH CGROUP_STORAGE
REUSEPORT_SOCKARRAY PERCPU_CGROUP_STORAGE QUEUE STACK SK_STORAGE DEVMAP_HASH STRUCT_OPS RINGBUF INODE_STORAGE
TASK_STORAGE BLOOM_FILTER USER_RINGBUF CGRP_STORAGE ARENA INSN_ARRAY
"""

TYPES = tuple(_TYPES.split())
"""enum bpf_map_type of linux/bpf.h."""

FLAGS = (
    *("NO_PREALLOC", "NO_COMMON_LRU", "NUMA_NODE", "RDONLY", "WRONLY", "STACK_BUILD_ID", "ZERO_SEED"),
    *("RDONLY_PROG", "WRONLY_PROG", "CLONE", "MMAPABLE", "PRESERVE_ELEMS", "INNER_MAP", "LINK", "PATH_FD"),
    *("VTYPE_BTF_OBJ_FD", "TOKEN_FD", "SEGV_ON_FAULT", "NO_USER_CONV", "RB_OVERWRITE"),
)
"""BPF_F_* of BPF_MAP_CREATE in linux/bpf.h, from bit 0 on."""

OUTER = ("ARRAY_OF_MAPS", "HASH_OF_MAPS")

BPF_F_RDONLY_PROG = 1 << 7
LARGEST_DATA = 1 << 26
"""Bytes of variables in a section: an uninitialised one can claim any size, and takes nothing of the file."""

PIN_BY_NAME = 1
RING_PAGE = 4096


def flag_names(flags: int) -> list[str]:
    """The flags of a map by name, what has none as a number."""
    names = [f"BPF_F_{name}" for bit, name in enumerate(FLAGS) if flags >> bit & 1]
    rest = flags >> len(FLAGS) << len(FLAGS)
    return [*names, f"{rest:#x}"] if rest else names


class Defined(NamedTuple):
    """A map and where the object has it: `size` bytes at `offset` of a section; programs refer to that.

    `values` is where, in those bytes, the initial entries of a map of maps or programs are, or -1.
    """

    spec: MapSpec
    section: int
    offset: int
    size: int
    values: int = -1


def read_maps(elf: Elf, btf: Btf | None, problems: Problems) -> list[Defined]:
    """All maps, in the order of the file.  A map that makes no sense goes to `problems`, as a FormatError."""
    found: list[Defined] = []
    for section in elf.sections:
        try:
            if section.name == ".maps" and section.type == SHT_PROGBITS:
                found += _by_types(elf, btf, section, problems)
            elif section.name == "maps" or section.name.startswith("maps/"):
                found += _legacy(elf, section)
        except FormatError as error:
            problems.take(error)
    seen: set[str] = set()
    for one in found:
        if one.spec.name in seen:
            problems.take(FormatError(f"map {shown(one.spec.name)} is defined twice"))
        seen.add(one.spec.name)
    return [_with_entries(elf, one, problems) for one in found]


# --- .maps


def _by_types(elf: Elf, btf: Btf | None, section: Section, problems: Problems) -> list[Defined]:
    type_id = btf.find(".maps", Datasec) if btf is not None else None
    if btf is None or type_id is None:
        error = FormatError("the section .maps has no types")
        error.hint = "compile with -g"
        raise error
    places = {symbol.name: symbol for symbol in elf.symbols_in(section.number)}
    datasec = btf.type(type_id)
    assert isinstance(datasec, Datasec)
    made = []
    for variable in datasec.variables:
        try:
            var = btf.type(variable.type_id)
            if isinstance(var, Var) and var.linkage == VAR_GLOBAL_EXTERN:
                continue  # in another file
            symbol = places.get(var.name) if isinstance(var, Var) else None
            if symbol is None or not isinstance(var, Var):
                raise FormatError(f"map {shown(var.name)} has no symbol in .maps")
            spec, values = _Definition(btf, var.name).read(var.type_id)
            made.append(Defined(spec, section.number, symbol.value, symbol.size, values))
        except FormatError as error:
            problems.take(error)
    return sorted(made, key=lambda one: one.offset)


class _Definition:
    """Reads the structure that says what a map is like."""

    def __init__(self, btf: Btf, name: str, inner: bool = False) -> None:
        self.btf = btf
        self.name = name
        self.is_inner = inner

    def read(self, type_id: int) -> tuple[MapSpec, int]:
        """The map, and the byte offset of its `values` or -1."""
        composite = self.btf.type(self.btf.resolve(type_id))
        if not isinstance(composite, Composite):
            raise self.wrong("its type is no structure")
        numbers: dict[str, int] = {}
        types: dict[str, int] = {}
        inner: MapSpec | None = None
        values = -1
        for member in composite.members:
            name = member.name
            if name in (
                "type",
                "max_entries",
                "map_flags",
                "numa_node",
                "key_size",
                "value_size",
                "pinning",
                "map_extra",
            ):
                numbers[name] = self._number(name, member.type_id)
            elif name in ("key", "value"):
                types[name] = self._pointed(name, member.type_id)
            elif name == "values":
                if self.is_inner:
                    raise self.wrong("maps of maps of maps do not exist")
                inner, values = self._values(member.type_id), member.bit_offset // 8
            else:
                raise self.wrong(f"it has a member {shown(name)}, which says nothing about a map")
        return self._spec(numbers, types, inner), values

    def _spec(self, numbers: dict[str, int], types: dict[str, int], inner: MapSpec | None) -> MapSpec:
        number = numbers.get("type", 0)
        if not 0 < number < len(TYPES):
            raise self.wrong(f"there is no type {number} of map" if number else "it has no type")
        kind = TYPES[number]
        if numbers.get("pinning", 0) not in (0, PIN_BY_NAME):
            raise self.wrong(f"unknown pinning {numbers['pinning']}")
        sizes = {name: self._size(name, numbers, types) for name in ("key", "value")}
        if kind in (*OUTER, "PROG_ARRAY") and not sizes["value"]:
            sizes["value"] = 4  # a descriptor
        entries = numbers.get("max_entries", 0)
        if kind == "RINGBUF" and entries:
            entries = _ring_bytes(entries)
        return MapSpec(
            self.name,
            kind,
            sizes["key"],
            sizes["value"],
            entries,
            numbers.get("map_flags", 0),
            key_type=types.get("key", 0),
            value_type=types.get("value", 0),
            inner=inner,
            extra=numbers.get("map_extra", 0),
            pinned=numbers.get("pinning", 0) == PIN_BY_NAME,
        )

    def _size(self, name: str, numbers: dict[str, int], types: dict[str, int]) -> int:
        given = numbers.get(f"{name}_size")
        if name not in types:
            return given or 0
        size = self.btf.size_of(types[name])
        if size <= 0 or size > 0x7FFF_FFFF:
            raise self.wrong(f"its {name} has no size")
        if given is not None and given != size:
            raise self.wrong(f"its {name} has a type of {size} bytes and a size of {given}")
        return size

    def _pointed(self, name: str, type_id: int) -> int:
        pointer = self.btf.type(self.btf.resolve(type_id))
        if not isinstance(pointer, Ptr):
            raise self.wrong(f"its member {shown(name)} is no pointer")
        return pointer.type_id

    def _number(self, name: str, type_id: int) -> int:
        """What ``int (*name)[number]`` says, or the only constant of ``enum { … } *name``."""
        found = self.btf.type(self.btf.resolve(self._pointed(name, type_id)))
        if isinstance(found, Array):
            return found.count
        if isinstance(found, Enumeration) and len(found.values) == 1:
            return found.values[0].value & 0xFFFF_FFFF_FFFF_FFFF
        raise self.wrong(f"its member {shown(name)} is no number")

    def _values(self, type_id: int) -> MapSpec | None:
        """The inner map of ``struct … *values[]``; None where the array is one of functions."""
        array = self.btf.type(self.btf.resolve(type_id))
        pointed = self._pointed("values", array.type_id) if isinstance(array, Array) else 0
        found = self.btf.type(self.btf.resolve(pointed))
        if isinstance(found, Composite):
            return _Definition(self.btf, f"{self.name}.inner", True).read(pointed)[0]
        if isinstance(found, FuncProto):
            return None
        raise self.wrong("its values are neither maps nor functions")

    def wrong(self, reason: str) -> FormatError:
        return FormatError(f"map {shown(self.name)}: {reason}")


def _ring_bytes(wanted: int) -> int:
    """The next size that a ring buffer can have: a power of two of pages."""
    size = RING_PAGE
    while size < wanted:
        size *= 2
    return size


# --- maps


def _legacy(elf: Elf, section: Section) -> Iterator[Defined]:
    """An array of struct bpf_map_def.

    Each is five u32, type, sizes of key and value, entries and flags.  What some loaders have behind them is
    read where its length tells whose it is: 7 words are of the kernel's samples (index of the inner map, NUMA
    node), 9 are of iproute2 (id, pinning, id and index of the inner map).
    """
    symbols = [
        symbol
        for symbol in elf.symbols_in(section.number)
        if symbol.type not in (STT_SECTION, STT_FUNC) and symbol.name
    ]
    symbols.sort(key=lambda symbol: symbol.value)
    if not symbols:
        return iter(())
    stride, left = divmod(section.size, len(symbols))
    mark = "<" if elf.byteorder == "little" else ">"
    rows: list[tuple[Symbol, list[int]]] = []
    for index, symbol in enumerate(symbols):
        if left or stride < 20 or stride > 256 or stride % 4 or symbol.value != index * stride:
            raise FormatError(f"section {shown(section.name)} is no array of map definitions")
        data = section.data[symbol.value : symbol.value + stride]
        rows.append((symbol, list(struct.unpack(f"{mark}{stride // 4}I", data))))
    made = [_legacy_spec(symbol.name, words) for symbol, words in rows]
    by_id: dict[int, MapSpec] = {}
    for spec, (_, words) in zip(made, rows, strict=True):
        if stride == 36 and spec.type not in OUTER:
            by_id.setdefault(words[5], spec)
    for index, (_, words) in enumerate(rows):
        inner = _legacy_inner(made, by_id, words) if made[index].type in OUTER else None
        if inner is not None:
            made[index] = _changed(made[index], inner=_changed(inner, name=f"{made[index].name}.inner"))
    return iter(
        [
            Defined(spec, section.number, symbol.value, stride)
            for spec, (symbol, _) in zip(made, rows, strict=True)
        ]
    )


def _legacy_spec(name: str, words: list[int]) -> MapSpec:
    kind, key_size, value_size, entries, flags = words[:5]
    if not 0 < kind < len(TYPES):
        raise FormatError(f"map {shown(name)}: there is no type {kind} of map")
    pinned = len(words) == 9 and words[6] != 0
    return MapSpec(name, TYPES[kind], key_size, value_size, entries, flags, pinned=pinned)


def _legacy_inner(made: list[MapSpec], by_id: dict[int, MapSpec], words: list[int]) -> MapSpec | None:
    if len(words) == 7:
        return made[words[5]] if words[5] < len(made) and made[words[5]].type not in OUTER else None
    return by_id.get(words[7]) if len(words) == 9 and words[7] else None


def _changed(spec: MapSpec, **changes: Any) -> MapSpec:
    fields: dict[str, Any] = {name: getattr(spec, name) for name in MapSpec.__match_args__}
    return MapSpec(**{**fields, **changes})


# --- entries from the start


def _with_entries(elf: Elf, one: Defined, problems: Problems) -> Defined:
    """A map with what the object puts into it; that is told by relocations of its `values`."""
    if one.values < 0:
        return one
    entries = []
    name = shown(one.spec.name)
    rows = elf.relocations.get(one.section, [])
    first = bisect_left(rows, one.offset, key=lambda row: row.offset)
    for row in rows[first : bisect_left(rows, one.offset + one.size, key=lambda row: row.offset)]:
        index, rest = divmod(row.offset - one.offset - one.values, 8)
        if index < 0 or rest:
            problems.take(FormatError(f"map {name}: an entry is at an impossible place"))
        elif row.symbol.section == SHN_UNDEF or not row.symbol.name:
            problems.take(FormatError(f"map {name}: entry {index} is not in this object"))
        else:
            entries.append((index, row.symbol.name))
    if not entries:
        return one
    if one.spec.max_entries <= entries[-1][0]:
        problems.take(FormatError(f"map {name} has no room for its entry {entries[-1][0]}"))
    return one._replace(spec=_changed(one.spec, entries=tuple(entries)))


# --- variables


def data_maps(elf: Elf, btf: Btf | None, problems: Problems) -> list[Defined]:
    """A map for each section of variables: .rodata, .data and .bss, and those that begin so and a dot."""
    types = {} if btf is None else {name: type_id for type_id, name in btf.names_of_kind(Datasec)}
    found = []
    for section in elf.sections:
        if is_data(section) and section.size:
            try:
                spec = _data_spec(section, types.get(section.name, 0))
            except FormatError as error:
                problems.take(error)
            else:
                found.append(Defined(spec, section.number, 0, section.size))
    return found


def is_data(section: Section) -> bool:
    if not section.flags & SHF_ALLOC:
        return False
    if section.type == SHT_NOBITS:
        return _is_called(section, ".bss")
    return section.type == SHT_PROGBITS and (_is_called(section, ".rodata") or _is_called(section, ".data"))


def _is_called(section: Section, name: str) -> bool:
    return section.name == name or section.name.startswith(name + ".")


def _data_spec(section: Section, value_type: int) -> MapSpec:
    if section.size > LARGEST_DATA:
        raise FormatError(f"section {shown(section.name)} has {section.size} bytes, more than {LARGEST_DATA}")
    constant = _is_called(section, ".rodata")
    return MapSpec(
        section.name,
        "ARRAY",
        4,
        section.size,
        1,
        BPF_F_RDONLY_PROG if constant else 0,
        contents=bytes(section.data),
        frozen=constant,
        value_type=value_type,
    )


def finder(maps: list[Defined]) -> Callable[[int, int], Defined | None]:
    """Which map begins at a byte of a section."""
    by_place = {(one.section, one.offset): one for one in maps}
    return lambda section, offset: by_place.get((section, offset))
