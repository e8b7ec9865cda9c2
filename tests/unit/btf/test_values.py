"""Values of BTF types: shapes, what fits and what does not, both byte orders, bad types."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.btf import Btf, Member, Struct
from tracebee.btf.types import INT_BOOL, INT_SIGNED, Int
from tracebee.btf.values import Decoded, Fields, quoted, untyped, value_codec
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError, TracebeeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.btf.reader import ByteOrder
    from tracebee.btf.values import ValueCodec


class Types:
    """A BTF in the making, and codecs of its types."""

    def __init__(self) -> None:
        self.builder = BtfBuilder()
        add = self.builder.add_int
        self.u8, self.u16, self.u32, self.u64 = (add(f"u{8 * size}", size) for size in (1, 2, 4, 8))
        self.s8, self.s16, self.s32, self.s64 = (
            add(f"s{8 * size}", size, INT_SIGNED) for size in (1, 2, 4, 8)
        )
        self.char = add("char", 1, INT_SIGNED)
        self.bool = add("_Bool", 1, INT_BOOL)

    def codec(
        self, type_id: int, size: int, order: ByteOrder = "little", *, hashable: bool = False
    ) -> ValueCodec:
        btf = Btf.from_bytes(self.builder.to_bytes(order))
        assert btf.size_of(type_id) == size
        return value_codec(btf, type_id, size, hashable=hashable)


@pytest.fixture
def types() -> Types:
    return Types()


def both_ways(codec: ValueCodec, value: Any, data: bytes) -> None:
    assert codec.encode(value) == data
    found = codec.decode(data)
    assert found == value
    assert type(found) is type(value)


# ---------------------------------------------------------------------- scalars


def test_integers(types: Types) -> None:
    both_ways(types.codec(types.u8, 1), 200, b"\xc8")
    both_ways(types.codec(types.s8, 1), -56, b"\xc8")
    both_ways(types.codec(types.u32, 4), 1, b"\1\0\0\0")
    both_ways(types.codec(types.u32, 4, "big"), 1, b"\0\0\0\1")
    both_ways(types.codec(types.s64, 8), -1, b"\xff" * 8)


@pytest.mark.parametrize(("name", "low", "high"), [("u8", 0, 255), ("s8", -128, 127), ("u64", 0, 2**64 - 1)])
def test_what_does_not_fit_an_integer(types: Types, name: str, low: int, high: int) -> None:
    codec = types.codec(getattr(types, name), int(name[1:]) // 8)
    assert codec.decode(codec.encode(low)) == low
    assert codec.decode(codec.encode(high)) == high
    for wrong in (low - 1, high + 1):
        with pytest.raises(UsageError, match=f"here: {wrong} is no {name}: it must be {low} to {high}"):
            codec.encode(wrong, "here")
    for nonsense in ("1", 1.5, None, b"\1", [1]):
        with pytest.raises(UsageError, match=f"is no {name}"):
            codec.encode(nonsense)


def test_numbers_of_sixteen_bytes(types: Types) -> None:
    wide = types.builder.add_int("unsigned __int128", 16)
    codec = types.codec(wide, 16)
    both_ways(codec, 1 << 100, bytes(12) + b"\x10\0\0\0")
    assert codec.plain(1 << 100) == f"{1 << 100:#x}"


def test_booleans(types: Types) -> None:
    codec = types.codec(types.bool, 1)
    both_ways(codec, True, b"\1")
    assert codec.decode(b"\7") is True
    assert (codec.text(True), codec.plain(False)) == ("true", False)
    with pytest.raises(UsageError):
        codec.encode(2)


def test_floats(types: Types) -> None:
    double, single = types.builder.add_float("double", 8), types.builder.add_float("float", 4)
    both_ways(types.codec(double, 8), 1.5, struct.pack("<d", 1.5))
    both_ways(types.codec(single, 4, "big"), 1.5, struct.pack(">f", 1.5))
    codec = types.codec(double, 8)
    assert math.isnan(codec.decode(codec.encode(math.nan)))
    assert json.dumps(codec.plain(math.inf)) == '"inf"'
    with pytest.raises(UsageError):
        types.codec(single, 4).encode(1e300)
    with pytest.raises(UsageError):
        codec.encode("x")


def test_pointers(types: Types) -> None:
    codec = types.codec(types.builder.add_ptr(0), 8)
    both_ways(codec, 0xFFFF888000000000, struct.pack("<Q", 0xFFFF888000000000))
    assert codec.text(0x10) == "0x10"


def test_enumerations(types: Types) -> None:
    color = types.builder.add_enum("color", [("RED", 0), ("GREEN", 5), ("ALSO_GREEN", 5)])
    codec = types.codec(color, 4)
    both_ways(codec, 5, b"\5\0\0\0")
    assert codec.encode("ALSO_GREEN") == b"\5\0\0\0"
    assert (codec.text(5), codec.text(7), codec.plain(0), codec.plain(7)) == ("GREEN", "7", "RED", 7)
    assert codec.parse("GREEN") == 5
    assert codec.parse("9") == 9
    with pytest.raises(UsageError, match="'BLUE' is no enum color") as caught:
        codec.encode("BLUE")
    assert caught.value.hint == "it has RED, GREEN, ALSO_GREEN"


def test_a_signed_enumeration_of_eight_bytes(types: Types) -> None:
    codec = types.codec(types.builder.add_enum64("wide", [("LOW", -1), ("HIGH", 1 << 40)]), 8)
    both_ways(codec, -1, b"\xff" * 8)
    assert codec.encode("HIGH") == (1 << 40).to_bytes(8, "little")


def test_an_enumeration_of_an_old_kernel_takes_minus_one(types: Types) -> None:
    """Before Linux 6.0 none was said to be signed."""
    codec = types.codec(types.builder.add_enum("old", [("NONE", 0xFFFFFFFF)], signed=False), 4)
    assert codec.encode(-1) == b"\xff" * 4
    assert codec.text(codec.decode(b"\xff" * 4)) == "NONE"


def test_typedefs_and_qualifiers(types: Types) -> None:
    named = types.builder.add_typedef("pid_t", types.builder.add_const(types.s32))
    codec = types.codec(types.builder.add_volatile(named), 4)
    both_ways(codec, -3, struct.pack("<i", -3))
    with pytest.raises(UsageError, match="pid_t"):
        codec.encode(1 << 40)


# ---------------------------------------------------------------------- arrays


def test_text(types: Types) -> None:
    codec = types.codec(types.builder.add_array(types.char, 8), 8)
    both_ways(codec, "cat", b"cat\0\0\0\0\0")
    assert codec.decode(b"cat\0junk") == "cat"
    assert codec.encode(b"ab\0cd") == b"ab\0cd\0\0\0"
    both_ways(codec, "12345678", b"12345678")
    assert codec.encode(codec.decode(b"\xff\xfe\0\0\0\0\0\0")) == b"\xff\xfe\0\0\0\0\0\0"
    assert codec.text(codec.decode(b'a"\n\xff\0\0\0\0')) == r'"a\"\n\xff"'
    for wrong, reason in (("123456789", "room for 8"), (5, "no char"), ("\ud800", "no char")):
        with pytest.raises(UsageError, match=reason):
            codec.encode(wrong)


def test_text_of_a_typedef_is_text(types: Types) -> None:
    letter = types.builder.add_typedef("letter", types.char)
    assert types.codec(types.builder.add_array(letter, 2), 2).decode(b"a\0") == "a"


def test_arrays(types: Types) -> None:
    codec = types.codec(types.builder.add_array(types.u16, 3), 6)
    both_ways(codec, [1, 2, 3], struct.pack("<3H", 1, 2, 3))
    assert codec.encode([7]) == struct.pack("<3H", 7, 0, 0)
    assert codec.encode((1, 2)) == struct.pack("<3H", 1, 2, 0)
    with pytest.raises(UsageError, match="4 elements, and there is room for 3"):
        codec.encode([1, 2, 3, 4])
    with pytest.raises(UsageError, match=r"x\[1\]: 70000 is no u16"):
        codec.encode([1, 70000], "x")
    address = types.codec(types.builder.add_array(types.u8, 4), 4)
    assert address.encode(b"\x0a\0\0\1") == b"\x0a\0\0\1"


def test_arrays_of_arrays(types: Types) -> None:
    lines = types.builder.add_array(types.builder.add_array(types.char, 4), 2)
    both_ways(types.codec(lines, 8), ["ab", "cd"], b"ab\0\0cd\0\0")
    grid = types.builder.add_array(types.builder.add_array(types.u8, 2), 2)
    both_ways(types.codec(grid, 4), [[1, 2], [3, 4]], b"\1\2\3\4")
    assert types.codec(grid, 4, hashable=True).decode(b"\1\2\3\4") == ((1, 2), (3, 4))


# ---------------------------------------------------------------------- structures


def event(types: Types) -> int:
    text = types.builder.add_array(types.char, 4)
    members = [Member("pid", types.u32, 0), Member("comm", text, 32), Member("time", types.u64, 128)]
    return types.builder.add_struct("event", 24, members)


def test_structures(types: Types) -> None:
    codec = types.codec(event(types), 24)
    data = struct.pack("<I4sxxxxxxxxQ", 7, b"cat", 9)
    assert codec.decode(data) == {"pid": 7, "comm": "cat", "time": 9}
    assert codec.encode({"pid": 7, "comm": "cat", "time": 9}) == data
    assert codec.encode((7, "cat", 9)) == data
    assert codec.encode({"pid": 7}) == struct.pack("<I20x", 7)
    assert codec.text(codec.decode(data)) == '{.pid = 7, .comm = "cat", .time = 9}'
    assert json.loads(json.dumps(codec.plain(codec.decode(data)))) == {"pid": 7, "comm": "cat", "time": 9}


def test_what_is_wrong_with_a_structure_is_told(types: Types) -> None:
    codec = types.codec(event(types), 24)
    with pytest.raises(UsageError, match="no member 'tiem'") as caught:
        codec.encode({"tiem": 1})
    assert caught.value.hint == "did you mean 'time'?"
    with pytest.raises(UsageError, match=r"value of m\.pid: -1 is no u32"):
        codec.encode({"pid": -1}, "value of m")
    with pytest.raises(UsageError, match="has 2 members, and there are 3"):
        codec.encode((1, "x"))
    with pytest.raises(UsageError, match="5 is no struct event"):
        codec.encode(5)


def test_padding_stays_when_a_decoded_structure_is_changed(types: Types) -> None:
    codec = types.codec(event(types), 24)
    data = struct.pack("<I4s8sQ", 7, b"c\0at", b"PADDING!", 9)
    found = codec.decode(data)
    assert isinstance(found, Decoded)
    found["pid"] = 8
    assert codec.encode(found) == struct.pack("<I4s8sQ", 8, b"c\0at", b"PADDING!", 9)
    assert codec.encode(dict(found)) == struct.pack("<I4s8xQ", 8, b"c", 9)


def test_keys_are_tuples_with_names(types: Types) -> None:
    codec = types.codec(event(types), 24, hashable=True)
    key = codec.decode(struct.pack("<I4s8xQ", 7, b"cat", 9))
    assert isinstance(key, Fields)
    plain: object = (7, "cat", 9)
    assert key == plain
    assert hash(key) == hash((7, "cat", 9))
    assert (key.pid, key.comm, key._asdict()) == (7, "cat", {"pid": 7, "comm": "cat", "time": 9})
    assert repr(key) == "(pid=7, comm='cat', time=9)"
    assert codec.encode(key) == codec.encode({"pid": 7, "comm": "cat", "time": 9})
    with pytest.raises(AttributeError):
        _ = key.nothing


def test_nested_structures(types: Types) -> None:
    inner = types.builder.add_struct("point", 8, [Member("x", types.s32, 0), Member("y", types.s32, 32)])
    pair = types.builder.add_array(inner, 2)
    outer = types.builder.add_struct("line", 24, [Member("ends", pair, 0), Member("on", types.bool, 128)])
    codec = types.codec(outer, 24)
    value = {"ends": [{"x": 1, "y": -1}, {"x": 2, "y": 0}], "on": True}
    both = codec.decode(codec.encode(value))
    assert both == value
    both["ends"][1]["y"] = 5
    assert codec.decode(codec.encode(both))["ends"] == [{"x": 1, "y": -1}, {"x": 2, "y": 5}]
    with pytest.raises(UsageError, match=r"ends\[1\]\.x: 'a' is no s32"):
        codec.encode({"ends": [{}, {"x": "a"}]})


def test_anonymous_members_are_members(types: Types) -> None:
    add = types.builder
    deep = add.add_struct("", 4, [Member("a", types.u16, 0), Member("b", types.u16, 16)])
    both = add.add_union("", 4, [Member("whole", types.u32, 0), Member("", deep, 0)])
    codec = types.codec(add.add_struct("s", 8, [Member("head", types.u32, 0), Member("", both, 32)]), 8)
    assert codec.decode(struct.pack("<IHH", 1, 2, 3)) == {"head": 1, "whole": 0x30002, "a": 2, "b": 3}
    assert codec.encode({"a": 2, "b": 3}) == struct.pack("<IHH", 0, 2, 3)


def test_unions(types: Types) -> None:
    number = types.builder.add_float("float", 4)
    text = types.builder.add_array(types.char, 4)
    members = [
        Member("i", types.u32, 0),
        Member("f", number, 0),
        Member("b", types.u8, 0),
        Member("t", text, 0),
    ]
    codec = types.codec(types.builder.add_union("u", 4, members), 4)
    data = struct.pack("<f", 1.5)
    found = codec.decode(data)
    assert found == {"i": 0x3FC00000, "f": 1.5, "b": 0, "t": ""}
    assert codec.encode(found) == data
    found["f"] = 2.5  # the others are those of before
    assert codec.encode(found) == struct.pack("<f", 2.5)
    assert codec.encode({"b": 3}) == b"\3\0\0\0"
    # Members that say the same, as JSON of a dump does; text leaves open what is behind its end.
    assert codec.encode(dict(codec.decode(b"a\0bc"))) == b"a\0bc"
    with pytest.raises(UsageError, match="i, b share their bytes and differ") as caught:
        codec.encode({"i": 1, "b": 2})
    assert caught.value.hint == "give one of them"


@pytest.mark.parametrize("order", ["little", "big"])
def test_bitfields(types: Types, order: ByteOrder) -> None:
    color = types.builder.add_enum("color", [("RED", 0), ("GREEN", 2)])
    members = [
        Member("low", types.u32, 0, 3),
        Member("signed", types.s32, 3, 5),
        Member("across", types.u32, 8, 20),
        Member("color", color, 28, 2),
        Member("on", types.bool, 30, 1),
        Member("plain", types.u32, 32),
    ]
    codec = types.codec(types.builder.add_struct("bits", 8, members), 8, order)
    value = {"low": 5, "signed": -3, "across": 0xABCDE, "color": 2, "on": True, "plain": 77}
    data = codec.encode(value)
    assert codec.decode(data) == value
    if order == "little":
        word = 5 | (-3 & 31) << 3 | 0xABCDE << 8 | 2 << 28 | 1 << 30
        assert data == struct.pack("<II", word, 77)
    else:  # there the first bitfield is in the highest bits
        word = 5 << 29 | (-3 & 31) << 24 | 0xABCDE << 4 | 2 << 2 | 1 << 1
        assert data == struct.pack(">II", word, 77)
    assert codec.plain(value) == {
        "low": "0x5",
        "signed": "0x1d",
        "across": "0xabcde",
        "color": "0x2",
        "on": "0x1",
        "plain": 77,
    }
    assert codec.parse(json.dumps(codec.plain(value))) == value
    for name, wrong in (("low", 8), ("signed", 16), ("signed", -17), ("on", 2), ("low", "x")):
        with pytest.raises(UsageError, match=name):
            codec.encode({name: wrong})
    assert codec.encode({"color": "GREEN"}) == codec.encode({"color": 2})


def test_bitfields_as_old_compilers_say_them(types: Types) -> None:
    """The integer's type had the bits; the member only a place."""
    three = types.builder.add(Int("unsigned int", 4, 0, 3, 2))
    codec = types.codec(types.builder.add_struct("s", 4, [Member("x", three, 8)]), 4)
    assert codec.encode({"x": 7}) == (7 << 10).to_bytes(4, "little")
    assert codec.decode((5 << 10).to_bytes(4, "little")) == {"x": 5}


def test_sections_are_read_by_variable(types: Types) -> None:
    add = types.builder
    one, two = add.add_var("count", types.u64), add.add_var("name", add.add_array(types.char, 8))
    again = add.add_var("count", types.u32)
    codec = types.codec(add.add_datasec(".data", 24, [(one, 0, 8), (two, 8, 8), (again, 16, 4)]), 24)
    data = struct.pack("<Q8sI4x", 3, b"x", 4)
    assert codec.decode(data) == {"count": 3, "name": "x", "count.2": 4}
    assert codec.plain(codec.decode(data)) == {".data": [{"count": 3}, {"name": "x"}, {"count.2": 4}]}
    found = codec.decode(data)
    found["name"] = "yy"
    assert codec.encode(found) == struct.pack("<Q8sI4x", 3, b"yy", 4)


# ---------------------------------------------------------------------- without types


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_numbers_without_a_type(size: int) -> None:
    codec = untyped(size, "little")
    assert codec.decode(b"\xff" * size) == (1 << 8 * size) - 1
    assert codec.encode(-1) == codec.encode((1 << 8 * size) - 1) == b"\xff" * size
    with pytest.raises(UsageError):
        codec.encode(1 << 8 * size)


def test_bytes_without_a_type() -> None:
    codec = value_codec(None, 0, 3)
    both_ways(codec, b"abc", b"abc")
    assert (codec.text(b"abc"), codec.plain(b"\0\xff\1")) == ("61 62 63", ["0x00", "0xff", "0x01"])
    assert codec.parse("hex 01 0x02 3") == b"\1\2\3"
    assert codec.parse("ab") == b"ab\0"
    assert codec.parse("1 2 255") == b"\1\2\xff"
    for wrong in (b"ab", "abc", 5):
        with pytest.raises(UsageError):
            codec.encode(wrong)


def test_a_type_of_another_size_is_no_type(types: Types) -> None:
    btf = Btf.from_bytes(types.builder.to_bytes())
    assert value_codec(btf, types.u32, 8).decode(b"\1" + bytes(7)) == 1
    assert value_codec(btf, types.u32, 3).decode(b"abc") == b"abc"


def test_what_is_cut_off(types: Types) -> None:
    for codec in (types.codec(event(types), 24), types.codec(types.u32, 4), untyped(3)):
        with pytest.raises(FormatError, match="cut off after 2"):
            codec.decode(b"ab")


# ---------------------------------------------------------------------- command lines


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("0x1f", 31),
        ("-1", -1),
        ("0b101", 5),
        ("010", 10),
        ("7UL", 7),
        ("'c'", 99),
        ("' '", 32),
        ("hex ff ff ff ff", -1),
        ("0xffffffff 0 0 0", None),
        ("1 0 0 0", 1),
        ("255 255 255 255", -1),
        ("x", None),
        ("", None),
        ("7 8", None),
        ("1e3", None),
        ("hex ff", None),
        ("hex zz zz zz zz", None),
        ("99999999999", None),
    ],
)
def test_numbers_of_a_command_line(types: Types, text: str, value: int | None) -> None:
    codec = types.codec(types.s32, 4)
    if value is None:
        with pytest.raises(UsageError):
            codec.parse(text)
    else:
        assert codec.parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"pid": 7, "comm": "cat"}',
        '{.pid = 7, .comm = "cat"}',
        "{pid: 7, comm: cat}",
        '{ 7, "cat", 0 }',
        "{.comm=cat, .pid='\\x07',}",
        "hex 07000000 63617400 0000000000000000 0000000000000000",
    ],
)
def test_structures_of_a_command_line(types: Types, text: str) -> None:
    assert types.codec(event(types), 24).parse(text) == {"pid": 7, "comm": "cat", "time": 0}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{pid}",
        "{pid: }",
        "{pid: 1 comm: 2}",
        "[1, 2",
        "{pid: 1, 3}",
        "{7: 1}",
        "}",
        "{pid: 1} x",
        "{pid: 'ab'}",
    ],
)
def test_what_cannot_be_read(types: Types, text: str) -> None:
    with pytest.raises(UsageError):
        types.codec(event(types), 24).parse(text)


def test_text_of_a_command_line(types: Types) -> None:
    codec = types.codec(types.builder.add_array(types.char, 8), 8)
    assert codec.parse("a cat") == "a cat"
    assert codec.parse('"a\\tcat"') == "a\tcat"
    assert codec.parse("12") == "12"
    assert codec.parse('"\\xff"') == "\udcff"
    assert codec.parse("hex 61 00 00 00 00 00 00 00") == "a"
    bools = types.codec(types.bool, 1)
    assert (bools.parse("true"), bools.parse("0")) == (True, False)


def test_deep_nesting_on_a_command_line_is_refused(types: Types) -> None:
    with pytest.raises(UsageError, match="nested deeper"):
        types.codec(event(types), 24).parse("{" * 5000)


def test_quoting() -> None:
    assert quoted('a\\"\n\x01é\udcfe') == '"a\\\\\\"\\n\\x01é\\xfe"'


# ---------------------------------------------------------------------- types that make no sense


def _itself(types: BtfBuilder) -> int:
    type_id = types.reserve()
    types.define(type_id, Struct("s", 8, (Member("s", type_id, 0),)))
    return type_id


def _anonymous_itself(types: BtfBuilder) -> int:
    type_id = types.reserve()
    types.define(type_id, Struct("s", 8, (Member("", type_id, 0),)))
    return type_id


def _beyond(types: BtfBuilder) -> int:
    return types.add_struct("s", 8, [Member("x", types.add_int("u64", 8), 32)])


def _odd_place(types: BtfBuilder) -> int:
    return types.add_struct("s", 8, [Member("x", types.add_int("u32", 4), 3)])


def _bits_of_a_structure(types: BtfBuilder) -> int:
    inner = types.add_struct("i", 4, [Member("x", types.add_int("u32", 4), 0)])
    return types.add_struct("s", 8, [Member("x", inner, 0, 3)])


def _explosion(types: BtfBuilder) -> int:
    """Structures without a size can be anywhere, any number of times."""
    found = types.add_struct("s0", 0)
    for level in range(1, 8):
        members = [Member(f"m{number}", found, 0) for number in range(50)]
        found = types.add_struct(f"s{level}", 0, members)
    return types.add_struct("s", 8, [Member("x", found, 0), Member("y", types.add_int("u64", 8), 0)])


def _section(types: BtfBuilder) -> int:
    number = types.add_var("x", types.add_int("u64", 8))
    return types.add_datasec(".data", 8, [(number, 4, 8)])


@pytest.mark.parametrize(
    "make", [_itself, _anonymous_itself, _beyond, _odd_place, _bits_of_a_structure, _explosion, _section]
)
def test_bad_types(make: Callable[[BtfBuilder], int]) -> None:
    builder = BtfBuilder()
    type_id = make(builder)
    with pytest.raises(FormatError):
        value_codec(Btf.from_bytes(builder.to_bytes()), type_id, 8)


def test_elements_without_a_size_are_none(types: Types) -> None:
    empty = types.builder.add_struct("e", 0)
    many = types.builder.add_array(empty, 0xFFFFFFFF)
    codec = types.codec(
        types.builder.add_struct("s", 4, [Member("m", many, 32), Member("x", types.u32, 0)]), 4
    )
    assert codec.decode(b"\1\0\0\0") == {"m": [], "x": 1}


def test_what_is_no_value(types: Types) -> None:
    proto = types.builder.add_func_proto(0)
    btf = Btf.from_bytes(types.builder.to_bytes())
    assert value_codec(btf, proto, 5).decode(b"abcde") == b"abcde"
    assert value_codec(btf, 0, 5).decode(b"abcde") == b"abcde"
    with pytest.raises(TracebeeError):
        value_codec(btf, 9999, 4)
