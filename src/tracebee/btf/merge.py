"""Many BTF as one: the types of the files that are linked to one object.

Types that are alike are kept once.  Alike are two types that no walk over their references can tell apart, cycles
included: all types get a color by what they are themselves, and are colored again by the colors of what they
refer to, until no more colors come up.  Forward declarations then stand for the one structure of their name, if
there is just one.  Functions, variables and sections are never merged: that two of them are one is for the linker
to say, which knows their symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.btf.types import (
    Array,
    Composite,
    Datasec,
    DeclTag,
    Enumeration,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Modifier,
    Param,
    Ptr,
    Struct,
    Type,
    Typedef,
    TypeTag,
    Var,
    VarSecinfo,
    Void,
)
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.btf.reader import Btf, ByteOrder

MAX_DEPTH = 32
MAX_ROUNDS = 200
"""After so many the types are nested so deeply that they are left as they are."""

_UNIQUE = (Func, Var, Datasec)


class Merged:
    """The types of `files` in one BTF in the making.

    `ids` has, for each file, the new id of each of its types.  Sections of variables are left out: they are added
    by `add_section`, once what lies in them is known.
    """

    def __init__(self, files: Sequence[Btf], same: Mapping[tuple[int, int], tuple[int, int]]) -> None:
        """`same` says which functions and variables stand for others, as (number of the file, type id).

        Raises FormatError.
        """
        self.builder = BtfBuilder()
        self._types: list[Type] = [Void()]
        starts = []
        for btf in files:
            starts.append(len(self._types) - 1)
            shift = starts[-1]
            for type_id in range(1, len(btf)):
                found = btf.type(type_id)
                self._types.append(_renumbered(found, lambda old, shift=shift: old + shift if old else 0))
        replaced = {starts[a] + b: starts[c] + d for (a, b), (c, d) in same.items()}
        chosen = self._representatives(replaced)
        self.new_ids = self._lay_out(chosen)
        self.ids = [
            [self.new_ids[chosen[starts[index] + old]] if old else 0 for old in range(len(btf))]
            for index, btf in enumerate(files)
        ]

    def _representatives(self, replaced: Mapping[int, int]) -> list[int]:
        """For each type the one that stands for it."""
        chosen = [replaced.get(number, number) for number in range(len(self._types))]
        for _ in range(2):
            colors = self._colors(chosen)
            first: dict[int, int] = {}
            for number, color in enumerate(colors):
                first.setdefault(color, number)
            chosen = [first[colors[chosen[number]]] for number in range(len(self._types))]
            if not self._define_forwards(chosen):
                break
        return chosen

    def _define_forwards(self, chosen: list[int]) -> bool:
        """Let each forward declaration stand for the structure that it declares; whether there was any."""
        defined: dict[tuple[str, bool], set[int]] = {}
        for number in set(chosen):
            found = self._types[number]
            if isinstance(found, Composite) and found.name:
                defined.setdefault((found.name, not isinstance(found, Struct)), set()).add(number)
        changes = {}
        for number in set(chosen):
            found = self._types[number]
            if isinstance(found, Fwd):
                meant = defined.get((found.name, found.is_union), set())
                if len(meant) == 1:
                    changes[number] = next(iter(meant))
        for number, old in enumerate(chosen):
            chosen[number] = changes.get(old, old)
        return bool(changes)

    def _colors(self, chosen: Sequence[int]) -> list[int]:
        """A number for each type, the same for those that are alike."""
        shapes = [_shape(found, number) for number, found in enumerate(self._types)]
        references = [[chosen[one] for one in _references(found)] for found in self._types]
        colors = _numbered(shapes)
        count = len(set(colors))
        for _ in range(MAX_ROUNDS):
            colors = _numbered(
                [
                    (color, *[colors[one] for one in refs])
                    for color, refs in zip(colors, references, strict=True)
                ]
            )
            if len(set(colors)) == count:
                return colors
            count = len(set(colors))
        return list(range(len(self._types)))

    def _lay_out(self, chosen: Sequence[int]) -> dict[int, int]:
        """Give the types that are kept their new ids, in the order of the files."""
        kept = [
            number
            for number in range(1, len(self._types))
            if chosen[number] == number and not isinstance(self._types[number], Datasec)
        ]
        ids = {0: 0} | {number: index for index, number in enumerate(kept, 1)}

        def new(old: int) -> int:
            if chosen[old] not in ids:
                raise FormatError("BTF: a type is made of a section of variables")
            return ids[chosen[old]]

        for number in kept:
            # Not by add(), which might find one like it.
            self.builder.define(self.builder.reserve(), _renumbered(self._types[number], new))
        return ids | {
            number: 0 for number, found in enumerate(self._types) if isinstance(found, Datasec) and number
        }

    def add_section(self, name: str, size: int, variables: Sequence[tuple[int, int, int]]) -> None:
        """Add a section; `variables` are (new id, offset, size)."""
        self.builder.add_datasec(name, size, sorted(variables, key=lambda one: one[1]))

    def to_bytes(self, byteorder: ByteOrder) -> bytes:
        """The bytes of the whole.  Raises FormatError if types need more room than they can have."""
        try:
            return self.builder.to_bytes(byteorder)
        except UsageError as error:
            raise FormatError(str(error)) from error


def alike(one: Btf, one_id: int, other: Btf, other_id: int, depth: int = MAX_DEPTH) -> bool:
    """Whether two functions, variables or types can be one: C would take them for declarations of the same.

    Structures are compared by name and size, and by their members' names if they have no name: the types that
    they are made of may be declared in one file only.  Raises FormatError for types without end.
    """
    if not depth:
        raise FormatError("BTF: types are nested too deeply to be compared")
    mine, theirs = one.type(one.resolve(one_id)), other.type(other.resolve(other_id))
    if isinstance(mine, Composite | Fwd) and isinstance(theirs, Composite | Fwd):
        return _composites_alike(mine, theirs)
    if isinstance(mine, Enumeration) and isinstance(theirs, Enumeration):
        return mine.name == theirs.name and mine.size == theirs.size
    if type(mine) is not type(theirs):
        return False
    if isinstance(mine, Int) and isinstance(theirs, Int):
        return mine.size == theirs.size and mine.is_signed == theirs.is_signed
    if isinstance(mine, Array) and isinstance(theirs, Array):
        # One may be declared without a length.
        if mine.count and theirs.count and mine.count != theirs.count:
            return False
        return alike(one, mine.type_id, other, theirs.type_id, depth - 1)
    pairs = list(zip(_references(mine), _references(theirs), strict=False))
    if len(_references(mine)) != len(_references(theirs)):
        return False
    return all(alike(one, a, other, b, depth - 1) for a, b in pairs)


def _composites_alike(mine: Composite | Fwd, theirs: Composite | Fwd) -> bool:
    if mine.name != theirs.name or _is_union(mine) != _is_union(theirs):
        return False
    if isinstance(mine, Composite) and isinstance(theirs, Composite):
        names = [[member.name for member in found.members] for found in (mine, theirs)]
        return mine.size == theirs.size and (bool(mine.name) or names[0] == names[1])
    return True


def _is_union(found: Composite | Fwd) -> bool:
    return found.is_union if isinstance(found, Fwd) else not isinstance(found, Struct)


def _numbered(values: Sequence[Any]) -> list[int]:
    known: dict[Any, int] = {}
    return [known.setdefault(value, len(known)) for value in values]


def _shape(found: Type, number: int) -> tuple[Any, ...]:
    """All of a type but what it refers to."""
    kind = type(found).__name__
    if isinstance(found, _UNIQUE):
        return kind, number
    if isinstance(found, Int):
        return kind, found.name, found.size, found.encoding, found.bits, found.bit_offset
    if isinstance(found, Array):
        return kind, found.count
    if isinstance(found, Composite):
        members = tuple((one.name, one.bit_offset, one.bitfield_size) for one in found.members)
        return kind, found.name, found.size, members
    if isinstance(found, Enumeration):
        values = tuple((one.name, one.value) for one in found.values)
        return kind, found.name, found.size, found.signed, values
    if isinstance(found, Fwd):
        return kind, found.name, found.is_union
    if isinstance(found, FuncProto):
        return kind, tuple(one.name for one in found.params)
    if isinstance(found, Float):
        return kind, found.name, found.size
    if isinstance(found, DeclTag):
        return kind, found.name, found.component_index, found.is_attribute
    if isinstance(found, TypeTag):
        return kind, found.name, found.is_attribute
    return kind, found.name


def _references(found: Type) -> list[int]:
    """The ids that a type refers to, in the order in which `_renumbered` puts them."""
    if isinstance(found, Ptr | Modifier | Typedef | Func | Var | DeclTag | TypeTag):
        return [found.type_id]
    if isinstance(found, Array):
        return [found.type_id, found.index_type_id]
    if isinstance(found, Composite):
        return [one.type_id for one in found.members]
    if isinstance(found, FuncProto):
        return [found.return_type_id, *[one.type_id for one in found.params]]
    if isinstance(found, Datasec):
        return [one.type_id for one in found.variables]
    return []


def _renumbered(found: Type, new: Any) -> Type:
    """A type with `new` of every id that it refers to."""
    made: Type = found
    if isinstance(found, Ptr | Modifier):
        made = type(found)(new(found.type_id))
    elif isinstance(found, Typedef):
        made = Typedef(found.name, new(found.type_id))
    elif isinstance(found, Func | Var):
        made = type(found)(found.name, new(found.type_id), found.linkage)
    elif isinstance(found, Array):
        made = Array(new(found.type_id), new(found.index_type_id), found.count)
    elif isinstance(found, Composite):
        members = [
            Member(one.name, new(one.type_id), one.bit_offset, one.bitfield_size) for one in found.members
        ]
        made = type(found)(found.name, found.size, tuple(members))
    elif isinstance(found, FuncProto):
        params = [Param(one.name, new(one.type_id)) for one in found.params]
        made = FuncProto(new(found.return_type_id), tuple(params))
    elif isinstance(found, Datasec):
        variables = [VarSecinfo(new(one.type_id), one.offset, one.size) for one in found.variables]
        made = Datasec(found.name, found.size, tuple(variables))
    elif isinstance(found, DeclTag):
        made = DeclTag(found.name, new(found.type_id), found.component_index, found.is_attribute)
    elif isinstance(found, TypeTag):
        made = TypeTag(found.name, new(found.type_id), found.is_attribute)
    return made
