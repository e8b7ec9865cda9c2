"""BtfBuilder: what it writes, what it shares, what it refuses."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tracebee.btf import (
    Btf,
    Enum,
    Enum64,
    EnumValue,
    Int,
    Member,
    Ptr,
    Struct,
    Type,
    Unknown,
)
from tracebee.btf.types import FUNC_STATIC, INT_BOOL, INT_SIGNED, VAR_STATIC
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import UsageError

BPFTOOL = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")


def every_kind() -> BtfBuilder:
    builder = BtfBuilder()
    number = builder.add_int("int", 4, INT_SIGNED)
    char = builder.add_int("char", 1)
    builder.add_int("_Bool", 1, INT_BOOL)
    size = builder.add_int("long unsigned int", 8)
    text = builder.add_ptr(builder.add_const(char))
    comm = builder.add_array(char, 16)
    node = builder.reserve()
    link = builder.add_ptr(node)
    members = (Member("next", link, 0), Member("comm", comm, 64), Member("flag", number, 192, 3))
    builder.define(node, Struct("node", 32, members))
    builder.add_union("value", 8, [Member("text", text, 0), Member("n", size, 0)])
    builder.add_enum("color", [("RED", 0), ("NONE", -1)])
    builder.add_enum64("wide", [("BIG", 1 << 40)])
    builder.add_fwd("opaque")
    builder.add_fwd("either", is_union=True)
    builder.add_volatile(builder.add_typedef("node_t", node))
    builder.add_restrict(link)
    proto = builder.add_func_proto(number, [("ctx", link), ("", 0)])
    builder.add_func("handler", proto)
    builder.add_func("local", proto, FUNC_STATIC)
    counter = builder.add_var("counter", size, VAR_STATIC)
    builder.add_datasec(".data", 8, [(counter, 0, 8)])
    builder.add_float("double", 8)
    builder.add_decl_tag("tag", node, 1)
    builder.add_ptr(builder.add_type_tag("user", char))
    return builder


EXPECTED = """\
[1] INT 'int' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED
[2] INT 'char' size=1 bits_offset=0 nr_bits=8 encoding=(none)
[3] INT '_Bool' size=1 bits_offset=0 nr_bits=8 encoding=BOOL
[4] INT 'long unsigned int' size=8 bits_offset=0 nr_bits=64 encoding=(none)
[5] CONST '(anon)' type_id=2
[6] PTR '(anon)' type_id=5
[7] INT 'unsigned int' size=4 bits_offset=0 nr_bits=32 encoding=(none)
[8] ARRAY '(anon)' type_id=2 index_type_id=7 nr_elems=16
[9] STRUCT 'node' size=32 vlen=3
	'next' type_id=10 bits_offset=0
	'comm' type_id=8 bits_offset=64
	'flag' type_id=1 bits_offset=192 bitfield_size=3
[10] PTR '(anon)' type_id=9
[11] UNION 'value' size=8 vlen=2
	'text' type_id=6 bits_offset=0
	'n' type_id=4 bits_offset=0
[12] ENUM 'color' encoding=SIGNED size=4 vlen=2
	'RED' val=0
	'NONE' val=-1
[13] ENUM64 'wide' encoding=UNSIGNED size=8 vlen=1
	'BIG' val=1099511627776ULL
[14] FWD 'opaque' fwd_kind=struct
[15] FWD 'either' fwd_kind=union
[16] TYPEDEF 'node_t' type_id=9
[17] VOLATILE '(anon)' type_id=16
[18] RESTRICT '(anon)' type_id=10
[19] FUNC_PROTO '(anon)' ret_type_id=1 vlen=2
	'ctx' type_id=10
	'(anon)' type_id=0
[20] FUNC 'handler' type_id=19 linkage=global
[21] FUNC 'local' type_id=19 linkage=static
[22] VAR 'counter' type_id=4, linkage=static
[23] DATASEC '.data' size=8 vlen=1
	type_id=22 offset=0 size=8 (VAR 'counter')
[24] FLOAT 'double' size=8
[25] DECL_TAG 'tag' type_id=9 component_idx=1
[26] TYPE_TAG 'user' type_id=2
[27] PTR '(anon)' type_id=26
"""


@pytest.mark.skipif(BPFTOOL is None, reason="bpftool is not installed")
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_bpftool_reads_what_was_meant(tmp_path: object, byteorder: str) -> None:
    path = f"{tmp_path}/every.btf"
    with open(path, "wb") as file:
        file.write(every_kind().to_bytes(byteorder))  # type: ignore[arg-type]
    command = [str(BPFTOOL), "btf", "dump", "file", path, "format", "raw"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == EXPECTED


def test_both_byte_orders_say_the_same() -> None:
    builder = every_kind()
    little, big = Btf.from_bytes(builder.to_bytes("little")), Btf.from_bytes(builder.to_bytes("big"))
    assert len(little) == len(big) == builder.next_id
    for type_id in range(len(little)):
        assert little.type(type_id) == big.type(type_id)
    assert builder.to_bytes() == builder.to_bytes()


def test_types_that_are_their_parts_are_shared() -> None:
    builder = BtfBuilder()
    number = builder.add_int("int", 4, INT_SIGNED)
    assert builder.add_int("int", 4, INT_SIGNED) == number
    assert builder.add_int("int", 4) != number
    for add in (builder.add_ptr, builder.add_const, builder.add_volatile, builder.add_restrict):
        assert add(number) == add(number)
    assert builder.add_const(number) != builder.add_volatile(number)
    assert builder.add_array(number, 3) == builder.add_array(number, 3)
    assert builder.add_array(number, 3) != builder.add_array(number, 4)
    params = [("a", number)]
    assert builder.add_func_proto(0, params) == builder.add_func_proto(0, params)
    assert builder.add_type_tag("user", number) == builder.add_type_tag("user", number)
    # Definitions are not: two structures may well be called the same and look the same.
    assert builder.add_struct("s", 0) != builder.add_struct("s", 0)
    assert builder.add_func("f", 0) != builder.add_func("f", 0)


def test_strings_are_kept_once() -> None:
    builder = BtfBuilder()
    assert builder.add_string("") == 0
    first = builder.add_string("int main(void)")
    assert builder.add_string("int main(void)") == first
    builder.add_int("int", 4)
    second = builder.add_string("return 0; // é")
    btf = Btf.from_bytes(builder.to_bytes())
    assert btf.string(first) == "int main(void)"
    assert btf.string(second) == "return 0; // é"
    assert btf.string(0) == ""


def test_enumerations_are_signed_when_they_need_it() -> None:
    builder = BtfBuilder()
    ids = [
        builder.add_enum("a", [("A", 1), ("B", 0xFFFFFFFF)]),
        builder.add_enum("b", [("C", -1)]),
        builder.add_enum("c", [("D", 1)], 1, signed=True),
        builder.add_enum64("d", [("E", -(1 << 63))]),
        builder.add_enum("e"),
    ]
    btf = Btf.from_bytes(builder.to_bytes())
    assert [btf.type(type_id) for type_id in ids] == [
        Enum("a", 4, False, (EnumValue("A", 1), EnumValue("B", 0xFFFFFFFF))),
        Enum("b", 4, True, (EnumValue("C", -1),)),
        Enum("c", 1, True, (EnumValue("D", 1),)),
        Enum64("d", 8, True, (EnumValue("E", -(1 << 63)),)),
        Enum("e", 4, False, ()),
    ]


def test_void_needs_no_adding() -> None:
    builder = BtfBuilder()
    assert builder.add(Btf.from_bytes(builder.to_bytes()).type(0)) == 0
    assert builder.next_id == 1


def test_more_can_be_added_after_to_bytes() -> None:
    builder = BtfBuilder()
    builder.add_int("int", 4)
    first = builder.to_bytes()
    builder.add_ptr(1)
    assert len(Btf.from_bytes(first)) == 2
    assert len(Btf.from_bytes(builder.to_bytes())) == 3


@pytest.mark.parametrize(
    "bad",
    [
        Ptr(7),
        Ptr(-1),
        Struct("s", 4, (Member("m", 9, 0),)),
        Struct("s", 4, (Member("m", 0, 1 << 24, 1),)),
        Struct("s", 4, (Member("m", 0, 0, 256),)),
        Struct("s", 1 << 32, ()),
        Struct("s", -1, ()),
        Struct("s", 4, tuple([Member("m", 0, 0)] * 0x10000)),
        Struct("a\0b", 4, ()),
        Enum("e", 4, False, (EnumValue("big", 1 << 32),)),
        Enum64("e", 4, False, (EnumValue("big", 1 << 64),)),
        Int("i", 4, 16, 32),
        Int("i", 4, 0, 256),
        Unknown(30, "new"),
    ],
)
def test_what_cannot_be_written(bad: Type) -> None:
    builder = BtfBuilder()
    builder.add(bad)
    with pytest.raises(UsageError):
        builder.to_bytes()


def test_reserved_ids() -> None:
    builder = BtfBuilder()
    node = builder.reserve()
    with pytest.raises(UsageError, match="never defined"):
        builder.to_bytes()
    builder.define(node, Ptr(node))
    assert Btf.from_bytes(builder.to_bytes()).type(node) == Ptr(node)
    for type_id in (node, 0, -1, 5):
        with pytest.raises(UsageError, match="not reserved"):
            builder.define(type_id, Ptr(0))
