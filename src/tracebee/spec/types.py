"""The types that a value can have on its way from a probe to the reader.

A type says how many bytes a value takes in a map, a key or an event record, how they are aligned, and what
they mean; it holds no machine facts and no live objects.  The language infers these types, the compiler lays
memory out by them, `session` decodes by them and `render` prints by them.

All multi-byte values are little-endian where the machine is (BPF objects have the machine's byte order).
Sizes and alignments are bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def align_up(value: int, alignment: int) -> int:
    """`value` rounded up to a multiple of `alignment`, a power of two."""
    return (value + alignment - 1) & -alignment


class Type(Frozen):
    """Base of all types."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Bytes that a value takes."""
        raise NotImplementedError

    @property
    def align(self) -> int:
        """Alignment in bytes, a power of two."""
        return 1

    @property
    def is_scalar(self) -> bool:
        """Whether a value fits one 64-bit register."""
        return False


class Void(Type):
    """What a statement-like call returns, and a member that cannot be read (a C float)."""

    width: int = 0

    @property
    def size(self) -> int:
        return self.width

    def __str__(self) -> str:
        return "void"


class Int(Type):
    """An integer of `width` bytes (1, 2, 4 or 8), two's complement when `signed`."""

    width: int
    signed: bool

    @property
    def size(self) -> int:
        return self.width

    @property
    def align(self) -> int:
        return self.width

    @property
    def is_scalar(self) -> bool:
        return True

    @property
    def bits(self) -> int:
        return self.width * 8

    @property
    def minimum(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.bits}"


INT8, INT16, INT32, INT64 = (Int(width, True) for width in (1, 2, 4, 8))
UINT8, UINT16, UINT32, UINT64 = (Int(width, False) for width in (1, 2, 4, 8))


class Bool(Type):
    """One byte, 0 or 1."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 1

    @property
    def is_scalar(self) -> bool:
        return True

    def __str__(self) -> str:
        return "bool"


class Enum(Type):
    """A C enumeration: an integer of `width` bytes whose known values have names."""

    name: str
    width: int
    signed: bool
    names: tuple[tuple[int, str], ...]

    @property
    def size(self) -> int:
        return self.width

    @property
    def align(self) -> int:
        return self.width

    @property
    def is_scalar(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"enum {self.name}" if self.name else "enum"


class Str(Type):
    """Text in `capacity` bytes.

    It ends at the first NUL; without one it fills its bytes and counts as cut short, which printing shows
    by the trailer of `str_trunc_trailer`.
    """

    capacity: int

    @property
    def size(self) -> int:
        return self.capacity

    def __str__(self) -> str:
        return f"string[{self.capacity}]"


class Buffer(Type):
    """Raw bytes: a u32 length, then `capacity` bytes of which the first `length` count."""

    capacity: int

    HEADER = 4

    @property
    def size(self) -> int:
        return self.HEADER + self.capacity

    @property
    def align(self) -> int:
        return 4

    def __str__(self) -> str:
        return f"buffer[{self.capacity}]"


class Pointer(Type):
    """A 64-bit address of a `target`, in `space`: "kernel", "user", or "" where it is not known."""

    target: Type
    space: str = ""

    @property
    def size(self) -> int:
        return 8

    @property
    def align(self) -> int:
        return 8

    @property
    def is_scalar(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"{self.target} *"


class Array(Type):
    """`count` values of type `element`, one after the other.  A flexible C array has count 0."""

    element: Type
    count: int

    @property
    def size(self) -> int:
        return self.element.size * self.count

    @property
    def align(self) -> int:
        return self.element.align

    def __str__(self) -> str:
        return f"{self.element}[{self.count}]"


class Tuple(Type):
    """Values side by side, laid out like a C structure."""

    elements: tuple[Type, ...]

    @property
    def offsets(self) -> tuple[int, ...]:
        return _layout(self.elements)[0]

    @property
    def size(self) -> int:
        return _layout(self.elements)[1]

    @property
    def align(self) -> int:
        return max((element.align for element in self.elements), default=1)

    def __str__(self) -> str:
        return f"({','.join(map(str, self.elements))})"


class Record(Type):
    """A tuple whose elements have names."""

    names: tuple[str, ...]
    elements: tuple[Type, ...]

    @property
    def offsets(self) -> tuple[int, ...]:
        return _layout(self.elements)[0]

    @property
    def size(self) -> int:
        return _layout(self.elements)[1]

    @property
    def align(self) -> int:
        return max((element.align for element in self.elements), default=1)

    def __str__(self) -> str:
        inside = ",".join(
            f".{name}={element}" for name, element in zip(self.names, self.elements, strict=True)
        )
        return f"({inside})"


def _layout(elements: tuple[Type, ...]) -> tuple[tuple[int, ...], int]:
    """Offsets of the elements and the whole size, by C's rules."""
    offset, alignment, offsets = 0, 1, []
    for element in elements:
        offset = align_up(offset, element.align)
        offsets.append(offset)
        offset += element.size
        alignment = max(alignment, element.align)
    return tuple(offsets), align_up(offset, alignment)


class Field(Frozen):
    """A member of a C structure.

    `offset` is in bytes.  A bitfield has `bits` > 0: its value is the `bits` bits that start `bit_offset`
    bits into the little-endian integer of type `type` at `offset`.  An anonymous member has an empty name.
    """

    name: str
    type: Type
    offset: int
    bits: int = 0
    bit_offset: int = 0


class Struct(Type):
    """A C structure or union (`kind`), identified by kind, name and layout token.

    The members may be many and deep (a task_struct names a thousand types), so they are made when first
    asked for: `loader` is called once.  Two Structs are equal when kind, name, byte size and `origin` are;
    origin tells apart types of the same name that come from different declarations.
    """

    __slots__ = ("_fields_by_name", "_loaded", "loader")

    kind: str
    name: str
    byte_size: int
    alignment: int
    origin: object

    def __init__(
        self,
        kind: str,
        name: str,
        byte_size: int,
        alignment: int,
        origin: object,
        loader: Callable[[], tuple[Field, ...]],
    ) -> None:
        super().__init__(kind, name, byte_size, alignment, origin)
        self.loader = loader
        self._loaded: tuple[Field, ...] | None = None
        self._fields_by_name: Mapping[str, Field] | None = None

    def complete(
        self, byte_size: int, alignment: int, origin: object, loader: Callable[[], tuple[Field, ...]]
    ) -> None:
        """Give the layout of a structure that was only named so far; pointers to it may exist already."""
        super().__init__(self.kind, self.name, byte_size, alignment, origin)
        self.loader = loader

    @property
    def size(self) -> int:
        return self.byte_size

    @property
    def align(self) -> int:
        return self.alignment

    @property
    def fields(self) -> tuple[Field, ...]:
        """The members in declaration order."""
        if self._loaded is None:
            self._loaded = self.loader()
        return self._loaded

    def find(self, name: str) -> Field | None:
        """The member called `name`, also one inside anonymous members, with its offset in this type."""
        if self._fields_by_name is None:
            found: dict[str, Field] = {}
            _collect(self, 0, found)
            self._fields_by_name = found
        return self._fields_by_name.get(name)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind


def _collect(struct: Struct, base: int, found: dict[str, Field]) -> None:
    for field in struct.fields:
        if field.name:
            moved = Field(field.name, field.type, base + field.offset, field.bits, field.bit_offset)
            found.setdefault(field.name, moved)
        elif isinstance(field.type, Struct):
            _collect(field.type, base + field.offset, found)


# Values that mean something only to a reader: printed, kept in maps, never computed with.


class KSym(Type):
    """A kernel address to be shown as a symbol: u64."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 8

    @property
    def align(self) -> int:
        return 8

    def __str__(self) -> str:
        return "ksym_t"


class USym(Type):
    """A user address to be shown as a symbol: u64 address, u32 process id, u32 zero."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 16

    @property
    def align(self) -> int:
        return 8

    def __str__(self) -> str:
        return "usym_t"


class Stack(Type):
    """A call stack: u64 stack id, u32 process id (0 for a kernel stack), u32 number of frames.

    The frames live once each in the map named `spec.STACKS_MAP`, under the id, which is a hash of them.
    `mode` is one of bpftrace, perf, raw, build_id; `limit` is the largest number of frames.
    """

    user: bool
    mode: str
    limit: int

    @property
    def size(self) -> int:
        return 16

    @property
    def align(self) -> int:
        return 8

    def __str__(self) -> str:
        return f"{'u' if self.user else 'k'}stack_{self.mode}_{self.limit}"


class Timestamp(Type):
    """A point in time to be shown by strftime: u64 nanoseconds, u32 index of the format in
    `Schema.strings`, u32 clock (0 boot time, 1 wall clock)."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 16

    @property
    def align(self) -> int:
        return 8

    def __str__(self) -> str:
        return "timestamp"


class Inet(Type):
    """An internet address: u32 address family (AF_INET or AF_INET6), then 16 bytes."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 20

    @property
    def align(self) -> int:
        return 4

    def __str__(self) -> str:
        return "inet"


class MacAddr(Type):
    """Six bytes of a hardware address."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 6

    def __str__(self) -> str:
        return "macaddr"


class Username(Type):
    """A user id to be shown as a name: u32."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 4

    @property
    def align(self) -> int:
        return 4

    def __str__(self) -> str:
        return "username"


class CgroupPath(Type):
    """A cgroup id to be shown as a path: u64 id, u32 index of the filter in `Schema.strings`, u32 zero."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 16

    @property
    def align(self) -> int:
        return 8

    def __str__(self) -> str:
        return "cgroup_path_t"


class Named(Type):
    """A number that is shown by a table: `table` is one of "strerror", "signal", "syscall", "probe", "func"; u64.

    The text is looked up in user space, so that it costs a number in the kernel.
    """

    table: str
    capacity: int = 64

    @property
    def size(self) -> int:
        return 8

    @property
    def align(self) -> int:
        return 8

    def __str__(self) -> str:
        return f"string[{self.capacity}]"


# Aggregations: the value of a map, kept per CPU and summed up by the reader.


class Aggregation(Type):
    """Base of the map values that functions such as count() build up."""

    __slots__ = ()

    @property
    def align(self) -> int:
        return 8

    @property
    def signed_result(self) -> bool:
        """Whether the number that it is read as is signed."""
        return True


class Count(Aggregation):
    """u64 number of calls."""

    __slots__ = ()

    @property
    def size(self) -> int:
        return 8

    @property
    def signed_result(self) -> bool:
        return False

    def __str__(self) -> str:
        return "count_t"


class Sum(Aggregation):
    """u64 or s64 total."""

    signed: bool

    @property
    def size(self) -> int:
        return 8

    @property
    def signed_result(self) -> bool:
        return self.signed

    def __str__(self) -> str:
        return "sum_t" if self.signed else "usum_t"


class Extreme(Aggregation):
    """The smallest or largest value (`largest`): 64-bit value, u64 that is 1 once there is a value."""

    largest: bool
    signed: bool

    @property
    def size(self) -> int:
        return 16

    @property
    def signed_result(self) -> bool:
        return self.signed

    def __str__(self) -> str:
        return ("" if self.signed else "u") + ("max_t" if self.largest else "min_t")


class Average(Aggregation):
    """64-bit total, u64 count.  `full` is stats(), which prints count, average and total."""

    signed: bool
    full: bool

    @property
    def size(self) -> int:
        return 16

    @property
    def signed_result(self) -> bool:
        return self.signed

    def __str__(self) -> str:
        return ("" if self.signed else "u") + ("stats_t" if self.full else "avg_t")


class Hist(Aggregation):
    """Logarithmic histogram: u64 buckets, each power of two split into 2**`bits` parts.

    Bucket 0 counts negative values.  A value v below 2**bits has bucket v + 1; else with e the position of
    its highest set bit, it has bucket 1 + ((e - bits + 1) << bits) + ((v >> (e - bits)) & (2**bits - 1)).
    """

    bits: int

    @property
    def buckets(self) -> int:
        return 1 + ((64 - self.bits + 1) << self.bits)

    @property
    def size(self) -> int:
        return 8 * self.buckets

    def __str__(self) -> str:
        return "hist_t"


class LHist(Aggregation):
    """Linear histogram: u64 buckets for below `minimum`, each `step` up to `maximum`, and the rest."""

    minimum: int
    maximum: int
    step: int

    @property
    def buckets(self) -> int:
        return (self.maximum - self.minimum + self.step - 1) // self.step + 2

    @property
    def size(self) -> int:
        return 8 * self.buckets

    def __str__(self) -> str:
        return "lhist_t"


class TSeries(Aggregation):
    """A ring of `count` intervals of `interval` nanoseconds, each 24 bytes.

    u64 interval number plus one (0 is unused), 64-bit value, u64 that is the time of the value ("last") or
    the number of values.  Intervals are counted from the start of 1970, so that they begin at full units of
    time.  `function` is one of last, avg, max, min, sum.
    """

    interval: int
    count: int
    function: str
    signed: bool

    SLOT = 24

    @property
    def size(self) -> int:
        return self.SLOT * self.count

    def __str__(self) -> str:
        return "tseries_t"
