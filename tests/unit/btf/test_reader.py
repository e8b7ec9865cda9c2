"""The lazy reader: index, lookups, split BTF, byte orders, and bytes that make no sense."""

from __future__ import annotations

import struct

import pytest

from tracebee.btf import (
    VOID,
    Array,
    Btf,
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
from tracebee.btf.reader import MAX_NAME
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError, SyscallError


def raw(words: list[int], strings: bytes = b"\0", order: str = "<", header_extra: bytes = b"") -> bytes:
    """BTF made of the words of its type section."""
    types = struct.pack(f"{order}{len(words)}I", *words)
    header = struct.pack(
        f"{order}HBBIIIII", 0xEB9F, 1, 0, 24 + len(header_extra), 0, len(types), len(types), len(strings)
    )
    return header + header_extra + types + strings


def info(kind: int, count: int = 0, flag: bool = False) -> int:
    return flag << 31 | kind << 24 | count


INT = [1, info(1), 4, 1 << 24 | 32]  # an `int` whose name is at offset 1
INT_STRINGS = b"\0int\0"

EVERY_KIND = [
    # words, the value that they mean; the name "name" is at 1, "other" at 6
    ([1, info(1), 4, 0x0103_0020], Int("name", 4, 1, 32, 3)),
    ([0, info(2), 1], Ptr(1)),
    ([0, info(3), 0, 1, 2, 7], Array(1, 2, 7)),
    ([1, info(4, 2), 8, 6, 1, 0, 0, 1, 32], Struct("name", 8, (Member("other", 1, 0), Member("", 1, 32)))),
    ([1, info(4, 1, True), 4, 6, 1, 3 << 24 | 5], Struct("name", 4, (Member("other", 1, 5, 3),))),
    ([0, info(5, 1), 4, 6, 1, 0], Union("", 4, (Member("other", 1, 0),))),
    ([1, info(6, 1), 4, 6, 0xFFFFFFFF], Enum("name", 4, False, (EnumValue("other", 0xFFFFFFFF),))),
    ([1, info(6, 1, True), 4, 6, 0xFFFFFFFF], Enum("name", 4, True, (EnumValue("other", -1),))),
    ([1, info(7), 0], Fwd("name", False)),
    ([1, info(7, 0, True), 0], Fwd("name", True)),
    ([1, info(8), 2], Typedef("name", 2)),
    ([0, info(9), 2], Volatile(2)),
    ([0, info(10), 2], Const(2)),
    ([0, info(11), 2], Restrict(2)),
    ([1, info(12, 1), 2], Func("name", 2, 1)),
    ([0, info(13, 2), 1, 6, 2, 0, 0], FuncProto(1, (Param("other", 2), Param("", 0)))),
    ([1, info(14), 1, 2], Var("name", 1, 2)),
    ([1, info(15, 1), 8, 1, 4, 2], Datasec("name", 8, (VarSecinfo(1, 4, 2),))),
    ([1, info(16), 8], Float("name", 8)),
    ([1, info(17), 2, 0xFFFFFFFF], DeclTag("name", 2, -1)),
    ([1, info(17, 0, True), 2, 1], DeclTag("name", 2, 1, True)),
    ([1, info(18), 2], TypeTag("name", 2)),
    (
        [1, info(19, 2), 8, 6, 1, 0x80000000, 1, 5, 0],
        Enum64("name", 8, False, (EnumValue("other", 1 | 1 << 63), EnumValue("name", 5))),
    ),
    ([1, info(19, 1, True), 8, 6, 0, 0x80000000], Enum64("name", 8, True, (EnumValue("other", -1 << 63),))),
]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("words", "value"), EVERY_KIND, ids=lambda x: type(x).__name__)
def test_reads_every_kind(words: list[int], value: Type, order: str) -> None:
    filler = [0, info(2), 0]
    btf = Btf.from_bytes(raw([*filler, *filler, *words, *filler], b"\0name\0other\0", order))
    assert len(btf) == 5
    assert btf.type(3) == value
    assert btf.type(4) == Ptr(0)
    assert btf.name_of(3) == value.name
    assert btf.kind_of(3) == value.KIND
    assert btf.byteorder == ("little" if order == "<" else "big")


def test_void_is_always_there() -> None:
    btf = Btf.from_bytes(raw([]))
    assert len(btf) == 1
    assert btf.type(0) is VOID
    assert btf.name_of(0) == "" and btf.kind_of(0) == 0
    assert btf.size_of(0) == 0 and btf.align_of(0) == 1 and btf.resolve(0) == 0


def test_types_are_made_once() -> None:
    btf = Btf.from_bytes(raw(INT, INT_STRINGS))
    assert btf.type(1) is btf.type(1)


def sample() -> BtfBuilder:
    """A small kernel."""
    builder = BtfBuilder()
    builder.add_int("int", 4, 1)
    builder.add_int("long unsigned int", 8)
    builder.add_struct("file", 4, [Member("pos", 1, 0)])
    builder.add_func("file", builder.add_func_proto(0))
    builder.add_enum("color", [("RED", 0), ("GREEN", 5)])
    builder.add_enum64("", [("HUGE", 1 << 40), ("LARGE", 1 << 33)])
    builder.add_enum("other", [("RED", 7), ("BLUE", -2)])
    return builder


def test_find_takes_the_first_or_that_of_a_kind() -> None:
    btf = Btf.from_bytes(sample().to_bytes())
    assert btf.find("file") == 3
    assert btf.find("file", Struct) == 3
    assert btf.find("file", Composite) == 3
    assert btf.find("file", Func) == 5
    assert btf.find("file", (Union, Func)) == 5
    assert btf.find("file", Union) is None
    assert btf.find_all("file") == [3, 5]
    assert btf.find_all("file", Func) == [5]


@pytest.mark.parametrize("name", ["", "fil", "ile", "file\0", "\0", "no such", "é"])
def test_find_of_what_is_not_there(name: str) -> None:
    btf = Btf.from_bytes(sample().to_bytes())
    assert btf.find(name) is None
    assert btf.find_all(name) == []
    assert btf.find_enumerator(name) is None


def test_find_does_not_inflate() -> None:
    # The second type refers to one that is not there, which only inflating it notices.
    btf = Btf.from_bytes(raw([*INT, 5, info(8), 99], b"\0int\0bad_t\0"))
    assert btf.find("bad_t", Typedef) == 2
    assert list(btf.names_of_kind((Int, Typedef))) == [(1, "int"), (2, "bad_t")]
    with pytest.raises(FormatError, match="reference to type 99") as caught:
        btf.type(2)
    assert caught.value.offset == 24 + 4 * 6


def test_a_name_may_be_the_tail_of_another() -> None:
    btf = Btf.from_bytes(raw([*INT, 8, info(7), 0, 5, info(7), 0], b"\0int\0my_int\0"))
    assert btf.name_of(2) == "int"
    assert btf.find_all("int") == [1, 2]
    assert btf.find_all("my_int") == [3]
    assert btf.find("int", Fwd) == 2


def test_a_name_may_be_stored_twice() -> None:
    btf = Btf.from_bytes(raw([5, info(7), 0, *INT, 5, info(7), 0], b"\0int\0int\0"))
    assert btf.find_all("int") == [1, 2, 3]


def test_names_are_found_whatever_their_bytes() -> None:
    btf = Btf.from_bytes(raw([1, info(7), 0], b"\0\xffx\0"))
    assert btf.name_of(1) == "\udcffx"
    assert btf.find("\udcffx") == 1
    assert list(btf.names_of_kind(Fwd)) == [(1, "\udcffx")]


def test_find_when_offsets_look_like_each_other() -> None:
    # 256 types, so that the bytes of one offset appear across the boundary of two others.
    builder = BtfBuilder()
    for number in range(2000):
        builder.add_typedef(f"t{number}", 0)
    btf = Btf.from_bytes(builder.to_bytes())
    for number in range(2000):
        assert btf.find_all(f"t{number}") == [number + 1]


def test_enumerators() -> None:
    btf = Btf.from_bytes(sample().to_bytes())
    assert btf.find_enumerator("RED") == (6, 0)
    assert btf.find_enumerator("GREEN") == (6, 5)
    assert btf.find_enumerator("LARGE") == (7, 1 << 33)
    assert btf.find_enumerator("BLUE") == (8, -2)
    assert btf.find_enumerator("file") is None


def test_ids_and_names_of_kind() -> None:
    btf = Btf.from_bytes(sample().to_bytes())
    assert list(btf.ids_of_kind(Int)) == [1, 2]
    assert list(btf.ids_of_kind((Int, Func))) == [1, 2, 5]
    assert list(btf.ids_of_kind(Enumeration)) == [6, 7, 8]
    assert list(btf.names_of_kind(Enumeration)) == [(6, "color"), (8, "other")]
    assert list(btf.ids_of_kind(Float)) == []


def test_split_btf_continues_its_base() -> None:
    base = Btf.from_bytes(sample().to_bytes())
    builder = BtfBuilder(base)
    builder.add_struct("my_module", 8, [Member("f", builder.add_ptr(3), 0)])
    builder.add_enum("", [("MINE", 3)])
    assert builder.next_id == len(base) + 3
    data = builder.to_bytes()
    # Another type of the module has its name in the base: struct "file" once more.
    file_name = next(offset for offset in range(base.strings_end) if base.string(offset) == "file")
    words = struct.pack("=III", file_name, info(4), 0)
    start, size = struct.unpack_from("=II", data, 16)
    data = data[:8] + struct.pack("=IIII", 0, start + 12, start + 12, size) + data[24 : 24 + start] + words
    btf = Btf.from_bytes(data + builder.to_bytes()[24 + start :], base)

    first = len(base)
    assert btf.first_id == first and len(btf) == first + 4
    assert btf.type(3) is base.type(3)
    assert btf.type(first + 1) == Struct("my_module", 8, (Member("f", first, 0),))
    assert btf.name_of(first + 3) == "file" and btf.name_of(3) == "file"
    assert btf.find("file") == 3
    assert btf.find_all("file") == [3, 5, first + 3]
    assert btf.find("my_module") == first + 1 and base.find("my_module") is None
    assert btf.find_enumerator("MINE") == (first + 2, 3)
    assert btf.find_enumerator("RED") == (6, 0)
    assert list(btf.ids_of_kind(Struct)) == [3, first + 1, first + 3]
    assert list(btf.names_of_kind(Struct, own=True)) == [(first + 1, "my_module"), (first + 3, "file")]
    assert btf.size_of(first) == 8 and btf.align_of(first + 1) == 8
    with pytest.raises(FormatError, match=f"no type {first + 4}"):
        btf.type(first + 4)
    with pytest.raises(FormatError):
        btf.string(btf.strings_end)


def test_split_btf_may_share_the_tail_of_a_base_string() -> None:
    base = Btf.from_bytes(raw(INT, b"\0int\0my_int\0"))
    btf = Btf.from_bytes(raw([8, info(7), 0], b""), base)
    assert btf.name_of(2) == "int"
    assert btf.find_all("int") == [1, 2]


def test_resolve_and_size_look_through_names_and_qualifiers() -> None:
    builder = BtfBuilder()
    number = builder.add_int("long unsigned int", 8)
    tagged = builder.add_type_tag("user", builder.add_const(builder.add_typedef("u64", number)))
    table = builder.add_array(builder.add_array(tagged, 3), 5)
    btf = Btf.from_bytes(builder.to_bytes())
    assert btf.resolve(tagged) == number
    assert btf.resolve(table) == table
    assert btf.size_of(tagged) == 8
    assert btf.size_of(table) == 120
    assert btf.align_of(table) == 8


@pytest.mark.parametrize(("long_size", "pointer_size"), [(4, 4), (8, 8), (2, 8)])
def test_pointer_size_is_that_of_long(long_size: int, pointer_size: int) -> None:
    builder = BtfBuilder()
    builder.add_int("long unsigned int", long_size)
    pointer = builder.add_ptr(0)
    wide = builder.add_int("long long unsigned int", 8)
    btf = Btf.from_bytes(builder.to_bytes())
    assert btf.pointer_size == pointer_size
    assert btf.size_of(pointer) == pointer_size
    assert btf.align_of(wide) == pointer_size


def test_what_has_no_size() -> None:
    builder = BtfBuilder()
    proto = builder.add_func_proto(0)
    ids = [proto, builder.add_func("f", proto), builder.add_fwd("opaque"), builder.add_decl_tag("t", proto)]
    btf = Btf.from_bytes(builder.to_bytes())
    assert [btf.size_of(id_) for id_ in ids] == [0, 0, 0, 0]
    assert [btf.align_of(id_) for id_ in ids] == [1, 1, 1, 1]


def test_packed_structures() -> None:
    builder = BtfBuilder()
    byte, word = builder.add_int("char", 1), builder.add_int("int", 4)
    plain = builder.add_struct("plain", 8, [Member("c", byte, 0), Member("i", word, 32)])
    moved = builder.add_struct("moved", 8, [Member("c", byte, 0), Member("i", word, 8)])
    short = builder.add_struct("short", 5, [Member("i", word, 0), Member("c", byte, 32)])
    bits = builder.add_struct("bits", 4, [Member("a", word, 3, 5), Member("b", word, 8, 2)])
    btf = Btf.from_bytes(builder.to_bytes())
    assert [btf.is_packed(i) for i in (plain, moved, short, bits)] == [False, True, True, False]
    assert [btf.align_of(i) for i in (plain, moved, short, bits)] == [4, 1, 1, 4]
    assert not btf.is_packed(word)


def test_a_long_double_of_twelve_bytes() -> None:
    builder = BtfBuilder()
    number = builder.add_float("long double", 12)
    assert Btf.from_bytes(builder.to_bytes()).align_of(number) == 4


def test_longer_headers_and_bits_of_newer_kernels() -> None:
    # Linux 7.1: seven bits of kind, 24 of element count, and a section that tells the size of each kind.
    layout = bytes(4 * 32) + bytes((4, 8, 0, 0))  # kind 32: one word, and two for each element
    words = [1, info(32, 2), 0, 11, 12, 13, 14, 15, *INT]
    types = struct.pack(f"<{len(words)}I", *words)
    strings = INT_STRINGS + b"\0\0\0"
    sections = (0, len(types), len(types), len(strings), len(types) + len(strings), len(layout))
    data = struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, *sections) + types + strings + layout
    btf = Btf.from_bytes(data)
    assert btf.type(1) == Unknown(32, "int")
    assert isinstance(btf.type(2), Int)
    assert btf.size_of(1) == 0 and btf.align_of(1) == 1

    count = 0x10000
    members = [0, 1, 0] * count
    btf = Btf.from_bytes(raw([*INT, 0, info(5, count), 4, *members], INT_STRINGS))
    union = btf.type(2)
    assert isinstance(union, Union) and len(union.members) == count


BAD_HEADERS = [
    (b"", 0, "too few"),
    (b"\x9f\xeb\x01", 0, "too few"),
    (b"\x7fELF" + bytes(60), 0, "magic"),
    (raw([])[:2] + b"\2" + raw([])[3:], 2, "version"),
    (raw([])[:3] + b"\1" + raw([])[4:], 3, "flags"),
    (raw([])[:4] + struct.pack("<I", 23) + raw([])[8:], 4, "header size"),
    (raw([])[:4] + struct.pack("<I", 1 << 31) + raw([])[8:], 4, "header size"),
    (raw([0, info(2), 0])[:-6], 8, "type section reaches"),
    (raw([0, info(2), 0])[:-1], 16, "string section reaches"),
    (raw([], b"\0abc"), 24, "NUL"),
    (raw([], b"abc\0"), 24, "NUL"),
    (raw([], b""), 24, "NUL"),
    (raw([1]), 24, "cut short"),
    (raw([0, info(2)]), 24, "cut short"),
    (raw([0, info(2), 0, 0, info(4, 5), 0, 0]), 36, "cut short"),
    (raw([0, info(4, 0xFFFFFF), 0]), 24, "cut short"),
    (raw([0, info(20), 0]), 28, "unknown kind 20"),
    (raw([0, info(0), 0]), 28, "unknown kind 0"),
    (raw([0, info(2), 0, 0, info(127), 0]), 40, "unknown kind 127"),
    (raw([])[:12] + struct.pack("<III", 2, 0, 0) + b"\0\0", None, "whole words|NUL"),
]


@pytest.mark.parametrize(("data", "offset", "message"), BAD_HEADERS)
def test_bad_bytes_are_one_format_error(data: bytes, offset: int | None, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        Btf.from_bytes(data)
    if offset is not None:
        assert caught.value.offset == offset


BAD_TYPES = [
    ([0, info(2), 2], 32, "reference to type 2"),
    ([0, info(3), 0, 5, 0, 1], 36, "reference to type 5"),
    ([0, info(3), 0, 0, 5, 1], 40, "reference to type 5"),
    ([0, info(4, 2), 4, 0, 0, 0, 0, 7, 0], 52, "reference to type 7"),
    ([0, info(13, 1), 0, 0, 9], 40, "reference to type 9"),
    ([0, info(15, 1), 0, 9, 0, 0], 36, "reference to type 9"),
    ([8, info(16), 4], 24, "behind all strings"),
    ([0, info(4, 1), 4, 99, 0, 0], 36, "behind all strings"),
    ([0, info(6, 1), 4, 99, 0], 36, "behind all strings"),
]


@pytest.mark.parametrize(("words", "offset", "message"), BAD_TYPES)
def test_bad_types_are_found_when_asked_for(words: list[int], offset: int, message: str) -> None:
    btf = Btf.from_bytes(raw(words))
    with pytest.raises(FormatError, match=message) as caught:
        btf.type(1)
    assert caught.value.offset == offset


@pytest.mark.parametrize("type_id", [-1, -(1 << 40), 2, 1 << 40])
def test_ids_that_are_not_there(type_id: int) -> None:
    btf = Btf.from_bytes(raw(INT, INT_STRINGS))
    for ask in (btf.type, btf.name_of, btf.kind_of, btf.size_of, btf.align_of, btf.resolve):
        with pytest.raises(FormatError, match="no type"):
            ask(type_id)


@pytest.mark.parametrize(
    "words",
    [
        [1, info(8), 1],  # typedef of itself
        [0, info(10), 2, 0, info(9), 1],  # const volatile const ...
        [0, info(3), 0, 1, 1, 0],  # array of itself
        [0, info(14), 1, 0],  # variable of itself
        [word for number in range(2, 500) for word in (0, info(10), number)] + [0, info(2), 0],
    ],
)
def test_chains_that_do_not_end(words: list[int]) -> None:
    btf = Btf.from_bytes(raw(words, b"\0t\0"))
    for ask in (btf.size_of, btf.align_of):
        with pytest.raises(FormatError, match="itself or is nested") as caught:
            ask(1)
        assert caught.value.offset == 24


def test_structures_that_contain_themselves() -> None:
    btf = Btf.from_bytes(raw([0, info(4, 2), 4, 0, 1, 0, 0, 1, 32]))
    for _ in range(2):
        with pytest.raises(FormatError, match="nested deeper"):
            btf.align_of(1)
        with pytest.raises(FormatError, match="nested deeper"):
            btf.is_packed(1)


def test_deeply_nested_structures() -> None:
    builder = BtfBuilder()
    inner = builder.add_int("char", 1)
    for number in range(5000):
        inner = builder.add_struct(f"s{number}", 1, [Member("m", inner, 0)])
    btf = Btf.from_bytes(builder.to_bytes())
    with pytest.raises(FormatError, match="nested deeper"):
        btf.align_of(inner)
    assert btf.align_of(40) == 1


def test_overlong_names() -> None:
    btf = Btf.from_bytes(raw([1, info(7), 0], b"\0" + b"n" * (MAX_NAME + 1) + b"\0"))
    with pytest.raises(FormatError, match="a name has 4097 bytes"):
        btf.type(1)
    with pytest.raises(FormatError):
        list(btf.names_of_kind(Fwd))
    assert len(btf.string(1)) == MAX_NAME + 1


def test_from_file(tmp_path: object) -> None:
    path = f"{tmp_path}/types.btf"
    with pytest.raises(SyscallError) as caught:
        Btf.from_file(path)
    assert caught.value.errno_name == "ENOENT" and path in str(caught.value)
    with open(path, "wb") as file:
        file.write(sample().to_bytes())
    assert Btf.from_file(path).find("file") == 3


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: type) -> None:
    btf = Btf.from_bytes(kind(sample().to_bytes()))
    assert btf.find("file") == 3
    assert repr(btf) == "<Btf of 9 types>"


def test_many_names_are_looked_for_in_one_pass() -> None:
    """With the same answers, also where a string is there twice, and for what belongs to the base."""
    builder = BtfBuilder()
    for number in range(8):
        builder.add_int(f"type{number}", 4)
    data = bytearray(builder.to_bytes())
    # The last becomes a second "type0", with a string of its own: no compiler writes that, but it is no error.
    at = data.rindex(b"type7\0")
    data[at : at + 6] = b"type0\0"
    names = [f"type{number}" for number in range(9)] + ["", "type", "ype1", "a\0b"]
    plain, expecting = Btf.from_bytes(bytes(data)), Btf.from_bytes(bytes(data))
    expecting.expect(names)
    expecting.expect(["type1"])
    assert [expecting.find_all(name) for name in names] == [plain.find_all(name) for name in names]
    assert expecting.find_all("type0") == [1, 8]
    more = BtfBuilder(expecting)
    more.add_ptr(1)
    more.add_int("own", 2)
    split = Btf.from_bytes(more.to_bytes(), expecting)
    split.expect(["own", "type3"])
    assert (split.find("own"), split.find("type3"), split.find("none")) == (10, 4, None)
