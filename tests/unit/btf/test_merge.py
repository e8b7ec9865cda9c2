"""Many BTF as one."""

from __future__ import annotations

import pytest

from tracebee.btf import Btf, Fwd, Member, Struct
from tracebee.btf.ext import BtfExt, CoreRelo, FuncInfo, LineInfo, parse_ext
from tracebee.btf.extwriter import encode_ext
from tracebee.btf.merge import Merged, alike
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError


def listed(padding: int = 0, *, forward: bool = False) -> Btf:
    """struct list { struct list *next; struct other *other; int n; }, behind some integers."""
    builder = BtfBuilder()
    for number in range(padding):
        builder.add_int(f"unused{number}", 4)
    number = builder.add_int("int", 4, 1)
    type_id = builder.reserve()
    other = builder.add_fwd("other") if forward else builder.add_struct("other", 4, [Member("x", number, 0)])
    members = (Member("next", builder.add_ptr(type_id), 0), Member("other", builder.add_ptr(other), 64))
    builder.define(type_id, Struct("list", 24, (*members, Member("n", number, 128))))
    return Btf.from_bytes(builder.to_bytes())


def merged(*files: Btf) -> tuple[Btf, Merged]:
    made = Merged(files, {})
    return Btf.from_bytes(made.to_bytes("little")), made


@pytest.mark.parametrize("forward", [False, True])
def test_types_in_circles_are_kept_once(forward: bool) -> None:
    files = listed(), listed(3, forward=forward)
    btf, made = merged(*files)
    for name in ("list", "other", "int"):
        assert len(btf.find_all(name)) == 1
        ids = {ids[file.find(name) or 0] for file, ids in zip(files, made.ids, strict=True)}
        assert ids == {btf.find(name)}
    assert not list(btf.ids_of_kind(Fwd))
    assert len(btf) == len(files[0]) + 3


def test_types_that_differ_somewhere_are_kept_apart() -> None:
    builder = BtfBuilder()
    number = builder.add_int("int", 8, 1)
    type_id = builder.reserve()
    builder.define(type_id, Struct("list", 24, (Member("next", builder.add_ptr(type_id), 0),)))
    builder.add_struct("other", 8, [Member("x", number, 0)])
    btf, _ = merged(listed(), Btf.from_bytes(builder.to_bytes()))
    assert [len(btf.find_all(name)) for name in ("int", "list", "other")] == [2, 2, 2]


def test_a_declaration_of_two_things_stays_one() -> None:
    first, second = BtfBuilder(), BtfBuilder()
    for builder, size in ((first, 4), (second, 8)):
        builder.add_struct("twice", size, [])
    second.add_ptr(second.add_fwd("twice"))
    btf, _ = merged(*(Btf.from_bytes(builder.to_bytes()) for builder in (first, second)))
    assert len(list(btf.ids_of_kind(Fwd))) == 1


def test_a_section_is_no_type_of_a_member() -> None:
    builder = BtfBuilder()
    section = builder.add_datasec(".data", 0)
    builder.add_struct("s", 4, [Member("x", section, 0)])
    with pytest.raises(FormatError, match="made of a section"):
        merged(Btf.from_bytes(builder.to_bytes()))


def test_alike() -> None:
    one = BtfBuilder()
    number, wide = one.add_int("int", 4, 1), one.add_int("long", 8, 1)
    ours = {
        "int": number,
        "long": wide,
        "3": one.add_array(number, 3),
        "4": one.add_array(number, 4),
        "0": one.add_array(number, 0),
        "struct": one.add_ptr(one.add_struct("s", 4, [])),
        "fwd": one.add_ptr(one.add_fwd("s")),
        "union": one.add_ptr(one.add_fwd("s", is_union=True)),
        "void": one.add_ptr(0),
        "f(int)": one.add_func_proto(0, [("a", number)]),
        "f(int) b": one.add_func_proto(0, [("b", one.add_const(number))]),
        "f(long)": one.add_func_proto(0, [("a", wide)]),
        "f()": one.add_func_proto(0, []),
    }
    btf = Btf.from_bytes(one.to_bytes())
    same = {frozenset(pair) for pair in [("3", "0"), ("4", "0"), ("struct", "fwd"), ("f(int)", "f(int) b")]}
    for a, first in ours.items():
        for b, second in ours.items():
            assert alike(btf, first, btf, second) == (a == b or frozenset((a, b)) in same), (a, b)
    deep = BtfBuilder()
    at = deep.add_int("int", 4)
    for _ in range(100):
        at = deep.add_ptr(at)
    chain = Btf.from_bytes(deep.to_bytes())
    with pytest.raises(FormatError, match="nested too deeply"):
        alike(chain, at, chain, at)


@pytest.mark.parametrize("order", ["little", "big"])
def test_records_are_written_as_they_are_read(order: str) -> None:
    builder = BtfBuilder()
    file, text = builder.add_string("a.c"), builder.add_string("return 0;")
    ext = BtfExt(
        {"socket": [FuncInfo(0, 1), FuncInfo(4, 2)]},
        {"socket": [LineInfo(0, file, text, 3, 7), LineInfo(2, file, text, 1 << 30, 1 << 20)]},
        {"xdp": [CoreRelo(1, 1, "0:1:2", 5)]},
    )
    made = encode_ext(ext, builder, order)  # type: ignore[arg-type]
    builder.add_int("int", 4)
    found = parse_ext(made, Btf.from_bytes(builder.to_bytes(order)))  # type: ignore[arg-type]
    assert found.func_info == ext.func_info
    assert found.core_relos == ext.core_relos
    assert found.line_info["socket"] == [
        ext.line_info["socket"][0],
        LineInfo(2, file, text, (1 << 22) - 1, (1 << 10) - 1),
    ]
    assert parse_ext(
        encode_ext(BtfExt({}, {}, {}), BtfBuilder(), "little"), Btf.from_bytes(BtfBuilder().to_bytes())
    ) == (BtfExt({}, {}, {}))
