"""Laws of the codec of BTF values, and of the little texts that it reads."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.btf import Btf, Int, Member, Struct, Union
from tracebee.btf.types import INT_BOOL, INT_SIGNED
from tracebee.btf.typetext import types_of
from tracebee.btf.values import value_codec
from tracebee.btf.valuetext import read
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError, TracebeeError, UsageError

NAMES = [f"m{number}" for number in range(8)]


@st.composite
def types(draw: st.DrawFn, builder: BtfBuilder, depth: int = 0) -> tuple[int, int]:
    """A type in a builder: its id and size."""
    kinds = ["int", "bool", "enum", "pointer", "float", "text"]
    kind = draw(st.sampled_from(kinds if depth > 2 else [*kinds, "array", "struct", "struct", "union"]))
    if kind == "int":
        size = draw(st.sampled_from([1, 2, 4, 8, 16]))
        return builder.add_int(f"i{size}", size, draw(st.sampled_from([0, INT_SIGNED]))), size
    if kind == "bool":
        return builder.add_int("_Bool", 1, INT_BOOL), 1
    if kind == "enum":
        numbers = draw(st.lists(st.integers(-4, 100), min_size=1, max_size=4))
        return builder.add_enum("e", [(f"E{at}", value) for at, value in enumerate(numbers)]), 4
    if kind == "pointer":
        return builder.add_ptr(0), 8
    if kind == "float":
        size = draw(st.sampled_from([4, 8]))
        return builder.add_float(f"f{size}", size), size
    if kind == "text":
        count = draw(st.integers(1, 9))
        return builder.add_array(builder.add_int("char", 1, INT_SIGNED), count), count
    if kind == "array":
        inner, size = draw(types(builder, depth + 1))
        count = draw(st.integers(1, 4))
        return builder.add_array(inner, count), size * count
    members = []
    end = widest = 0
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)):
        inner, size = draw(types(builder, depth + 1))
        bits = 0
        found = builder._types[inner - 1]
        if isinstance(found, Int) and found.size <= 8 and not found.is_bool and draw(st.booleans()):
            bits = draw(st.integers(1, 8 * size))
        start = 0 if kind == "union" else end + (0 if bits else -end % 8)
        members.append(Member(name, inner, start, bits))
        end = start + (bits or 8 * size)
        widest = max(widest, end)
    size = -(-widest // 8) + draw(st.integers(0, 3))
    made = Union if kind == "union" else Struct
    return builder.add(made("s", size, tuple(members))), size


@st.composite
def typed_bytes(draw: st.DrawFn) -> tuple[BtfBuilder, int, bytes]:
    builder = BtfBuilder()
    type_id, size = draw(types(builder))
    return builder, type_id, draw(st.binary(min_size=size, max_size=size))


def same(one: Any, other: Any) -> bool:
    """Equal, with every nan the same."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_nan, value))
    return isinstance(value, float) and math.isnan(value)


@given(typed_bytes(), st.sampled_from(["little", "big"]))
@settings(max_examples=300)
def test_what_is_decoded_can_be_encoded(made: tuple[BtfBuilder, int, bytes], order: Any) -> None:
    builder, type_id, data = made
    codec = value_codec(Btf.from_bytes(builder.to_bytes(order)), type_id, len(data))
    value = codec.decode(data)
    again = codec.encode(value)
    assert len(again) == len(data)
    assert same(codec.decode(again), value)
    if not codec.loses and not has_nan(value):
        assert again == data
    json.dumps(codec.plain(value), allow_nan=False)
    assert isinstance(codec.text(value), str)


@given(typed_bytes())
@settings(max_examples=200)
def test_a_decoded_structure_keeps_its_bytes(made: tuple[BtfBuilder, int, bytes]) -> None:
    builder, type_id, data = made
    codec = value_codec(Btf.from_bytes(builder.to_bytes()), type_id, len(data))
    value = codec.decode(data)
    if isinstance(value, dict) and not has_nan(value):
        assert codec.encode(value) == data


@given(typed_bytes())
@settings(max_examples=200)
def test_keys_can_be_hashed(made: tuple[BtfBuilder, int, bytes]) -> None:
    builder, type_id, data = made
    codec = value_codec(Btf.from_bytes(builder.to_bytes()), type_id, len(data), hashable=True)
    key = codec.decode(data)
    hash(key)
    assert same(codec.decode(codec.encode(key)), key)


@given(
    typed_bytes(),
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats() | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
        ),
        max_leaves=8,
    ),
)
@settings(max_examples=300)
def test_any_value_is_taken_or_refused(made: tuple[BtfBuilder, int, bytes], value: Any) -> None:
    builder, type_id, data = made
    codec = value_codec(Btf.from_bytes(builder.to_bytes()), type_id, len(data))
    try:
        assert len(codec.encode(value)) == len(data)
    except UsageError as error:
        assert str(error)


@given(typed_bytes(), st.text())
@settings(max_examples=300)
def test_any_text_is_read_or_refused(made: tuple[BtfBuilder, int, bytes], text: str) -> None:
    builder, type_id, data = made
    codec = value_codec(Btf.from_bytes(builder.to_bytes()), type_id, len(data))
    try:
        found = codec.parse(text)
    except UsageError as error:
        assert str(error)
    else:
        assert same(codec.decode(codec.encode(found)), found)


@given(
    st.recursive(
        st.integers() | st.booleans() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text("abc", min_size=1), inner, min_size=1, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_json_is_read(value: Any) -> None:
    assert read(json.dumps(value)) == value


@given(st.binary(max_size=200), st.integers(0, 40), st.integers(0, 64))
@settings(max_examples=300)
def test_bytes_that_are_no_types(tail: bytes, type_id: int, size: int) -> None:
    builder = BtfBuilder()
    for bits in (8, 32):
        builder.add_int(f"u{bits}", bits // 8)
    good = bytearray(builder.to_bytes())
    for at, byte in enumerate(tail):
        good[(at * 7) % len(good)] ^= byte & (at % 3 == 0) * 255
    try:
        codec = value_codec(Btf.from_bytes(bytes(good)), type_id, size)
        codec.decode(bytes(size))
    except FormatError as error:
        assert str(error)


@given(st.text(st.sampled_from("u32 {};:,*[]=struct enum char bool long 18 A b_\n")))
@settings(max_examples=400)
def test_any_text_is_a_type_or_none(text: str) -> None:
    try:
        btf, _, ((type_id, size),) = types_of(text)
    except TracebeeError as error:
        assert isinstance(error, UsageError)
    else:
        if type_id:
            assert btf.size_of(type_id) == size
            codec = value_codec(btf, type_id, size)
            assert codec.encode(codec.decode(bytes(size))) == bytes(size)
