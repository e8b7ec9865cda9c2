"""Values of BTF types: from the bytes of a map's key or value to plain Python values, and back.

    integers, enumerations, pointers    int
    _Bool                               bool
    float, double                       float
    char[N]                             str, up to the first NUL; what is no UTF-8 is in it as surrogates
    other arrays                        list
    structures, unions, sections        dict by the names of members; those of anonymous members are in it, too
    without a type                      int if it has 1, 2, 4 or 8 bytes, else bytes

With `hashable`, which keys of maps are made with, structures and arrays become tuples instead; a member is an
attribute of such a tuple, too.

A decoded structure remembers its bytes.  Encoded again, what was changed is written over them: padding stays, and
so does all of a union but the member that was changed.  Of a structure that was made by hand, a member that is
not said is zero, as in C.

Nothing in BTF or in the bytes is trusted, see `tracebee.btf.reader`.
"""

from __future__ import annotations

import struct
import sys
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.btf.types import (
    Array,
    Composite,
    Datasec,
    Enumeration,
    Float,
    Int,
    Ptr,
    Var,
)
from tracebee.errors import FormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracebee.btf.reader import Btf, ByteOrder

MAX_NESTING = 32
MAX_PARTS = 1 << 20
"""Python values that one value may become.  Structures without a size could ask for any number of them."""

TEXT = ("utf-8", "surrogateescape")

_INT_CODES = {
    (1, False): "B",
    (1, True): "b",
    (2, False): "H",
    (2, True): "h",
    (4, False): "I",
    (4, True): "i",
}
_INT_CODES |= {(8, False): "Q", (8, True): "q"}
_FLOAT_CODES = {2: "e", 4: "f", 8: "d"}


def value_codec(btf: Btf | None, type_id: int, size: int, *, hashable: bool = False) -> ValueCodec:
    """How values of a type are read and made.

    `size` is what a value takes, in bytes; where the type has another size, or there is none, values are as
    without a type.  Raises FormatError for types that make no sense.
    """
    if btf is not None and type_id and btf.size_of(type_id) == size:
        found = _Maker(btf, hashable).make(type_id, 0)
        if found.size == size:
            return found
    return untyped(size)


def untyped(size: int, byteorder: ByteOrder = sys.byteorder) -> ValueCodec:
    """Values without a type."""
    return NumberCodec(size, byteorder, signed=None) if size in (1, 2, 4, 8) else BytesCodec(size)


class ValueCodec:
    """Base of all, one class a shape.

    `size` is in bytes, and `parts` how many Python values a value becomes.  `code` is the letter of `struct` for
    it, or empty.  With `loses`, other bytes may decode to the same value.  `name` is the type's in C, if there is
    one.
    """

    code = ""
    loses = False
    parts = 1
    name = ""

    def __init__(self, size: int) -> None:
        self.size = size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name or f'{self.size} bytes'}>"

    def decode(self, data: bytes) -> Any:
        """The value that `data` begins with.  Raises FormatError if it is too short."""
        if len(data) < self.size:
            raise FormatError(f"a value of {self.size} bytes is cut off after {len(data)}")
        return self.at(data, 0)

    def at(self, data: bytes, offset: int) -> Any:
        """The value at `offset`."""
        raise NotImplementedError

    def encode(self, value: Any, where: str = "") -> bytes:
        """The bytes of a value.  Raises UsageError if it does not fit; `where` is the value's place, for that."""
        raise NotImplementedError

    def put(self, data: bytearray, offset: int, value: Any, where: str) -> None:
        """Write a value into others."""
        data[offset : offset + self.size] = self.encode(value, where)

    def parse(self, text: str) -> Any:
        """The value that somebody has written on a command line.

        A number (3, -1, 0x1f, 'c'), the name of an enumerator, text for an array of char, JSON or a C initialiser
        (``{.pid = 3, .comm = "x"}``) for the others; or the bytes, as ``hex 0a 0b`` or as as many numbers as
        there are bytes.  Raises UsageError.
        """
        from tracebee.btf.valuetext import bytes_of, read

        data = bytes_of(text, self.size)
        if data is None:
            data = self.encode(self.settle(read(text, self.wants_text)))
        return self.decode(data)

    wants_text = False
    """Whether text on a command line needs no quotes."""

    def settle(self, loose: Any) -> Any:
        """What was written, where JSON and shells have but text for it, as a value that `encode` takes."""
        return loose

    def plain(self, value: Any) -> Any:
        """The value as JSON has it: in the shapes of ``bpftool map dump -j``, "formatted"."""
        return value

    def text(self, value: Any) -> str:
        """The value as C would write it."""
        return str(value)

    def misfit(self, value: Any, where: str, reason: str = "", hint: str = "") -> UsageError:
        place = f"{where}: " if where else ""
        return UsageError(
            f"{place}{value!r} is no {self.name or f'value of {self.size} bytes'}{reason}", hint
        )


class NumberCodec(ValueCodec):
    """An integer or a pointer.  Without a type, `signed` is None: it reads as unsigned, and takes both."""

    def __init__(
        self, size: int, byteorder: ByteOrder, signed: bool | None, name: str = "", base: int = 10
    ) -> None:
        super().__init__(size)
        self.byteorder = byteorder
        self.signed = bool(signed)
        self.name = name
        self.base = base
        self.code = _INT_CODES.get((size, self.signed), "")
        self.least = -(1 << (8 * size - 1)) if signed or signed is None else 0
        self.most = (1 << (8 * size - 1 if signed else 8 * size)) - 1

    def at(self, data: bytes, offset: int) -> int:
        return int.from_bytes(data[offset : offset + self.size], self.byteorder, signed=self.signed)

    def encode(self, value: Any, where: str = "") -> bytes:
        number = self.number(value, where)
        return (number & ((1 << 8 * self.size) - 1)).to_bytes(self.size, self.byteorder)

    def number(self, value: Any, where: str) -> int:
        """The value, if it fits."""
        if not hasattr(value, "__index__"):
            raise self.misfit(value, where)
        number = int(value)
        if not self.least <= number <= self.most:
            raise self.misfit(value, where, f": it must be {self.least} to {self.most}")
        return number

    def settle(self, loose: Any) -> Any:
        if isinstance(loose, str):
            from tracebee.btf.valuetext import number_of

            found = number_of(loose)
            return loose if found is None else found
        return loose

    def plain(self, value: int) -> Any:
        return f"{value:#x}" if self.size > 8 else value

    def text(self, value: int) -> str:
        return f"{value:#x}" if self.base == 16 else str(value)


class BoolCodec(NumberCodec):
    """A _Bool; every byte but 0 is true."""

    def __init__(self, size: int, byteorder: ByteOrder, name: str) -> None:
        super().__init__(size, byteorder, signed=False, name=name)
        self.code = "?" if size == 1 else ""
        self.loses = True

    def at(self, data: bytes, offset: int) -> bool:
        return any(data[offset : offset + self.size])

    def number(self, value: Any, where: str) -> int:
        if value not in (0, 1):
            raise self.misfit(value, where)
        return int(value)

    def settle(self, loose: Any) -> Any:
        return (
            {"true": True, "false": False}.get(loose, super().settle(loose))
            if isinstance(loose, str)
            else loose
        )

    def plain(self, value: int) -> bool:
        return bool(value)

    def text(self, value: int) -> str:
        return "true" if value else "false"


class EnumCodec(NumberCodec):
    """An enumeration: numbers, and names instead of them where a value is made."""

    def __init__(self, found: Enumeration, byteorder: ByteOrder, name: str) -> None:
        # A kernel before 6.0 never says that one is signed: take both readings.
        super().__init__(found.size, byteorder, signed=found.signed, name=name)
        self.least = -(1 << (8 * found.size - 1))
        self.most = (1 << 8 * found.size) - 1
        self.values = {one.name: one.value for one in found.values}
        self.names = {one.value: one.name for one in reversed(found.values)}

    def number(self, value: Any, where: str) -> int:
        if isinstance(value, str):
            if value not in self.values:
                known = ", ".join(list(self.values)[:12])
                raise self.misfit(value, where, hint=f"it has {known}")
            return self.values[value]
        return super().number(value, where)

    def plain(self, value: int) -> Any:
        return self.names.get(value, value)

    def text(self, value: int) -> str:
        return self.names.get(value, str(value))


class BitsCodec(ValueCodec):
    """A bitfield: `bits` of the number that `size` bytes are, from `shift` on; `inner` is its type's."""

    def __init__(self, size: int, byteorder: ByteOrder, shift: int, bits: int, inner: NumberCodec) -> None:
        super().__init__(size)
        self.byteorder = byteorder
        self.shift = shift
        self.bits = bits
        self.mask = (1 << bits) - 1
        self.inner = inner
        self.name = f"{inner.name}: {bits}"

    def at(self, data: bytes, offset: int) -> int:
        found = int.from_bytes(data[offset : offset + self.size], self.byteorder) >> self.shift & self.mask
        if isinstance(self.inner, BoolCodec):
            return bool(found)
        return found - (1 << self.bits) if self.inner.signed and found >> (self.bits - 1) else found

    def encode(self, value: Any, where: str = "") -> bytes:
        data = bytearray(self.size)
        self.put(data, 0, value, where)
        return bytes(data)

    def put(self, data: bytearray, offset: int, value: Any, where: str) -> None:
        number = self.inner.number(value, where)
        least = -(1 << (self.bits - 1)) if self.inner.least < 0 else 0
        most = (1 << (self.bits - 1 if self.inner.signed else self.bits)) - 1
        if not least <= number <= most:
            raise self.misfit(value, where, f": it must be {least} to {most}")
        whole = int.from_bytes(data[offset : offset + self.size], self.byteorder)
        whole = whole & ~(self.mask << self.shift) | (number & self.mask) << self.shift
        data[offset : offset + self.size] = whole.to_bytes(self.size, self.byteorder)

    def settle(self, loose: Any) -> Any:
        found = self.inner.settle(loose)
        if isinstance(found, str) or not isinstance(found, int):
            return found
        # As it is printed, in bits: a signed one is written as such, too.
        wraps = self.inner.signed and self.mask >> 1 < found <= self.mask
        return found - self.mask - 1 if wraps else found

    def plain(self, value: int) -> Any:
        return f"{value & self.mask:#x}"

    def text(self, value: int) -> str:
        return self.inner.text(value)


class FloatCodec(ValueCodec):
    """A float or double."""

    def __init__(self, size: int, byteorder: ByteOrder, name: str) -> None:
        super().__init__(size)
        self.name = name
        self.code = _FLOAT_CODES[size]
        self._struct = struct.Struct(("<" if byteorder == "little" else ">") + self.code)

    def at(self, data: bytes, offset: int) -> float:
        found: float = self._struct.unpack_from(data, offset)[0]
        return found

    def encode(self, value: Any, where: str = "") -> bytes:
        try:
            return self._struct.pack(value)
        except (struct.error, OverflowError):
            raise self.misfit(value, where) from None

    def settle(self, loose: Any) -> Any:
        try:
            return float(loose) if isinstance(loose, str) else loose
        except ValueError:
            return loose

    def plain(self, value: float) -> Any:
        return value if value - value == 0 else str(value)  # JSON has no nan and no inf


class TextCodec(ValueCodec):
    """An array of char."""

    loses = True
    wants_text = True

    def __init__(self, size: int, name: str) -> None:
        super().__init__(size)
        self.name = name

    def at(self, data: bytes, offset: int) -> str:
        return bytes(data[offset : offset + self.size]).partition(b"\0")[0].decode(*TEXT)

    def encode(self, value: Any, where: str = "") -> bytes:
        try:
            data = (
                value.encode(*TEXT) if isinstance(value, str) else bytes(value) if _is_some(value) else None
            )
        except (ValueError, TypeError):
            data = None
        if data is None:
            raise self.misfit(value, where)
        if len(data) > self.size:
            raise self.misfit(value, where, f": it has {len(data)} bytes, and there is room for {self.size}")
        return data.ljust(self.size, b"\0")

    def settle(self, loose: Any) -> Any:
        return str(loose) if isinstance(loose, int | float) else loose

    def text(self, value: str) -> str:
        return quoted(value)


class BytesCodec(ValueCodec):
    """Bytes of which nothing is known."""

    wants_text = True

    def at(self, data: bytes, offset: int) -> bytes:
        return bytes(data[offset : offset + self.size])

    def encode(self, value: Any, where: str = "") -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise self.misfit(value, where, hint="it has no type: give bytes")
        if len(value) != self.size:
            raise self.misfit(value, where, f": there are {len(value)}")
        return bytes(value)

    def settle(self, loose: Any) -> Any:
        data = loose.encode(*TEXT) if isinstance(loose, str) else loose
        return data.ljust(self.size, b"\0") if isinstance(data, bytes) else loose

    def plain(self, value: bytes) -> Any:
        return [f"{byte:#04x}" for byte in value]

    def text(self, value: bytes) -> str:
        return bytes(value).hex(" ")


class ArrayCodec(ValueCodec):
    """An array of anything but char."""

    def __init__(self, element: ValueCodec, count: int, name: str, mark: str, hashable: bool) -> None:
        super().__init__(element.size * count)
        self.element = element
        self.count = count
        self.name = name
        self.loses = element.loses
        self.parts = 1 + element.parts * count
        self._make = tuple if hashable else list
        self._struct = struct.Struct(f"{mark}{count}{element.code}") if element.code else None

    def at(self, data: bytes, offset: int) -> Any:
        if self._struct is not None:
            return self._make(self._struct.unpack_from(data, offset))
        element = self.element
        return self._make([element.at(data, offset + element.size * index) for index in range(self.count)])

    def encode(self, value: Any, where: str = "") -> bytes:
        if isinstance(value, bytes | bytearray) and self.element.size == 1:
            value = list(value)
        if not isinstance(value, list | tuple):
            raise self.misfit(value, where)
        if len(value) > self.count:
            raise self.misfit(
                value, where, f": it has {len(value)} elements, and there is room for {self.count}"
            )
        parts = [self.element.encode(one, f"{where}[{index}]") for index, one in enumerate(value)]
        return b"".join(parts).ljust(self.size, b"\0")

    def settle(self, loose: Any) -> Any:
        return [self.element.settle(one) for one in loose] if isinstance(loose, list | tuple) else loose

    def plain(self, value: Iterable[Any]) -> Any:
        return [self.element.plain(one) for one in value]

    def text(self, value: Iterable[Any]) -> str:
        return "[" + ", ".join([self.element.text(one) for one in value]) + "]"


class Decoded(dict[str, Any]):
    """A structure as it was decoded: a dict that knows the bytes it was made of."""

    __slots__ = ("codec", "raw")

    codec: RecordCodec
    raw: bytes


class Fields(tuple[Any, ...]):
    """A structure as a key: a tuple whose elements have names, too.  It equals a plain tuple.

    One that was decoded knows the bytes it was made of: members of a union may leave some of them open.
    """

    _fields: tuple[str, ...] = ()
    _made_of: tuple[RecordCodec, bytes] | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self[self._fields.index(name)]
        except ValueError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return (
            "("
            + ", ".join([f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)])
            + ")"
        )

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))


def _fields_class(names: tuple[str, ...]) -> type[Fields]:
    """A class of `Fields`; members hide methods of tuples, which has some called count and index."""
    members: dict[str, Any] = {
        name: property(itemgetter(number)) for number, name in enumerate(names) if not name.startswith("_")
    }
    return type("Fields", (Fields,), {**members, "_fields": names})


class Place(NamedTuple):
    """A member: its name and where it is, `offset` in bytes, for overlaps `start` and `end` in bits."""

    name: str
    offset: int
    codec: ValueCodec
    start: int
    end: int


class RecordCodec(ValueCodec):
    """A structure, a union, or the variables of a section."""

    def __init__(self, size: int, places: list[Place], name: str, mark: str, hashable: bool) -> None:
        super().__init__(size)
        self.name = name
        self.places = _named_once(places)
        self.by_name = {place.name: place for place in self.places}
        self.names = tuple(self.by_name)
        self.parts = 1 + sum(place.codec.parts for place in self.places)
        self.overlaps = _overlaps(self.places)
        bits = sum(place.end - place.start for place in self.places)
        self.loses = bool(self.overlaps) or bits < 8 * size or any(place.codec.loses for place in self.places)
        self._key = _fields_class(self.names) if hashable else None
        self._struct = _one_struct(self.places, mark)

    def at(self, data: bytes, offset: int) -> Any:
        if self._struct is not None:
            values: Iterable[Any] = self._struct.unpack_from(data, offset)
        else:
            values = [place.codec.at(data, offset + place.offset) for place in self.places]
        if self._key is not None:
            key = self._key(values)
            key._made_of = self, bytes(data[offset : offset + self.size])
            return key
        found = Decoded(zip(self.names, values, strict=True))
        found.codec = self
        found.raw = bytes(data[offset : offset + self.size])
        return found

    def encode(self, value: Any, where: str = "") -> bytes:
        if isinstance(value, Fields) and value._made_of is not None and value._made_of[0] is self:
            return value._made_of[1]
        if isinstance(value, Decoded) and value.codec is self and len(value) == len(self.places):
            before = self.at(value.raw, 0)
            named: Mapping[str, Any] = {
                name: one for name, one in value.items() if name not in before or before[name] != one
            }
            data = bytearray(value.raw)
        else:
            named = self._by_name(value, where)
            data = bytearray(self.size)
        for name, one in named.items():
            place = self.by_name.get(name)
            if place is None:
                from difflib import get_close_matches

                close = get_close_matches(str(name), self.names, n=1)
                known = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(self.names[:16])}"
                raise UsageError(f"{where or self.name}: there is no member {name!r}", known)
            place.codec.put(data, place.offset, one, f"{where}.{name}" if where else name)
        for group in self.overlaps:
            given = [place for place in group if place.name in named]
            if len(given) > 1:
                self._agree(data, given, named, where)
        return bytes(data)

    def _by_name(self, value: Any, where: str) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        if isinstance(value, Fields) and value._fields:
            return value._asdict()
        if isinstance(value, tuple | list):
            if len(value) != len(self.names):
                raise self.misfit(
                    value, where, f": it has {len(value)} members, and there are {len(self.names)}"
                )
            return dict(zip(self.names, value, strict=True))
        raise self.misfit(value, where, hint="give a dict by the names of members")

    def _agree(self, data: bytearray, given: list[Place], named: Mapping[str, Any], where: str) -> None:
        """Members that share bytes must say the same; text, or a shorter member, leaves some of them open."""

        def meant(place: Place) -> Any:
            return place.codec.at(place.codec.encode(named[place.name]), 0)

        for last in sorted(given, key=lambda place: place.start - place.end):
            trial = bytearray(data)
            last.codec.put(trial, last.offset, named[last.name], where)
            if all(place.codec.at(bytes(trial), place.offset) == meant(place) for place in given):
                data[:] = trial
                return
        names = ", ".join(place.name for place in given)
        raise UsageError(f"{where or self.name}: {names} share their bytes and differ", "give one of them")

    def settle(self, loose: Any) -> Any:
        if isinstance(loose, dict):
            found = {}
            for name, one in loose.items():
                place = self.by_name.get(name)
                found[name] = place.codec.settle(one) if place is not None else one
            return found
        if isinstance(loose, list | tuple) and len(loose) == len(self.places):
            return [place.codec.settle(one) for place, one in zip(self.places, loose, strict=True)]
        return loose

    def plain(self, value: Any) -> Any:
        named = value if isinstance(value, dict) else dict(zip(self.names, value, strict=True))
        return {name: self.by_name[name].codec.plain(one) for name, one in named.items()}

    def text(self, value: Any) -> str:
        named = value if isinstance(value, dict) else dict(zip(self.names, value, strict=True))
        parts = [f".{name} = {self.by_name[name].codec.text(one)}" for name, one in named.items()]
        return "{" + ", ".join(parts) + "}"


class SectionCodec(RecordCodec):
    """The variables of a section such as .data; `section` is its name."""

    def __init__(self, size: int, places: list[Place], section: str, mark: str, hashable: bool) -> None:
        super().__init__(size, places, section, mark, hashable)
        self.section = section

    def plain(self, value: Any) -> Any:
        return {self.section: [{name: one} for name, one in super().plain(value).items()]}


class _Maker:
    """Makes the codecs of one BTF; a type met twice is made once."""

    def __init__(self, btf: Btf, hashable: bool) -> None:
        self.btf = btf
        self.hashable = hashable
        self.mark = "<" if btf.byteorder == "little" else ">"
        self._made: dict[int, ValueCodec] = {}

    def make(self, type_id: int, depth: int) -> ValueCodec:
        if depth > MAX_NESTING:
            raise FormatError(f"BTF: structures are nested deeper than {MAX_NESTING}")
        known = self._made.get(type_id)
        if known is None:
            known = self._make(type_id, depth)
            if known.parts > MAX_PARTS:
                raise FormatError(f"BTF: a value of type {type_id} has more than {MAX_PARTS} parts")
            self._made[type_id] = known
        return known

    def _make(self, type_id: int, depth: int) -> ValueCodec:
        btf = self.btf
        bare = btf.resolve(type_id)
        found = btf.type(bare)
        if isinstance(found, Var):
            return self.make(found.type_id, depth + 1)
        size = btf.size_of(bare)
        if isinstance(found, Int) and 0 < found.size <= 16:
            if found.is_bool:
                return BoolCodec(size, btf.byteorder, found.name)
            return NumberCodec(size, btf.byteorder, found.is_signed, self._name(type_id))
        if isinstance(found, Ptr):
            return NumberCodec(size, btf.byteorder, False, self._name(type_id), 16)
        if isinstance(found, Enumeration) and 0 < found.size <= 8:
            return EnumCodec(found, btf.byteorder, self._name(type_id))
        if isinstance(found, Float) and found.size in _FLOAT_CODES:
            return FloatCodec(size, btf.byteorder, found.name)
        if isinstance(found, Array):
            if self._is_char(found.type_id):
                return TextCodec(size, f"char[{found.count}]")
            element = self.make(found.type_id, depth + 1)
            # Elements without a size are no values, however many there are.
            count = found.count if element.size else 0
            return ArrayCodec(element, count, f"{element.name}[{count}]", self.mark, self.hashable)
        if isinstance(found, Composite):
            places = self._members(found, 0, depth)
            return RecordCodec(size, places, self._name(type_id), self.mark, self.hashable)
        if isinstance(found, Datasec):
            return SectionCodec(size, self._variables(found, depth), found.name, self.mark, self.hashable)
        return BytesCodec(size)

    def _name(self, type_id: int) -> str:
        found = self.btf.type(type_id)
        if isinstance(found, Composite | Enumeration):
            word = type(found).__name__.lower().removesuffix("64")
            return f"{word} {found.name or '{…}'}"
        from tracebee.btf.format import declaration

        name = declaration(self.btf, type_id)
        return name if len(name) < 60 else name[:59] + "…"

    def _is_char(self, type_id: int) -> bool:
        found = self.btf.type(self.btf.resolve(type_id))
        # Compilers of today say of a char that it is a number; so the name tells it.
        return isinstance(found, Int) and found.size == 1 and (found.is_char or found.name == "char")

    def _members(self, composite: Composite, base: int, depth: int) -> list[Place]:
        """The members, those of anonymous ones too; `base` is where the structure begins, in bits."""
        if depth > MAX_NESTING:
            raise FormatError(f"BTF: structures are nested deeper than {MAX_NESTING}")
        places: list[Place] = []
        for member in composite.members:
            start = base + member.bit_offset
            found = self.btf.type(self.btf.resolve(member.type_id))
            if not member.name and isinstance(found, Composite) and start % 8 == 0:
                places += self._members(found, start, depth + 1)
                if len(places) > MAX_PARTS:
                    raise FormatError(f"BTF: a structure has more than {MAX_PARTS} members")
            elif member.name:
                places.append(self._place(member.name, start, member.type_id, member.bitfield_size, depth))
        limit = base + 8 * composite.size
        for place in places:
            if place.end > limit:
                raise FormatError(f"BTF: member {place.name!r} is not inside of its structure")
        return places

    def _place(self, name: str, start: int, type_id: int, bits: int, depth: int) -> Place:
        codec = self.make(type_id, depth + 1)
        found = self.btf.type(self.btf.resolve(type_id))
        if not bits and isinstance(found, Int) and (found.bits != 8 * found.size or found.bit_offset):
            start, bits = start + found.bit_offset, found.bits  # as compilers before 2018 said it
        if not bits:
            if start % 8:
                raise FormatError(f"BTF: member {name!r} does not begin at a byte")
            return Place(name, start // 8, codec, start, start + 8 * codec.size)
        if not isinstance(codec, NumberCodec):
            raise FormatError(f"BTF: bitfield {name!r} is no number")
        offset, first = divmod(start, 8)
        size = (first + bits + 7) // 8
        # Bits are counted from the lowest one in little-endian BTF, from the highest one in big-endian.
        shift = first if self.btf.byteorder == "little" else 8 * size - first - bits
        made = BitsCodec(size, self.btf.byteorder, shift, bits, codec)
        return Place(name, offset, made, start, start + bits)

    def _variables(self, section: Datasec, depth: int) -> list[Place]:
        places = []
        for one in section.variables:
            codec = self.make(one.type_id, depth + 1)
            if codec.size != one.size:
                codec = untyped(one.size, self.btf.byteorder)
            if one.offset + one.size > section.size:
                raise FormatError(f"BTF: a variable of {section.name} is not inside of it")
            start = 8 * one.offset
            places.append(
                Place(self.btf.name_of(one.type_id), one.offset, codec, start, start + 8 * one.size)
            )
        return places


def _named_once(places: list[Place]) -> list[Place]:
    """Static variables of two functions may have one name: the second is told by a number."""
    seen: set[str] = set()
    result = []
    for place in places:
        name, number = place.name, 1
        while name in seen:
            number += 1
            name = f"{place.name}.{number}"
        seen.add(name)
        result.append(place._replace(name=name))
    return result


def _overlaps(places: list[Place]) -> list[list[Place]]:
    """Groups of members that share bits."""
    groups: list[list[Place]] = []
    end = -1
    for place in sorted(places, key=lambda one: one.start):
        if place.end == place.start:
            continue
        if place.start < end:
            groups[-1].append(place)
        else:
            groups.append([place])
        end = max(end, place.end)
    return [group for group in groups if len(group) > 1]


def _one_struct(places: list[Place], mark: str) -> struct.Struct | None:
    """All members at once, if they are numbers that lie behind each other."""
    letters = mark
    end = 0
    for place in places:
        if not place.codec.code or place.offset < end:
            return None
        letters += "x" * (place.offset - end) + place.codec.code
        end = place.offset + place.codec.size
    return struct.Struct(letters)


def _is_some(value: Any) -> bool:
    """Whether bytes can be made of it: `bytes(5)` would be five zeros."""
    return isinstance(value, bytes | bytearray | memoryview | list | tuple)


_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def quoted(text: str) -> str:
    """Text in double quotes, with escapes for what does not print; stray bytes as \\x.."""

    def one(char: str) -> str:
        if "\udc80" <= char <= "\udcff":
            return f"\\x{ord(char) - 0xDC00:02x}"
        return _ESCAPES.get(char) or (char if char.isprintable() else char.encode("unicode_escape").decode())

    return '"' + "".join(map(one, text)) + '"'
