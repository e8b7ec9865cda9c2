"""Bytes to values: every type, and records one by one or in runs."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tracebee.session.decode import Decoder
from tracebee.session.names import Names
from tracebee.spec.objects import Schema
from tracebee.spec.types import (
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Array,
    Bool,
    Buffer,
    CgroupPath,
    Enum,
    Field,
    Inet,
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


class Spoken(Names):
    """Names that say what they were asked."""

    def __init__(self) -> None:
        super().__init__(Schema(), lambda stack_id: None)

    def kernel_symbol(self, address: int) -> str:
        return f"ksym {address:x}"

    def user_symbol(self, address: int, pid: int) -> str:
        return f"usym {address:x} of {pid}"

    def stack(self, type_: Stack, stack_id: int, pid: int, count: int) -> Any:
        return ("stack", type_.user, stack_id, pid, count)

    def time(self, nanoseconds: int, pattern: int, clock: int) -> str:
        return f"time {nanoseconds} {pattern} {clock}"

    def user(self, uid: int) -> str:
        return f"user {uid}"

    def cgroup(self, cgroup_id: int, pattern: int) -> str:
        return f"cgroup {cgroup_id} {pattern}"


def decoded(type_: Type, data: bytes, trailer: str = "..") -> Any:
    return Decoder(Spoken(), trailer).function(type_)(data)


def struct_of(*fields: Field, size: int, name: str = "s") -> Struct:
    return Struct("struct", name, size, 8, None, lambda: fields)


INNER = struct_of(Field("x", INT8, 0), Field("y", INT8, 1), size=2, name="")
UNION = Struct("union", "", 4, 4, None, lambda: (Field("u", UINT32, 0), Field("b", Array(UINT8, 4), 0)))


@pytest.mark.parametrize(
    ("type_", "data", "value"),
    [
        (INT8, b"\xff", -1),
        (UINT8, b"\xff", 255),
        (INT16, b"\x00\x80", -32768),
        (UINT16, b"\x01\x02", 0x201),
        (INT32, b"\xfe\xff\xff\xff", -2),
        (UINT32, b"\xfe\xff\xff\xff", 2**32 - 2),
        (INT64, b"\xff" * 8, -1),
        (UINT64, b"\xff" * 8, 2**64 - 1),
        (Bool(), b"\0", False),
        (Bool(), b"\x02", True),
        (Enum("e", 4, True, ((-1, "NO"),)), b"\xff" * 4, -1),
        (Enum("e", 1, False, ()), b"\xff", 255),
        (Pointer(Void()), b"\x10" + bytes(6) + b"\xff", 0xFF00_0000_0000_0010),
        (Str(8), b"ab\0junk!", "ab"),
        (Str(4), b"abcd", "abcd.."),
        (Str(4), b"\0bcd", ""),
        (Str(4), b"a\xff\0\0", "a\udcff"),
        (Str(0), b"", ""),
        (Buffer(4), b"\x02\0\0\0abcd", b"ab"),
        (Buffer(4), b"\0\0\0\0abcd", b""),
        (Buffer(4), b"\xff\xff\xff\xffabcd", b"abcd"),
        (Void(), b"", None),
        (Void(4), b"abcd", None),
        (KSym(), struct.pack("=Q", 0xFFFF_0000), "ksym ffff0000"),
        (USym(), struct.pack("=QII", 0x1000, 77, 0), "usym 1000 of 77"),
        (Stack(True, "perf", 9), struct.pack("=QII", 5, 77, 3), ("stack", True, 5, 77, 3)),
        (Timestamp(), struct.pack("=QII", 10**18, 2, 1), f"time {10**18} 2 1"),
        (Username(), struct.pack("=I", 1000), "user 1000"),
        (CgroupPath(), struct.pack("=QII", 7, 1, 0), "cgroup 7 1"),
        (Inet(), struct.pack("=I4s12x", 2, bytes((127, 0, 0, 1))), "127.0.0.1"),
        (Inet(), struct.pack("=I16s", 10, bytes(15) + b"\x01"), "::1"),
        (MacAddr(), bytes((0, 0x1B, 0xFF, 1, 2, 3)), "00:1B:FF:01:02:03"),
        (Named("signal"), struct.pack("=q", 9), "Killed"),
        (Named("strerror"), struct.pack("=q", -2), "No such file or directory"),
        (Array(INT16, 3), struct.pack("=3h", 1, -2, 3), [1, -2, 3]),
        (Array(Str(2), 2), b"a\0b\0", ["a", "b"]),
        (Array(INT64, 0), b"", []),
        (Array(Tuple(()), 2), b"", [(), ()]),
        (Array(Array(UINT8, 2), 2), b"\1\2\3\4", [[1, 2], [3, 4]]),
        (Tuple(()), b"", ()),
        (Tuple((INT8, INT64)), struct.pack("=b7xq", -1, -2), (-1, -2)),
        (Tuple((INT32, Tuple((Str(4), INT8)))), struct.pack("=i4sb3x", 1, b"ab", 7), (1, ("ab", 7))),
        (Tuple((INT8, Tuple(()))), b"\x05", (5, ())),
        (Record((), ()), b"", {}),
        (Record(("a",), (Tuple((Tuple(()),)),)), b"", {"a": ((),)}),
        (struct_of(Field("flex", Array(INT32, 0), 0), size=0), b"", {"flex": []}),
        (Record(("a", "b"), (INT8, INT32)), struct.pack("=b3xi", 1, 2), {"a": 1, "b": 2}),
        (struct_of(size=0), b"", {}),
        (
            struct_of(Field("a", INT32, 0), Field("flex", Array(INT32, 0), 4), Field("f", Void(), 4), size=4),
            struct.pack("=i", 5),
            {"a": 5, "flex": [], "f": None},
        ),
        (
            struct_of(Field("a", INT16, 0), Field("", INNER, 2), Field("", UNION, 4), size=8),
            b"\x01\x00\x02\xfd\x01\x02\x03\x04",
            {"a": 1, "x": 2, "y": -3, "u": 0x04030201, "b": [1, 2, 3, 4]},
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Type) else "",
)
def test_values(type_: Type, data: bytes, value: Any) -> None:
    found = decoded(type_, data)
    assert found == value
    assert type(found) is type(value)


def test_bitfields() -> None:
    type_ = struct_of(
        Field("a", UINT32, 0, bits=3),
        Field("b", UINT32, 0, bits=5, bit_offset=3),
        Field("s", INT32, 0, bits=4, bit_offset=8),
        Field("wide", UINT8, 3, bits=7, bit_offset=4),
        size=8,
    )
    word = 0b101 | 0b11011 << 3 | 0b1001 << 8
    data = word.to_bytes(3, "little") + (0b1010101 << 4).to_bytes(2, "little") + bytes(3)
    assert decoded(type_, data) == {"a": 0b101, "b": 0b11011, "s": -7, "wide": 0b1010101}


def test_a_value_in_a_larger_one_is_converted_too() -> None:
    data = struct.pack("=QII", 0x10, 7, 0)
    assert decoded(Tuple((USym(), KSym())), data + struct.pack("=Q", 0x20)) == ("usym 10 of 7", "ksym 20")


def test_a_decoder_is_made_once_for_a_type() -> None:
    decoder = Decoder(Spoken())
    first = decoder.item(Tuple((INT32, Str(16))))
    assert decoder.item(Tuple((INT32, Str(16)))) is first
    assert decoder.item(Str(16)) is decoder.item(Str(16))


def test_strings_are_kept() -> None:
    """Names of processes repeat: the same bytes give the same object."""
    text = Decoder(Spoken()).function(Str(16))
    assert text(b"process-name\0\0\0\0") is text(b"process-name\0\0\0\0")


def test_many_strings_are_not_kept_for_ever() -> None:
    decoder = Decoder(Spoken())
    text = decoder.function(Str(8))
    for number in range(30_000):
        assert text(b"%07d\0" % number) == f"{number:07}"
    convert = decoder.item(Str(8))[1]
    assert convert is not None
    (kept,) = (cell.cell_contents for cell in convert.__closure__ or () if type(cell.cell_contents) is dict)
    assert len(kept) < 11_000


def test_a_structure_that_points_to_itself() -> None:
    node = Struct("struct", "node", 16, 8, None, lambda: (Field("next", Pointer(node), 0),))
    assert decoded(node, struct.pack("=QQ", 5, 0)) == {"next": 5}
