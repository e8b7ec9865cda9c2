"""Reads BTF on demand.

A kernel describes itself with 130,000 types, of which a script needs a dozen.  `Btf` therefore walks over
them once to note where each begins, and makes a value of one only when it is asked for.  All of BTF but its
strings consists of u32, so the type section becomes one array of words in the machine's order, whatever
order it came in, and every position below is an index into that array.

Nothing in the bytes is trusted: whatever they are, reading them gives values or one FormatError.
"""

from __future__ import annotations

import sys
from array import array
from itertools import compress
from typing import TYPE_CHECKING

from tracebee.btf.types import (
    KINDS,
    VOID,
    Array,
    Composite,
    Const,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    Enumeration,
    EnumValue,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Modifier,
    Param,
    Ptr,
    Restrict,
    Struct,
    Type,
    Typedef,
    TypeTag,
    Union,
    Unknown,
    Var,
    VarSecinfo,
    Volatile,
)
from tracebee.errors import FormatError, SyscallError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Literal

    Kinds = type[Type] | tuple[type[Type], ...]
    ByteOrder = Literal["little", "big"]

MAGIC = 0xEB9F
VERSION = 1
HEADER_SIZE = 24
"""Bytes of struct btf_header up to `str_len`; newer ones go on."""

MAX_CHAIN = 128
"""How many types may stand between a type and the one that settles its size.  The kernel allows 32."""

MAX_NESTING = 64
"""How many structures may lie within each other.  The kernel allows 32."""

MAX_NAME = 4096
"""Longest name in bytes.  The kernel allows 511; this bounds what overlapping names can blow up to."""

_TEXT = ("utf-8", "surrogateescape")

_KIND_MASK = 0x7F  # five bits were enough up to Linux 7.1
_VLEN_MASK = 0xFFFFFF  # 16 bits, likewise
_KIND_FLAG = 1 << 31

# Words that a type takes, by its kind: all of it but the elements, and each of the `vlen` elements.
_FIXED_WORDS = {1: 4, 2: 3, 3: 6, 4: 3, 5: 3, 6: 3, 7: 3, 8: 3, 9: 3, 10: 3}
_FIXED_WORDS |= {11: 3, 12: 3, 13: 3, 14: 4, 15: 3, 16: 3, 17: 4, 18: 3, 19: 3}
_ELEMENT_WORDS = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}

_REFERRING = frozenset((2, 8, 9, 10, 11, 12, 13, 14, 17, 18))
"""Kinds whose third word is the id of a type."""

_TRANSPARENT = (Modifier, Typedef, TypeTag)
_REACHING_ON = (Modifier, Typedef, TypeTag, Var, DeclTag)
_SCALAR = (Int, Enumeration, Float)
_SIZED = (Int, Composite, Enumeration, Float, Datasec)

_KIND_OF_TOP_BYTE = bytes(top & _KIND_MASK for top in range(256))


class Btf:
    """The types of one kernel, module or object file.

    Ids run from 0 (`void`) to ``len(btf) - 1``.  Split BTF, which a module has, continues the ids and the
    strings of its `base`; `first_id` is the first id of its own.
    """

    __slots__ = (
        "_alignments",
        "_cache",
        "_enumerators",
        "_kinds",
        "_layout",
        "_names",
        "_offsets",
        "_origin",
        "_pointer_size",
        "_starts",
        "_strings",
        "_strings_start",
        "_words",
        "base",
        "byteorder",
        "first_id",
    )

    def __init__(
        self,
        words: array[int],
        strings: bytes,
        byteorder: ByteOrder,
        base: Btf | None = None,
        layout: bytes = b"",
        origin: int = 0,
    ) -> None:
        """Made by `from_bytes`.

        `words` is the type section, `origin` its place in the file, for error messages; `layout` is the
        layout section.
        """
        self.base = base
        self.byteorder = byteorder
        self.first_id: int = len(base) if base is not None else 1
        self._strings_start: int = base.strings_end if base is not None else 0
        self._words = words
        self._strings = strings
        self._origin = origin
        self._layout = layout
        self._starts = self._index()
        self._cache: dict[int, Type] = {}
        self._kinds: bytes | None = None
        self._names: _NameIndex | None = None
        self._enumerators: tuple[_NameIndex, array[int], array[int]] | None = None
        self._offsets: dict[bytes, tuple[int, ...]] = {}
        self._pointer_size = 0
        self._alignments: dict[int, int] = {}

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, base: Btf | None = None) -> Btf:
        """Reads a .BTF section or a file of /sys/kernel/btf, of either byte order.

        `base` is the BTF that split BTF continues.  Raises FormatError.
        """
        view = memoryview(data).cast("B")
        if len(view) < HEADER_SIZE:
            raise FormatError(f"BTF: {len(view)} bytes are too few for a header", 0)
        byteorder: ByteOrder = "little" if view[0] == MAGIC & 0xFF else "big"
        if int.from_bytes(view[:2], byteorder) != MAGIC:
            raise FormatError(f"BTF: wrong magic number {bytes(view[:2]).hex()}", 0)
        if view[2] != VERSION:
            raise FormatError(f"BTF: unknown version {view[2]}", 2)
        if view[3]:
            raise FormatError(f"BTF: unknown flags {view[3]:#x}", 3)
        header_size = int.from_bytes(view[4:8], byteorder)
        if not HEADER_SIZE <= header_size <= len(view):
            raise FormatError(f"BTF: impossible header size {header_size}", 4)
        header = words_of(view[8 : header_size & ~3], byteorder)

        def section(field: int, what: str) -> memoryview:
            start, size = header_size + header[field], header[field + 1]
            if start + size > len(view):
                raise FormatError(f"BTF: the {what} section reaches beyond the end", 8 + 4 * field)
            return view[start : start + size]

        types, strings = section(0, "type"), section(2, "string")
        if header[0] % 4 or header[1] % 4:
            raise FormatError("BTF: the type section is not made of whole words", 8)
        if (strings and strings[-1]) or (base is None and (not strings or strings[0])):
            raise FormatError(
                "BTF: the string section does not begin and end with a NUL", header_size + header[2]
            )
        layout = bytes(section(4, "layout")) if len(header) >= 6 else b""
        words = words_of(types, byteorder)
        return cls(words, bytes(strings), byteorder, base, layout, header_size + header[0])

    @classmethod
    def from_file(cls, path: str, base: Btf | None = None) -> Btf:
        """Reads a file that holds nothing but BTF.  Raises FormatError and SyscallError."""
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise SyscallError("open", error.errno or 0, path) from error
        return cls.from_bytes(data, base)

    def __len__(self) -> int:
        return self.first_id + len(self._starts)

    def __repr__(self) -> str:
        return f"<Btf of {len(self)} types>"

    # --- types ---

    def type(self, type_id: int) -> Type:
        """The type with this id.  Raises FormatError if there is none or its bytes make no sense."""
        found = self._cache.get(type_id)
        if found is None:
            if type_id == 0:
                return VOID
            owner, start = self._locate(type_id)
            found = owner._inflate(start) if owner is self else owner.type(type_id)
            self._cache[type_id] = found
        return found

    def kind_of(self, type_id: int) -> int:
        """The BTF_KIND_* number of a type, without making a value of it."""
        if type_id == 0:
            return 0
        owner, start = self._locate(type_id)
        return owner._words[start + 1] >> 24 & _KIND_MASK

    def name_of(self, type_id: int) -> str:
        """The name of a type, empty if it has none, without making a value of it."""
        if type_id == 0:
            return ""
        owner, start = self._locate(type_id)
        return owner._name(owner._words[start], start)

    def byte_of(self, type_id: int) -> int:
        """Where a type begins in the bytes that the BTF it belongs to was read from."""
        owner, start = self._locate(type_id)
        return owner._byte(start)

    def resolve(self, type_id: int) -> int:
        """The id behind all typedefs, qualifiers and type tags."""
        at = type_id
        for _ in range(MAX_CHAIN):
            found = self.type(at)
            if not isinstance(found, _TRANSPARENT):
                return at
            at = found.type_id
        raise self._too_deep(type_id)

    def size_of(self, type_id: int) -> int:
        """Bytes that a value takes; 0 for what has no size: void, functions, forward declarations."""
        at, count = type_id, 1
        for _ in range(MAX_CHAIN):
            found = self.type(at)
            if isinstance(found, _SIZED):
                return count * found.size
            if isinstance(found, Ptr):
                return count * self.pointer_size
            if isinstance(found, Array):
                count *= found.count
            elif not isinstance(found, _REACHING_ON):
                return 0
            at = found.type_id
        raise self._too_deep(type_id)

    def align_of(self, type_id: int) -> int:
        """Alignment in bytes; 1 for what has no size.

        BTF does not record it.  A scalar is taken to be aligned to its size, at most that of a pointer, and a
        structure to be packed (1) if its size or a member's offset contradicts its members' alignment.
        """
        return self._align_of(type_id, MAX_NESTING)

    def is_packed(self, type_id: int) -> bool:
        """Whether the members of a structure lie closer together than their alignment allows."""
        found = self.type(type_id)
        return isinstance(found, Struct) and self._strictest(found, MAX_NESTING) == 0

    @property
    def pointer_size(self) -> int:
        """Bytes of a pointer: the size of C's `long` if there is one, else 8."""
        if self.base is not None:
            return self.base.pointer_size
        if not self._pointer_size:
            for name in ("long unsigned int", "unsigned long", "long int", "long"):
                found = self.find(name, Int)
                if found is not None and self.size_of(found) in (4, 8):
                    self._pointer_size = self.size_of(found)
                    break
            else:
                self._pointer_size = 8
        return self._pointer_size

    # --- names ---

    def string(self, offset: int) -> str:
        """The string at an offset of the string section.  Raises FormatError beyond its end."""
        strings, at = self._locate_string(offset)
        if 0 <= at < len(strings):
            return strings[at : strings.index(0, at)].decode(*_TEXT)
        if offset == 0:  # the empty string is there even where there are no strings
            return ""
        raise FormatError(f"BTF: there is no string at offset {offset}")

    @property
    def strings_end(self) -> int:
        """The offset behind the last string, where the strings of split BTF begin."""
        return self._strings_start + len(self._strings)

    def find(self, name: str, kinds: Kinds | None = None) -> int | None:
        """The lowest id of a type with this name, of the given class or classes, or None."""
        wanted = None if kinds is None else _numbers_of(kinds)
        for type_id in self._named(name):
            if wanted is None or self.kind_of(type_id) in wanted:
                return type_id
        return None

    def expect(self, names: Collection[str]) -> None:
        """Prepare for looking for many names, which is faster together: all in one pass over the strings."""
        import re

        if self.base is not None:
            self.base.expect(names)
            return
        wanted = {name.encode(*_TEXT) for name in names} - {b""}
        wanted = {name for name in wanted if 0 not in name and name + b"\0" not in self._offsets}
        if not wanted:
            return
        found: dict[bytes, list[int]] = {name: [] for name in wanted}
        pattern = b"\0(" + b"|".join(map(re.escape, sorted(wanted))) + b")(?=\0)"
        for match in re.finditer(pattern, self._strings):
            found[match[1]].append(match.start(1))
        self._offsets |= {name + b"\0": tuple(offsets) for name, offsets in found.items()}

    def find_all(self, name: str, kinds: Kinds | None = None) -> list[int]:
        """All ids with this name, ascending."""
        wanted = None if kinds is None else _numbers_of(kinds)
        return [type_id for type_id in self._named(name) if wanted is None or self.kind_of(type_id) in wanted]

    def names_beginning(self, start: str) -> list[str]:
        """The strings that begin so; not all of them need to be names of types."""
        encoded = b"\0" + start.encode(*_TEXT)
        found: dict[str, None] = {}
        for owner in self._chain():
            strings = owner._strings
            at = strings.find(encoded)
            while at >= 0:
                end = strings.index(0, at + 1)
                if end - at <= MAX_NAME:
                    found[strings[at + 1 : end].decode(*_TEXT)] = None
                at = strings.find(encoded, end)
        return list(found)

    def find_enumerator(self, name: str) -> tuple[int, int] | None:
        """The enumeration and the value of the constant `name`, wherever it is defined first, or None."""
        for owner in self._chain():
            found = owner._find_enumerator(name)
            if found is not None:
                type_id, position = found
                enum = owner.type(type_id)
                assert isinstance(enum, Enumeration)
                return type_id, enum.values[position].value
        return None

    def ids_of_kind(self, kinds: Kinds, *, own: bool = False) -> Iterator[int]:
        """The ids of all types of a class or of classes, ascending; `own` leaves out those of the base."""
        for owner in (self,) if own else self._chain():
            yield from compress(range(owner.first_id, len(owner)), owner._mask(kinds))

    def names_of_kind(self, kinds: Kinds, *, own: bool = False) -> Iterator[tuple[int, str]]:
        """(id, name) of all named types of a class or of classes; ids and `own` as in `ids_of_kind`."""
        for owner in (self,) if own else self._chain():
            mask = owner._mask(kinds)
            words, strings, shift = owner._words, owner._strings, owner._strings_start
            end_of, size = strings.index, len(strings)
            ids = compress(range(owner.first_id, len(owner)), mask)
            for type_id, start in zip(ids, compress(owner._starts, mask), strict=True):
                offset = words[start]
                if offset:
                    at = offset - shift
                    if 0 <= at < size and (end := end_of(b"\0", at)) - at <= MAX_NAME:
                        try:
                            yield type_id, strings[at:end].decode()
                            continue
                        except UnicodeDecodeError:
                            pass
                    yield type_id, owner._name(offset, start)

    # --- the index ---

    def _index(self) -> array[int]:
        """Where each type starts, as indexes into the words."""
        words = self._words
        starts = array("I")
        add = starts.append
        # Types of one kind and element count take the same space, and there are few such pairs: the work of
        # a turn is a lookup.  What is missing, and the end, are exceptions so that they cost a turn nothing.
        sizes: dict[int, int] = {}
        at = 0
        while True:
            try:
                while True:
                    size = sizes[words[at + 1]]
                    add(at)
                    at += size
            except KeyError:
                if len(sizes) > 65536:  # only made-up BTF is so varied
                    sizes.clear()
                sizes[words[at + 1]] = self._size_in_words(words[at + 1], at)
            except IndexError:
                break
        if at != len(words):
            raise FormatError("BTF: the last type is cut short", self._byte(starts[-1] if starts else 0))
        return starts

    def _size_in_words(self, info: int, at: int) -> int:
        kind, count = info >> 24 & _KIND_MASK, info & _VLEN_MASK
        fixed = _FIXED_WORDS.get(kind)
        if fixed is not None:
            return fixed + _ELEMENT_WORDS.get(kind, 0) * count
        if kind and 4 * kind + 4 <= len(self._layout):
            extra, element = self._layout[4 * kind], self._layout[4 * kind + 1]
            if extra % 4 == 0 and element % 4 == 0:
                return 3 + extra // 4 + element // 4 * count
        raise FormatError(f"BTF: unknown kind {kind}", self._byte(at + 1))

    def _mask(self, kinds: Kinds) -> bytes:
        """For each of the own types 1 if it is of a class or of classes, else 0."""
        if self._kinds is None:
            words = self._words
            info = array("I", [words[start + 1] for start in self._starts])
            self._kinds = _big_endian(info)[::4].translate(_KIND_OF_TOP_BYTE)
        wanted = _numbers_of(kinds)
        return self._kinds.translate(bytes(kind in wanted for kind in range(256)))

    def _chain(self) -> tuple[Btf, ...]:
        """The base's base first, this one last."""
        return (*self.base._chain(), self) if self.base is not None else (self,)

    def _named(self, name: str) -> Iterator[int]:
        """The ids of the types called `name`, ascending."""
        for owner in self._chain():
            if owner._names is None:
                words = owner._words
                owner._names = owner._index_names(array("I", [words[start] for start in owner._starts]))
            for position in owner._positions(owner._names, name):
                yield owner.first_id + position

    def _find_enumerator(self, name: str) -> tuple[int, int] | None:
        """The first own enumeration with a constant called `name`, and the constant's position in it."""
        if self._enumerators is None:
            names, ids, ends = array("I"), array("I"), array("I")
            words = self._words
            for type_id in self.ids_of_kind(Enumeration, own=True):
                start = self._starts[type_id - self.first_id]
                info = words[start + 1]
                step = _ELEMENT_WORDS[info >> 24 & _KIND_MASK]
                names += words[start + 3 : start + 3 + step * (info & _VLEN_MASK) : step]
                ids.append(type_id)
                ends.append(len(names))
            self._enumerators = self._index_names(names), ids, ends
        index, ids, ends = self._enumerators
        position = next(self._positions(index, name), None)
        if position is None:
            return None
        from bisect import bisect_right

        which = bisect_right(ends, position)
        return ids[which], position - (ends[which - 1] if which else 0)

    def _index_names(self, offsets: array[int]) -> _NameIndex:
        # Almost always no name is the tail of another; the quick way to see that works for most BTF.
        before = b"\0" + self._strings
        try:
            inside = {offset for offset in offsets if before[offset]} if self.base is None else None
        except IndexError:
            inside = None
        if inside is None:
            inside = {offset for offset in offsets if self._is_inside(offset)}
        return _NameIndex(_big_endian(offsets), inside)

    def _is_inside(self, offset: int) -> bool:
        """Whether a string offset does not follow a NUL."""
        strings, at = self._locate_string(offset)
        return 0 < at < len(strings) and strings[at - 1] != 0

    def _reads(self, offset: int, encoded: bytes) -> bool:
        """Whether the string at `offset` is `encoded`, which ends with a NUL."""
        strings, at = self._locate_string(offset)
        return strings.startswith(encoded, at)

    def _locate_string(self, offset: int) -> tuple[bytes, int]:
        """The string section that `offset` belongs to, and the index into it."""
        owner = self
        while owner.base is not None and offset < owner._strings_start:
            owner = owner.base
        return owner._strings, offset - owner._strings_start

    def _positions(self, index: _NameIndex, name: str) -> Iterator[int]:
        """Where in `index` there is `name`, ascending."""
        encoded = name.encode(*_TEXT) + b"\0"
        if encoded.find(0) < len(encoded) - 1 or len(encoded) == 1:
            return
        offsets = {offset for offset in index.inside if self._reads(offset, encoded)}
        for owner in self._chain():
            if encoded in owner._offsets:
                offsets.update(owner._offsets[encoded])
                continue
            strings = owner._strings
            if strings.startswith(encoded):
                offsets.add(owner._strings_start)
            at = strings.find(b"\0" + encoded)
            while at >= 0:
                offsets.add(owner._strings_start + at + 1)
                at = strings.find(b"\0" + encoded, at + 1)
        packed = index.packed
        if len(offsets) > 1:
            values = array("I", packed)
            if sys.byteorder == "little":
                values.byteswap()
            for position, value in enumerate(values):
                if value in offsets:
                    yield position
            return
        for offset in offsets:
            needle = offset.to_bytes(4, "big")
            at = packed.find(needle)
            while at >= 0:
                if at % 4 == 0:
                    yield at // 4
                at = packed.find(needle, at + 1)

    # --- decoding ---

    def _locate(self, type_id: int) -> tuple[Btf, int]:
        """The Btf that a type other than 0 belongs to, and the index into its words."""
        owner = self
        while owner.base is not None and type_id < owner.first_id:
            owner = owner.base
        index = type_id - owner.first_id
        if not 0 <= index < len(owner._starts):
            raise FormatError(f"BTF: there is no type {type_id}, the last is {len(self) - 1}")
        return owner, owner._starts[index]

    def _byte(self, position: int) -> int:
        """Where a word is in the file."""
        return self._origin + 4 * position

    def _too_deep(self, type_id: int) -> FormatError:
        owner, start = self._locate(type_id)
        return FormatError(f"BTF: type {type_id} contains itself or is nested too deeply", owner._byte(start))

    def _name(self, offset: int, position: int) -> str:
        """The name at `offset`, to which the type at the word `position` refers."""
        if not offset:
            return ""
        strings, at = self._locate_string(offset)
        if at >= len(strings):
            raise FormatError(f"BTF: a name is at {offset}, behind all strings", self._byte(position))
        end = strings.index(0, at)
        if end - at > MAX_NAME:
            raise FormatError(f"BTF: a name has {end - at} bytes", self._byte(position))
        return strings[at:end].decode(*_TEXT)

    def _reference(self, type_id: int, position: int) -> int:
        if type_id >= len(self):
            raise FormatError(f"BTF: reference to type {type_id}, which is not there", self._byte(position))
        return type_id

    def _inflate(self, start: int) -> Type:
        words = self._words
        name_offset, info, last = words[start], words[start + 1], words[start + 2]
        kind, count, flag = info >> 24 & _KIND_MASK, info & _VLEN_MASK, info >= _KIND_FLAG
        name = self._name(name_offset, start)
        if kind in _REFERRING:
            self._reference(last, start + 2)
        match kind:
            case 1:
                data = words[start + 3]
                return Int(name, last, data >> 24 & 0xF, data & 0xFF, data >> 16 & 0xFF)
            case 2:
                return Ptr(last)
            case 3:
                element = self._reference(words[start + 3], start + 3)
                return Array(element, self._reference(words[start + 4], start + 4), words[start + 5])
            case 4 | 5:
                members = self._members(start + 3, count, flag)
                return Struct(name, last, members) if kind == 4 else Union(name, last, members)
            case 6:
                return Enum(name, last, flag, self._enum_values(start + 3, count, flag))
            case 7:
                return Fwd(name, flag)
            case 8:
                return Typedef(name, last)
            case 9:
                return Volatile(last)
            case 10:
                return Const(last)
            case 11:
                return Restrict(last)
            case 12:
                return Func(name, last, count)
            case 13:
                pairs = words[start + 3 : start + 3 + 2 * count]
                self._check_references(pairs[1::2], start + 4, 2)
                names = [self._name(offset, start) for offset in pairs[::2]]
                return FuncProto(last, tuple(map(Param, names, pairs[1::2])))
            case 14:
                return Var(name, last, words[start + 3])
            case 15:
                triples = words[start + 3 : start + 3 + 3 * count]
                self._check_references(triples[::3], start + 3, 3)
                return Datasec(name, last, tuple(map(VarSecinfo, triples[::3], triples[1::3], triples[2::3])))
            case 16:
                return Float(name, last)
            case 17:
                return DeclTag(name, last, _signed(words[start + 3], 32), flag)
            case 18:
                return TypeTag(name, last, flag)
            case 19:
                return Enum64(name, last, flag, self._enum64_values(start + 3, count, flag))
        return Unknown(kind, name)

    def _members(self, start: int, count: int, flag: bool) -> tuple[Member, ...]:
        words = self._words[start : start + 3 * count]
        self._check_references(words[1::3], start + 1, 3)
        names = [self._name(offset, start) for offset in words[::3]]
        if not flag:
            return tuple(map(Member, names, words[1::3], words[2::3]))
        places = words[2::3]
        return tuple(
            map(
                Member,
                names,
                words[1::3],
                [place & 0xFFFFFF for place in places],
                [place >> 24 for place in places],
            )
        )

    def _enum_values(self, start: int, count: int, signed: bool) -> tuple[EnumValue, ...]:
        words = self._words[start : start + 2 * count]
        names = [self._name(offset, start) for offset in words[::2]]
        if signed:
            return tuple(map(EnumValue, names, [_signed(value, 32) for value in words[1::2]]))
        return tuple(map(EnumValue, names, words[1::2]))

    def _enum64_values(self, start: int, count: int, signed: bool) -> tuple[EnumValue, ...]:
        words = self._words[start : start + 3 * count]
        names = [self._name(offset, start) for offset in words[::3]]
        values = [low | high << 32 for low, high in zip(words[1::3], words[2::3], strict=True)]
        return tuple(map(EnumValue, names, [_signed(v, 64) for v in values] if signed else values))

    def _check_references(self, ids: array[int], position: int, step: int) -> None:
        """Raises FormatError if one of `ids`, which lie `step` words apart from `position` on, is too big."""
        if max(ids, default=0) >= len(self):
            for index, type_id in enumerate(ids):
                self._reference(type_id, position + step * index)

    def _align_of(self, type_id: int, depth: int) -> int:
        at = type_id
        for _ in range(MAX_CHAIN):
            found = self.type(at)
            if isinstance(found, _SCALAR):
                # The power of two in it: i386 aligns its long double of 12 bytes to 4.
                return max(1, min(found.size & -found.size, self.pointer_size))
            if isinstance(found, Ptr):
                return self.pointer_size
            if isinstance(found, Composite):
                alignment = self._alignments.get(at)
                if alignment is None:
                    alignment = self._strictest(found, depth) or 1
                    self._alignments[at] = alignment
                return alignment
            if not isinstance(found, Array) and not isinstance(found, _REACHING_ON):
                return 1
            at = found.type_id
        raise self._too_deep(type_id)

    def _strictest(self, composite: Composite, depth: int) -> int:
        """The largest alignment among the members, or 0 if size or offsets do not follow from it."""
        if not depth:
            raise FormatError(f"BTF: structures are nested deeper than {MAX_NESTING}")
        strictest = 1
        packed = False
        for member in composite.members:
            alignment = self._align_of(member.type_id, depth - 1)
            packed |= not member.bitfield_size and member.bit_offset % (8 * alignment) != 0
            strictest = max(strictest, alignment)
        return 0 if packed or composite.size % strictest else strictest


class _NameIndex:
    """Name offsets made for searching.

    `packed` has them big-endian, which puts the bytes that differ most last, where `bytes.find` looks first.
    `inside` are those that begin inside another string.
    """

    __slots__ = ("inside", "packed")

    def __init__(self, packed: bytes, inside: set[int]) -> None:
        self.packed = packed
        self.inside = inside


def words_of(view: memoryview, byteorder: ByteOrder) -> array[int]:
    """u32 values, in the machine's order."""
    words = array("I")
    words.frombytes(view)
    if byteorder != sys.byteorder:
        words.byteswap()
    return words


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _numbers_of(kinds: Kinds) -> set[int]:
    """The BTF_KIND_* numbers of a class or classes."""
    return {number for number, kind in enumerate(KINDS) if issubclass(kind, kinds)}
