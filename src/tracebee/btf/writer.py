"""Makes BTF.

`BtfBuilder` collects types and strings and lays them out as BPF_BTF_LOAD and ELF's .BTF want them.  Types
that are nothing but their parts (integers, pointers, arrays, qualifiers, prototypes, ...) are kept once,
however often they are added; a named definition is kept as often as it is added.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from tracebee.btf.reader import HEADER_SIZE, MAGIC, VERSION
from tracebee.btf.types import (
    FUNC_GLOBAL,
    VAR_GLOBAL_ALLOCATED,
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
    Var,
    VarSecinfo,
    Void,
    Volatile,
)
from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.btf.reader import Btf, ByteOrder

MAX_ELEMENTS = 0xFFFF
"""Members, parameters, ... of a type: BTF_MAX_VLEN up to Linux 7.1."""

_SHARED = (Int, Ptr, Array, Modifier, FuncProto, Float, TypeTag, Fwd)


class BtfBuilder:
    """BTF in the making.  With a `base`, it is split BTF that continues the base's ids and strings.

    A type may refer to any id, also to one that is yet to come: `to_bytes` checks that all are there.  For a
    type that has to know its own id, `reserve` gives the id and `define` the type.
    """

    def __init__(self, base: Btf | None = None) -> None:
        self._first_id = len(base) if base is not None else 1
        self._types: list[Type] = []
        self._ids: dict[Type, int] = {}
        self._base = base
        self._strings_start = base.strings_end if base is not None else 0
        self._strings = bytearray(b"" if base is not None else b"\0")
        self._offsets: dict[str, int] = {"": 0}

    @property
    def next_id(self) -> int:
        """The id that the next new type gets."""
        return self._first_id + len(self._types)

    def add(self, new: Type) -> int:
        """Adds a type and returns its id, or that of an equal type if its kind is shared."""
        if isinstance(new, Void):
            return 0
        if isinstance(new, _SHARED):
            known = self._ids.setdefault(new, self.next_id)
            if known != self.next_id:
                return known
        self._types.append(new)
        return self.next_id - 1

    def reserve(self) -> int:
        """An id whose type comes later, by `define`."""
        self._types.append(VOID)
        return self.next_id - 1

    def define(self, type_id: int, new: Type) -> None:
        """Gives a reserved id its type."""
        index = type_id - self._first_id
        if not 0 <= index < len(self._types) or not isinstance(self._types[index], Void):
            raise UsageError(f"BTF type {type_id} is not reserved")
        self._types[index] = new

    def add_string(self, text: str) -> int:
        """The offset of `text` in the string section."""
        offset = self._offsets.get(text)
        if offset is None:
            encoded = text.encode("utf-8", "surrogateescape")
            if b"\0" in encoded:
                raise UsageError(f"a BTF string cannot hold a NUL: {text!r}")
            offset = self._offsets[text] = self._strings_start + len(self._strings)
            self._strings += encoded + b"\0"
        return offset

    def add_int(self, name: str, size: int, encoding: int = 0) -> int:
        """`encoding` is a set of INT_SIGNED, INT_CHAR, INT_BOOL; `size` is in bytes."""
        return self.add(Int(name, size, encoding, 8 * size))

    def add_float(self, name: str, size: int) -> int:
        return self.add(Float(name, size))

    def add_ptr(self, type_id: int) -> int:
        return self.add(Ptr(type_id))

    def add_array(self, type_id: int, count: int, index_type_id: int = 0) -> int:
        """An array; the kernel wants an integer as index type, and without one `unsigned int` is made."""
        return self.add(Array(type_id, index_type_id or self.add_int("unsigned int", 4), count))

    def add_struct(self, name: str, size: int, members: Iterable[Member] = ()) -> int:
        return self.add(Struct(name, size, tuple(members)))

    def add_union(self, name: str, size: int, members: Iterable[Member] = ()) -> int:
        return self.add(Union(name, size, tuple(members)))

    def add_enum(
        self, name: str, values: Iterable[tuple[str, int]] = (), size: int = 4, *, signed: bool | None = None
    ) -> int:
        """An enumeration of (name, value); it is signed if a value is negative, or as told."""
        return self.add(Enum(name, size, *_enum_values(values, signed)))

    def add_enum64(
        self, name: str, values: Iterable[tuple[str, int]] = (), size: int = 8, *, signed: bool | None = None
    ) -> int:
        """As `add_enum`, with values of 64 bits (Linux 6.0)."""
        return self.add(Enum64(name, size, *_enum_values(values, signed)))

    def add_fwd(self, name: str, *, is_union: bool = False) -> int:
        return self.add(Fwd(name, is_union))

    def add_typedef(self, name: str, type_id: int) -> int:
        return self.add(Typedef(name, type_id))

    def add_volatile(self, type_id: int) -> int:
        return self.add(Volatile(type_id))

    def add_const(self, type_id: int) -> int:
        return self.add(Const(type_id))

    def add_restrict(self, type_id: int) -> int:
        return self.add(Restrict(type_id))

    def add_type_tag(self, name: str, type_id: int, *, is_attribute: bool = False) -> int:
        return self.add(TypeTag(name, type_id, is_attribute))

    def add_decl_tag(
        self, name: str, type_id: int, component_index: int = -1, *, is_attribute: bool = False
    ) -> int:
        return self.add(DeclTag(name, type_id, component_index, is_attribute))

    def add_func_proto(self, return_type_id: int, params: Iterable[tuple[str, int]] = ()) -> int:
        """`params` are (name, type id); a last one of ``("", 0)`` stands for a variable argument list."""
        return self.add(FuncProto(return_type_id, tuple(Param(name, type_id) for name, type_id in params)))

    def add_func(self, name: str, proto_id: int, linkage: int = FUNC_GLOBAL) -> int:
        return self.add(Func(name, proto_id, linkage))

    def add_var(self, name: str, type_id: int, linkage: int = VAR_GLOBAL_ALLOCATED) -> int:
        return self.add(Var(name, type_id, linkage))

    def add_datasec(self, name: str, size: int, variables: Iterable[tuple[int, int, int]] = ()) -> int:
        """`variables` are (id of the Var, offset, size), by rising offset."""
        return self.add(Datasec(name, size, tuple(VarSecinfo(*variable) for variable in variables)))

    def to_bytes(self, byteorder: ByteOrder = sys.byteorder) -> bytes:
        """The whole BTF.  More can be added afterwards.

        Raises UsageError for a reference to an id that is not there and for a number that does not fit.
        """
        words = array("I")
        for index, new in enumerate(self._types):
            try:
                words.extend(self._encode(new))
            except OverflowError as error:
                raise UsageError(
                    f"BTF type {self._first_id + index}: a number does not fit 32 bits"
                ) from error
        strings = bytes(self._strings)
        header = array("I", [HEADER_SIZE, 0, 4 * len(words), 4 * len(words), len(strings)])
        if byteorder != sys.byteorder:
            words.byteswap()
            header.byteswap()
        start = MAGIC.to_bytes(2, byteorder) + bytes((VERSION, 0))
        return b"".join((start, header.tobytes(), words.tobytes(), strings))

    def _encode(self, new: Type) -> list[int]:
        """The words of a type."""
        name = self.add_string(new.name)
        if isinstance(new, Modifier | Ptr | Typedef):
            return self._head(new, name, self._existing(new.type_id))
        if isinstance(new, Int):
            if not (0 <= new.encoding <= 0xF and 0 <= new.bits <= 0xFF and 0 <= new.bit_offset <= 0xFF):
                raise UsageError(f"BTF integer {new.name!r}: encoding, bits or offset do not fit")
            return [
                *self._head(new, name, new.size),
                new.encoding << 24 | new.bit_offset << 16 | new.bits,
            ]
        if isinstance(new, Array):
            parts = self._existing(new.type_id), self._existing(new.index_type_id), new.count
            return [*self._head(new, name, 0), *parts]
        if isinstance(new, Composite):
            return self._encode_composite(new, name)
        if isinstance(new, Enumeration):
            return self._encode_enumeration(new, name)
        if isinstance(new, Fwd):
            return self._head(new, name, 0, flag=new.is_union)
        if isinstance(new, Func):
            return self._head(new, name, self._existing(new.type_id), new.linkage)
        if isinstance(new, FuncProto):
            words = self._head(new, name, self._existing(new.return_type_id), len(new.params))
            for param in new.params:
                words += self.add_string(param.name), self._existing(param.type_id)
            return words
        if isinstance(new, Var):
            return [*self._head(new, name, self._existing(new.type_id)), new.linkage]
        if isinstance(new, Datasec):
            words = self._head(new, name, new.size, len(new.variables))
            for variable in new.variables:
                words += self._existing(variable.type_id), variable.offset, variable.size
            return words
        if isinstance(new, Float):
            return self._head(new, name, new.size)
        if isinstance(new, DeclTag):
            words = self._head(new, name, self._existing(new.type_id), flag=new.is_attribute)
            return [*words, _unsigned(new.component_index, 32, new.name)]
        if isinstance(new, TypeTag):
            return self._head(new, name, self._existing(new.type_id), flag=new.is_attribute)
        if isinstance(new, Void):
            raise UsageError("a reserved BTF type was never defined")
        raise UsageError(f"BTF cannot hold a {type(new).__name__}")

    def _encode_composite(self, new: Composite, name: int) -> list[int]:
        flag = any(member.bitfield_size for member in new.members)
        words = self._head(new, name, new.size, len(new.members), flag)
        for member in new.members:
            place = member.bit_offset
            if flag:
                if not (0 <= place < 1 << 24 and 0 <= member.bitfield_size < 256):
                    raise UsageError(
                        f"BTF member {member.name!r}: offset or bits do not fit beside bitfields"
                    )
                place |= member.bitfield_size << 24
            words += self.add_string(member.name), self._existing(member.type_id), place
        return words

    def _encode_enumeration(self, new: Enumeration, name: int) -> list[int]:
        words = self._head(new, name, new.size, len(new.values), new.signed)
        wide = isinstance(new, Enum64)
        for value in new.values:
            bits = _unsigned(value.value, 64 if wide else 32, value.name)
            words += self.add_string(value.name), bits & 0xFFFFFFFF
            if wide:
                words.append(bits >> 32)
        return words

    def _head(self, new: Type, name: int, last: int, count: int = 0, flag: bool = False) -> list[int]:
        """struct btf_type."""
        if not 0 <= count <= MAX_ELEMENTS:
            raise UsageError(f"BTF type {new.name!r} has {count} elements, more than {MAX_ELEMENTS}")
        return [name, flag << 31 | new.KIND << 24 | count, last]

    def _existing(self, type_id: int) -> int:
        if not 0 <= type_id < self.next_id:
            raise UsageError(f"BTF: reference to type {type_id}, which is not there")
        return type_id


def _enum_values(
    values: Iterable[tuple[str, int]], signed: bool | None
) -> tuple[bool, tuple[EnumValue, ...]]:
    made = tuple(EnumValue(name, value) for name, value in values)
    return any(value.value < 0 for value in made) if signed is None else signed, made


def _unsigned(value: int, bits: int, name: str) -> int:
    """Two's complement; either reading of the bits is accepted."""
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise UsageError(f"BTF: {name!r} is {value}, which does not fit {bits} bits")
    return value & ((1 << bits) - 1)
