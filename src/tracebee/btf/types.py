"""The kinds of BTF as values, one class each.

A type refers to another by its id, a position in the BTF that holds both, never by object: type graphs are
full of cycles, and an id costs nothing until it is followed.  Id 0 is `void`.

Sizes are bytes; offsets and widths whose name says `bit` are bits.  Which fields there are, and what they
mean, is from the kernel's Documentation/bpf/btf.rst and include/uapi/linux/btf.h.
"""

from __future__ import annotations

from tracebee.records import Frozen

INT_SIGNED = 1
INT_CHAR = 2
INT_BOOL = 4

VAR_STATIC = 0
VAR_GLOBAL_ALLOCATED = 1
VAR_GLOBAL_EXTERN = 2

FUNC_STATIC = 0
FUNC_GLOBAL = 1
FUNC_EXTERN = 2


class Type(Frozen):
    """Base of all kinds.  `KIND` is the number of the BTF_KIND_*, `name` is empty where a kind has none."""

    KIND = -1
    name = ""


class Void(Type):
    """Id 0: no type at all."""

    KIND = 0


VOID = Void()


class Int(Type):
    """An integer.

    `encoding` is a set of INT_* bits.  The value is `bits` wide and starts `bit_offset` bits into the `size`
    bytes; compilers of today always fill them.
    """

    KIND = 1
    name: str
    size: int
    encoding: int
    bits: int
    bit_offset: int = 0

    @property
    def is_signed(self) -> bool:
        return bool(self.encoding & INT_SIGNED)

    @property
    def is_bool(self) -> bool:
        return bool(self.encoding & INT_BOOL)

    @property
    def is_char(self) -> bool:
        """Whether it was declared as `char`.  GCC and pahole leave this unset: ask the name too."""
        return bool(self.encoding & INT_CHAR)


class Ptr(Type):
    """A pointer to `type_id`."""

    KIND = 2
    type_id: int


class Array(Type):
    """`count` values of `type_id`; a flexible array has count 0.  `index_type_id` is some integer type."""

    KIND = 3
    type_id: int
    index_type_id: int
    count: int


class Member(Frozen):
    """A member of a structure or union; an anonymous one has an empty name.

    A bitfield has a `bitfield_size` other than 0, the number of its bits.
    """

    name: str
    type_id: int
    bit_offset: int
    bitfield_size: int = 0


class Composite(Type):
    """What Struct and Union have in common."""

    name: str
    size: int
    members: tuple[Member, ...]


class Struct(Composite):
    """A C structure."""

    KIND = 4


class Union(Composite):
    """A C union."""

    KIND = 5


class EnumValue(Frozen):
    """A named constant of an enumeration."""

    name: str
    value: int


class Enumeration(Type):
    """What Enum and Enum64 have in common.

    `signed` says how the values were stored; before Linux 6.0 it was never set, and a value of -1 reads as
    4294967295.
    """

    name: str
    size: int
    signed: bool
    values: tuple[EnumValue, ...]


class Enum(Enumeration):
    """An enumeration with values of 32 bits.  Without values it is a forward declaration."""

    KIND = 6


class Fwd(Type):
    """A structure or union that is declared and not defined."""

    KIND = 7
    name: str
    is_union: bool


class Modifier(Type):
    """What the C qualifiers have in common: they change nothing about size or members."""

    type_id: int


class Typedef(Type):
    """Another name for `type_id`."""

    KIND = 8
    name: str
    type_id: int


class Volatile(Modifier):
    """volatile `type_id`."""

    KIND = 9


class Const(Modifier):
    """const `type_id`."""

    KIND = 10


class Restrict(Modifier):
    """`type_id`, a pointer, with restrict."""

    KIND = 11


class Func(Type):
    """A function whose prototype is the FuncProto `type_id`; `linkage` is one of FUNC_*."""

    KIND = 12
    name: str
    type_id: int
    linkage: int = FUNC_STATIC


class Param(Frozen):
    """A parameter.  The last one with an empty name and type 0 stands for ``...``."""

    name: str
    type_id: int


class FuncProto(Type):
    """What a function takes and returns."""

    KIND = 13
    return_type_id: int
    params: tuple[Param, ...]


class Var(Type):
    """A variable; `linkage` is one of VAR_*."""

    KIND = 14
    name: str
    type_id: int
    linkage: int = VAR_GLOBAL_ALLOCATED


class VarSecinfo(Frozen):
    """Where the Var (or extern Func) `type_id` lies in its section, in bytes."""

    type_id: int
    offset: int
    size: int


class Datasec(Type):
    """An ELF section and the variables in it."""

    KIND = 15
    name: str
    size: int
    variables: tuple[VarSecinfo, ...]


class Float(Type):
    """A floating-point number."""

    KIND = 16
    name: str
    size: int


class DeclTag(Type):
    """The text `name` attached to a declaration.

    `component_index` picks a member or parameter of `type_id`, -1 means all of it.  A tag with `is_attribute`
    is a bare ``__attribute__((name))`` (Linux 6.15), one without is a btf_decl_tag.
    """

    KIND = 17
    name: str
    type_id: int
    component_index: int = -1
    is_attribute: bool = False


class TypeTag(Type):
    """The text `name` attached to `type_id`, such as "user" for ``__user``; `is_attribute` as in DeclTag."""

    KIND = 18
    name: str
    type_id: int
    is_attribute: bool = False


class Enum64(Enumeration):
    """An enumeration with values of 64 bits."""

    KIND = 19


class Unknown(Type):
    """A type of a newer kernel; the layout section of its BTF (Linux 7.1) tells how long it is, no more."""

    kind: int
    name: str


KINDS: tuple[type[Type], ...] = (
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
)
"""The classes by their number."""
