"""Offsets and sizes of members."""

from __future__ import annotations

import pytest

from tracebee.btf import Btf, Member
from tracebee.btf.layout import describe, find, name_at
from tracebee.btf.types import INT_SIGNED
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError


@pytest.fixture
def builder() -> BtfBuilder:
    made = BtfBuilder()
    made.add_int("int", 4, INT_SIGNED)
    made.add_int("long unsigned int", 8)
    return made


def lines(builder: BtfBuilder, name: str) -> list[str]:
    btf = Btf.from_bytes(builder.to_bytes())
    (type_id,) = find(btf, name)
    return describe(btf, type_id).splitlines()


def test_members_holes_and_bits(builder: BtfBuilder) -> None:
    number, long = 1, 2
    inner = builder.add_struct("", 8, [Member("a", number, 0), Member("b", number, 32, 5)])
    either = builder.add_union("", 8, [Member("", inner, 0), Member("all", long, 0)])
    rows = builder.add_array(inner, 2)
    members = [
        Member("first", number, 0),
        Member("second", long, 64),
        Member("", either, 128),
        Member("rows", rows, 192),
        Member("flag", number, 320, 1),
        Member("other", number, 324, 2),
    ]
    builder.add_struct("thing", 48, members)
    assert lines(builder, "struct thing") == [
        "struct thing {                          /* 48 bytes */",
        "        int first;                      /*     0     4 */",
        "        /* 4 bytes unused */",
        "        long unsigned int second;       /*     8     8 */",
        "        union {",
        "                struct {",
        "                        int a;          /*    16     4 */",
        "                        int b:5;        /*    20:0   4 */",
        "                        /* 3 bytes and 3 bits unused */",
        "                };                      /*    16     8 */",
        "                long unsigned int all;  /*    16     8 */",
        "        };                              /*    16     8 */",
        "        struct {",
        "                int a;                  /*    24     4 */",
        "                int b:5;                /*    28:0   4 */",
        "                /* 3 bytes and 3 bits unused */",
        "        } rows[2];                      /*    24    16 */",
        "        int flag:1;                     /*    40:0   4 */",
        "        /* 3 bits unused */",
        "        int other:2;                    /*    40:4   4 */",
        "        /* 7 bytes and 2 bits unused */",
        "};",
    ]


def test_other_kinds(builder: BtfBuilder) -> None:
    builder.add_typedef("size_t", 2)
    builder.add_enum("mode", [("OFF", 0)], 1)
    anonymous = builder.add_struct("", 4, [Member("counter", 1, 0)])
    builder.add_typedef("atomic_t", anonymous)
    path = builder.add_struct("path", 4, [Member("x", 1, 0)])
    builder.add_typedef("path_t", path)
    builder.add_func("vfs_read", builder.add_func_proto(1, [("count", 2)]))
    assert lines(builder, "size_t") == ["typedef long unsigned int size_t;  /* 8 bytes */"]
    assert lines(builder, "enum mode") == [
        "enum mode {  /* 1 byte */",
        "\tOFF = 0,",
        "} __attribute__((mode(byte)));",
    ]
    assert lines(builder, "atomic_t") == [
        "struct {              /* 4 bytes */",
        "        int counter;  /*     0     4 */",
        "} atomic_t;",
    ]
    assert lines(builder, "path_t")[:3] == [
        "typedef struct path path_t;",
        "",
        "struct path {   /* 4 bytes */",
    ]
    assert lines(builder, "vfs_read") == ["int vfs_read(long unsigned int count);"]
    assert lines(builder, "int") == ["int;  /* 4 bytes */"]


def test_what_a_name_means(builder: BtfBuilder) -> None:
    struct = builder.add_struct("mode", 4)
    enum = builder.add_enum("mode", [("OFF", 0)])
    btf = Btf.from_bytes(builder.to_bytes())
    assert find(btf, "mode") == [struct, enum]
    assert find(btf, "enum mode") == [enum]
    assert find(btf, " struct  mode ") == [struct]
    assert find(btf, "union mode") == []
    assert find(btf, "long unsigned int") == [2]


def test_structures_in_themselves(builder: BtfBuilder) -> None:
    from tracebee.btf.types import Struct

    at = builder.reserve()
    builder.define(at, Struct("", 4, (Member("again", at, 0),)))
    builder.add_typedef("loop_t", at)
    btf = Btf.from_bytes(builder.to_bytes())
    with pytest.raises(FormatError):
        describe(btf, at)


def test_what_lies_at_an_offset(builder: BtfBuilder) -> None:
    inner = builder.add_struct("inner", 8, [Member("a", 1, 0), Member("b", 1, 32)])
    either = builder.add_union("", 8, [Member("n", 2, 0), Member("in", inner, 0)])
    rows = builder.add_array(inner, 3)
    outer = builder.add_struct(
        "outer", 40, [Member("bit", 1, 0, 1), Member("", either, 64), Member("rows", rows, 128)]
    )
    first = builder.add_var("first", 1)
    second = builder.add_var("second", builder.add_const(outer))
    section = builder.add_datasec(".data", 48, [(first, 0, 4), (second, 8, 40)])
    btf = Btf.from_bytes(builder.to_bytes())
    places = {0: "first", 2: "first+2", 8: "second", 16: "second.n", 20: "second.n+4", 24: "second.rows"}
    places |= {32: "second.rows[1]", 36: "second.rows[1].b", 37: "second.rows[1].b+1", 5: "+5", 48: "+48"}
    places |= {18: "second.n+2", 12: "second+4"}
    assert {offset: name_at(btf, section, offset) for offset in places} == places
    assert name_at(btf, outer, 0) == ""
    assert name_at(btf, outer, 24) == ".rows[1]"
    assert name_at(btf, 1, 0) == ""
