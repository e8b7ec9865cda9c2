"""Laws of the BTF reader, writer and formatter."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.btf import (
    Array,
    Btf,
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
    Var,
    VarSecinfo,
    Volatile,
)
from tracebee.btf.dump import raw_lines
from tracebee.btf.ext import BtfExt, FuncInfo, LineInfo, encode_func_info, encode_line_info, parse_ext
from tracebee.btf.format import declaration, definition, function_params, return_type
from tracebee.btf.header import header
from tracebee.btf.layout import describe
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

# Some answers take a while on purpose: the text of a structure that is all padding, up to its limit.
unhurried = settings(deadline=None)

COUNT = 12
"""Types in a random graph; every id below COUNT + 1 exists, and anything may refer to anything."""

ids = st.integers(0, COUNT)
u32 = st.integers(0, (1 << 32) - 1)
names = st.text("abcé_", max_size=6)
sizes = st.integers(0, 64) | u32
flags = st.booleans()
members = st.lists(st.builds(Member, names, ids, st.integers(0, 4096)), max_size=4).map(tuple)
bit_members = st.lists(
    st.builds(Member, names, ids, st.integers(0, (1 << 24) - 1), st.integers(0, 255)), max_size=4
).map(tuple)


def enum_values(low: int, high: int) -> st.SearchStrategy[tuple[EnumValue, ...]]:
    return st.lists(st.builds(EnumValue, names, st.integers(low, high)), max_size=4).map(tuple)


types: st.SearchStrategy[Type] = st.one_of(
    st.builds(Int, names, sizes, st.integers(0, 15), st.integers(0, 255), st.integers(0, 255)),
    st.builds(Ptr, ids),
    st.builds(Array, ids, ids, u32),
    st.builds(Struct, names, sizes, members | bit_members),
    st.builds(Union, names, sizes, members | bit_members),
    st.builds(Enum, names, sizes, st.just(False), enum_values(0, (1 << 32) - 1)),
    st.builds(Enum, names, sizes, st.just(True), enum_values(-(1 << 31), (1 << 31) - 1)),
    st.builds(Enum64, names, sizes, st.just(False), enum_values(0, (1 << 64) - 1)),
    st.builds(Enum64, names, sizes, st.just(True), enum_values(-(1 << 63), (1 << 63) - 1)),
    st.builds(Fwd, names, flags),
    st.builds(Typedef, names, ids),
    st.builds(Volatile, ids),
    st.builds(Const, ids),
    st.builds(Restrict, ids),
    st.builds(Func, names, ids, st.integers(0, 2)),
    st.builds(FuncProto, ids, st.lists(st.builds(Param, names, ids), max_size=4).map(tuple)),
    st.builds(Var, names, ids, u32),
    st.builds(Datasec, names, sizes, st.lists(st.builds(VarSecinfo, ids, u32, u32), max_size=3).map(tuple)),
    st.builds(Float, names, sizes),
    st.builds(DeclTag, names, ids, st.integers(-1, (1 << 31) - 1), flags),
    st.builds(TypeTag, names, ids, flags),
)
graphs = st.lists(types, min_size=COUNT, max_size=COUNT)


def build(graph: list[Type]) -> BtfBuilder:
    """A builder that holds the graph, each type at its own id, equal or not."""
    builder = BtfBuilder()
    for made in graph:
        builder.define(builder.reserve(), made)
    return builder


def ask_everything(btf: Btf) -> None:
    """Every question about every type has an answer or ends in FormatError."""
    asks: list[Callable[[int], object]] = [
        btf.type,
        btf.name_of,
        btf.kind_of,
        btf.resolve,
        btf.size_of,
        btf.align_of,
        btf.is_packed,
        lambda type_id: declaration(btf, type_id, "x"),
        lambda type_id: definition(btf, type_id),
        lambda type_id: function_params(btf, type_id),
        lambda type_id: return_type(btf, type_id),
        lambda type_id: btf.find_all(btf.name_of(type_id)),
        lambda type_id: list(raw_lines(btf, [type_id])),
        lambda type_id: describe(btf, type_id),
    ]
    for type_id in range(-1, len(btf) + 1):
        for ask in asks:
            try:
                ask(type_id)
            except FormatError:
                pass
    for roots in (None, [1], range(1, len(btf))):
        try:
            assert "".join(header(btf, roots)).startswith("#ifndef")
        except FormatError:
            pass
    for kind in (Func, (Struct, Union), Enumeration):
        try:
            list(btf.names_of_kind(kind))
            list(btf.ids_of_kind(kind))
        except FormatError:
            pass
    try:
        btf.find_enumerator("a")
    except FormatError:
        pass


def read_and_ask(data: bytes, base: Btf | None = None) -> None:
    try:
        btf = Btf.from_bytes(data, base)
    except FormatError:
        return
    ask_everything(btf)


@given(graphs, st.sampled_from(["little", "big"]))
@unhurried
def test_what_is_written_is_read(graph: list[Type], byteorder: str) -> None:
    btf = Btf.from_bytes(build(graph).to_bytes(byteorder))  # type: ignore[arg-type]
    assert len(btf) == COUNT + 1
    for type_id, made in enumerate(graph, 1):
        # A structure stored without bitfields has none, and one with them keeps all offsets.
        assert btf.type(type_id) == made
        assert btf.name_of(type_id) == made.name
        assert btf.kind_of(type_id) == made.KIND


@given(graphs)
@unhurried
def test_names_and_kinds_are_found_as_by_a_walk_over_all_types(graph: list[Type]) -> None:
    btf = Btf.from_bytes(build(graph).to_bytes())
    for name in {made.name for made in graph} | {"a"}:
        expected = [type_id for type_id, made in enumerate(graph, 1) if name and made.name == name]
        assert btf.find_all(name) == expected
        assert btf.find(name) == (expected[0] if expected else None)
    for kinds in (Struct, Int, Enumeration, (Func, Var)):
        expected = [type_id for type_id, made in enumerate(graph, 1) if isinstance(made, kinds)]
        assert list(btf.ids_of_kind(kinds)) == expected
        assert list(btf.names_of_kind(kinds)) == [(i, btf.name_of(i)) for i in expected if btf.name_of(i)]
    constants = [
        (type_id, value)
        for type_id, made in enumerate(graph, 1)
        if isinstance(made, Enumeration)
        for value in made.values
    ]
    for name in {value.name for _, value in constants if value.name} | {"a"}:
        first = next(((type_id, value.value) for type_id, value in constants if value.name == name), None)
        assert btf.find_enumerator(name) == first


@given(graphs, graphs)
@unhurried
def test_split_btf_is_read(graph: list[Type], more: list[Type]) -> None:
    base = Btf.from_bytes(build(graph).to_bytes())
    builder = BtfBuilder(base)
    for made in more:
        builder.define(builder.reserve(), made)
    btf = Btf.from_bytes(builder.to_bytes(), base)
    for type_id, made in enumerate([*graph, *more], 1):
        assert btf.type(type_id) == made
        if made.name:
            assert type_id in btf.find_all(made.name)
    ask_everything(btf)


@given(graphs)
@unhurried
def test_any_graph_can_be_asked_about(graph: list[Type]) -> None:
    ask_everything(Btf.from_bytes(build(graph).to_bytes()))


@given(graphs, st.data())
@unhurried
def test_mutated_bytes_give_btf_or_format_error(graph: list[Type], data: st.DataObject) -> None:
    blob = bytearray(build(graph).to_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(blob) - 1))
        if data.draw(st.booleans()):
            blob[at] = data.draw(st.integers(0, 255))
        else:
            at &= ~3
            struct.pack_into("=I", blob, min(at, len(blob) - 4), data.draw(u32))
    read_and_ask(bytes(blob))


@given(graphs, st.data())
@unhurried
def test_truncated_bytes_give_btf_or_format_error(graph: list[Type], data: st.DataObject) -> None:
    blob = build(graph).to_bytes()
    read_and_ask(blob[: data.draw(st.integers(0, len(blob)))])


@given(st.binary(max_size=400), st.lists(st.binary(max_size=6), max_size=4))
@unhurried
def test_arbitrary_types_give_btf_or_format_error(types: bytes, strings: list[bytes]) -> None:
    read_and_ask(types)
    text = b"\0" + b"\0".join(strings) + b"\0"
    body = types[: len(types) & ~3]
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(text))
    read_and_ask(header + body + text)


words = st.lists(
    st.integers(0, 6) | u32 | st.builds(lambda kind, count: kind << 24 | count, st.integers(0, 20), ids),
    max_size=60,
)


@given(words)
@settings(max_examples=300, deadline=None)
def test_words_that_look_like_types_give_btf_or_format_error(body: list[int]) -> None:
    text = b"\0a\0bc\0c\0"
    types = struct.pack(f"<{len(body)}I", *body)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(text))
    data = header + types + text
    read_and_ask(data)
    read_and_ask(data, Btf.from_bytes(BtfBuilder().to_bytes()))


offsets = st.integers(0, (1 << 28) - 1)
func_records = st.lists(st.builds(FuncInfo, offsets, u32), max_size=5)
line_records = st.lists(
    st.builds(LineInfo, offsets, u32, u32, st.integers(0, (1 << 22) - 1), st.integers(0, 1023)), max_size=5
)


def ext_bytes(functions: bytes, lines: bytes) -> bytes:
    places = (0, len(functions), len(functions), len(lines))
    return struct.pack("=HBBI4I", 0xEB9F, 1, 0, 24, *places) + functions + lines


@given(func_records, line_records)
@unhurried
def test_ext_records_are_read_back(functions: list[FuncInfo], lines: list[LineInfo]) -> None:
    builder = BtfBuilder()
    name = builder.add_string("kprobe/x")
    btf = Btf.from_bytes(builder.to_bytes())
    in_bytes = [record._replace(insn_offset=8 * record.insn_offset) for record in functions]
    func_table = struct.pack("=3I", 8, name, len(functions)) + encode_func_info(in_bytes)
    in_bytes_too = [record._replace(insn_offset=8 * record.insn_offset) for record in lines]
    line_table = struct.pack("=3I", 16, name, len(lines)) + encode_line_info(in_bytes_too)
    assert parse_ext(ext_bytes(func_table, line_table), btf) == BtfExt(
        {"kprobe/x": functions}, {"kprobe/x": lines}, {}
    )


@given(st.binary(max_size=200), words, words)
@unhurried
def test_arbitrary_ext_sections_give_records_or_format_error(
    data: bytes, functions: list[int], lines: list[int]
) -> None:
    btf = Btf.from_bytes(BtfBuilder().to_bytes())
    tables = (struct.pack(f"={len(body)}I", *body) for body in (functions, lines))
    for blob in (data, ext_bytes(*tables)):
        try:
            parse_ext(blob, btf)
        except FormatError:
            pass
