"""Bytes to Python values, by type; what comes out is described in tracebee.spec.values.

For every type a decoder is built once: a code of the struct module for the bytes, and a function for what
the code gives, or None where that is the value already.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from tracebee.spec.types import (
    Array,
    Bool,
    Buffer,
    CgroupPath,
    Enum,
    Field,
    Inet,
    Int,
    KSym,
    MacAddr,
    Named,
    Pointer,
    Record,
    Stack,
    Str,
    Struct,
    Timestamp,
    Tuple,
    Type,
    Username,
    USym,
    Void,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.session.names import Names

Convert = "Callable[[Any], Any] | None"

_INTEGER_CODES = {
    (1, True): "b",
    (1, False): "B",
    (2, True): "h",
    (2, False): "H",
    (4, True): "i",
    (4, False): "I",
    (8, True): "q",
    (8, False): "Q",
}


class Decoder:
    """Builds and keeps the decoders of types.

    `trailer` is put behind strings that were cut; `names` turns numbers into names.
    """

    def __init__(self, names: Names, trailer: str = "") -> None:
        self.names = names
        self.trailer = trailer
        self._made: dict[Type, tuple[str, Callable[[Any], Any] | None]] = {}

    def item(self, type_: Type) -> tuple[str, Callable[[Any], Any] | None]:
        """The struct code of a type's bytes and what to do with the item."""
        made = self._made.get(type_)
        if made is None:
            made = self._made[type_] = self._make(type_)
        return made

    def function(self, type_: Type) -> Callable[[bytes], Any]:
        """A function from exactly the bytes of a value to the value."""
        code, convert = self.item(type_)
        shape = struct.Struct("=" + code)
        if shape.size == 0:
            return lambda data: empty_value(type_)
        if convert is None:
            return lambda data: shape.unpack_from(data)[0]
        return lambda data: convert(shape.unpack_from(data)[0])

    def text(self, data: bytes) -> str:
        """A string out of its bytes: up to the NUL, with the trailer if there is none."""
        end = data.find(b"\0")
        if end < 0:
            return data.decode("utf-8", "surrogateescape") + self.trailer
        return data[:end].decode("utf-8", "surrogateescape")

    def _make(self, type_: Type) -> tuple[str, Callable[[Any], Any] | None]:
        names = self.names
        match type_:
            case Int() | Enum():
                return _INTEGER_CODES[type_.size, type_.signed], None
            case Bool():
                return "?", None
            case Pointer():
                return "Q", None
            case Str(capacity):
                return f"{capacity}s", self._cached_text()
            case Buffer(capacity):
                return f"{4 + capacity}s", _buffer
            case Void():
                return f"{type_.size}s", lambda data: None
            case KSym():
                return "Q", names.kernel_symbol
            case USym():
                return "16s", lambda data: names.user_symbol(*struct.unpack("=QI4x", data))
            case Stack():
                return "16s", lambda data: names.stack(type_, *struct.unpack("=QII", data))
            case Timestamp():
                return "16s", lambda data: names.time(*struct.unpack("=QII", data))
            case Inet():
                return "20s", names.internet
            case MacAddr():
                return "6s", lambda data: ":".join(f"{byte:02X}" for byte in data)
            case Username():
                return "I", names.user
            case CgroupPath():
                return "16s", lambda data: names.cgroup(*struct.unpack("=QI4x", data))
            case Named(table):
                return "q", names.table(table)
            case Array(element, count):
                return self._array(element, count)
            case Tuple(elements):
                parts = self._parts(list(zip(type_.offsets, elements, strict=True)))
                return f"{type_.size}s", lambda data: tuple([part(data) for part in parts])
            case Record(keys, elements):
                return self._mapping(type_.size, keys, list(zip(type_.offsets, elements, strict=True)))
            case Struct():
                return self._struct(type_)
        raise AssertionError(type_)

    def _cached_text(self) -> Callable[[bytes], str]:
        """Strings repeat: names of processes, paths."""
        kept: dict[bytes, str] = {}

        def convert(data: bytes) -> str:
            text = kept.get(data)
            if text is None:
                if len(kept) > 10_000:
                    kept.clear()
                text = kept[data] = self.text(data)
            return text

        return convert

    def _parts(self, places: list[tuple[int, Type]]) -> list[Callable[[bytes], Any]]:
        """A function for each element, from the bytes of the whole to the element."""
        return [self._part(offset, type_) for offset, type_ in places]

    def _part(self, offset: int, type_: Type) -> Callable[[bytes], Any]:
        code, convert = self.item(type_)
        shape = struct.Struct("=" + code)
        if shape.size == 0:
            return lambda data: empty_value(type_)
        unpack = shape.unpack_from
        if convert is None:
            return lambda data: unpack(data, offset)[0]
        return lambda data: convert(unpack(data, offset)[0])

    def _array(self, element: Type, count: int) -> tuple[str, Callable[[Any], Any]]:
        code, convert = self.item(element)
        shape = struct.Struct("=" + code)
        if shape.size == 0:
            return "0s", lambda data: [empty_value(element) for _ in range(count)]
        if convert is None:
            return f"{shape.size * count}s", lambda data: [item for (item,) in shape.iter_unpack(data)]
        return f"{shape.size * count}s", lambda data: [convert(item) for (item,) in shape.iter_unpack(data)]

    def _mapping(
        self, size: int, keys: tuple[str, ...], places: list[tuple[int, Type]]
    ) -> tuple[str, Callable[[Any], Any]]:
        parts = self._parts(places)
        return f"{size}s", lambda data: {key: part(data) for key, part in zip(keys, parts, strict=True)}

    def _struct(self, type_: Struct) -> tuple[str, Callable[[Any], Any]]:
        keys: list[str] = []
        parts: list[Callable[[bytes], Any]] = []
        self._collect(type_, 0, keys, parts)
        return f"{type_.size}s", lambda data: {key: part(data) for key, part in zip(keys, parts, strict=True)}

    def _collect(
        self, type_: Struct, base: int, keys: list[str], parts: list[Callable[[bytes], Any]]
    ) -> None:
        for field in type_.fields:
            if not field.name and isinstance(field.type, Struct):
                self._collect(field.type, base + field.offset, keys, parts)
            elif field.name:
                keys.append(field.name)
                parts.append(self._field(field, base))

    def _field(self, field: Field, base: int) -> Callable[[bytes], Any]:
        if field.bits:
            return _bitfield(field, base)
        return self._part(base + field.offset, field.type)


def empty_value(type_: Type) -> Any:
    """The value of a type that takes no bytes."""
    match type_:
        case Tuple(elements):
            return tuple([empty_value(element) for element in elements])
        case Array(element, count):
            return [empty_value(element) for _ in range(count)]
        case Record(names, elements):
            return {name: empty_value(element) for name, element in zip(names, elements, strict=True)}
        case Struct():
            return {field.name: empty_value(field.type) for field in type_.fields if field.name}
        case Str():
            return ""
    return None


def _buffer(data: bytes) -> bytes:
    length = int.from_bytes(data[:4], "little")
    return data[4 : 4 + length]


def _bitfield(field: Field, base: int) -> Callable[[bytes], int]:
    start = base + field.offset
    size = max(1, field.type.size)
    while field.bit_offset + field.bits > size * 8:
        size *= 2
    mask = (1 << field.bits) - 1
    sign = 1 << (field.bits - 1) if isinstance(field.type, Int | Enum) and field.type.signed else 0

    def convert(data: bytes) -> int:
        value = int.from_bytes(data[start : start + size], "little") >> field.bit_offset & mask
        return value - (sign << 1) if value & sign else value

    return convert
