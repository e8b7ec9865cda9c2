"""BTF made simpler for kernels that know fewer kinds."""

from __future__ import annotations

import sys

import pytest

from tracebee.btf import Btf
from tracebee.btf.sanitize import MISSING, sanitize
from tracebee.btf.types import (
    FUNC_GLOBAL,
    FUNC_STATIC,
    INT_SIGNED,
    Const,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    EnumValue,
    Float,
    Func,
    FuncProto,
    Int,
    Member,
    Struct,
    Type,
    Typedef,
    TypeTag,
    Union,
    Var,
    VarSecinfo,
)
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError

NUMBER, PROTO, MAIN, COUNTER, SECTION, REAL, TAG, POINTED, WIDE, SIGNED, ODD = range(1, 12)


def built(byteorder: str = sys.byteorder) -> bytes:
    builder = BtfBuilder()
    assert builder.add_int("int", 4, INT_SIGNED) == NUMBER
    assert builder.add_func_proto(NUMBER, [("ctx", NUMBER)]) == PROTO
    assert builder.add_func("main", PROTO, FUNC_GLOBAL) == MAIN
    assert builder.add_var("counter", NUMBER) == COUNTER
    assert builder.add_datasec(".data.x", 8, [(COUNTER, 4, 4)]) == SECTION
    assert builder.add_float("double", 8) == REAL
    assert builder.add_decl_tag("tag", COUNTER) == TAG
    assert builder.add_type_tag("user", NUMBER) == POINTED
    assert builder.add_enum64("wide", [("BIG", 1 << 40), ("SMALL", 1)]) == WIDE
    assert builder.add_enum("color", [("RED", 0), ("NONE", -1)]) == SIGNED
    assert builder.add_datasec("?.struct_ops", 4) == ODD
    return builder.to_bytes(byteorder)  # type: ignore[arg-type]


def changed(*missing: str) -> dict[int, Type]:
    """The types that are not as they were."""
    before, after = Btf.from_bytes(built()), Btf.from_bytes(sanitize(built(), missing))
    return {
        number: after.type(number)
        for number in range(1, len(after))
        if number >= len(before) or before.type(number) != after.type(number)
    }


PLACEHOLDER = Int("", 1, 0, 8)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("global_func", {MAIN: Func("main", PROTO, FUNC_STATIC)}),
        ("float", {REAL: Struct("", 8, ())}),
        ("decl_tag", {TAG: Int("", 1, 0, 8)}),
        ("type_tag", {POINTED: Const(NUMBER)}),
        ("datasec_names", {ODD: Datasec("_.struct_ops", 4, ())}),
        (
            "enum64",
            {
                WIDE: Union("wide", 8, (Member("BIG", 12, 0), Member("SMALL", 12, 0))),
                SIGNED: Enum("color", 4, False, (EnumValue("RED", 0), EnumValue("NONE", 0xFFFFFFFF))),
                12: PLACEHOLDER,
            },
        ),
        (
            "datasec",
            {
                COUNTER: Int("counter", 1, 0, 8),
                SECTION: Struct("_data_x", 8, (Member("counter", COUNTER, 32),)),
                ODD: Struct("__struct_ops", 4, ()),
            },
        ),
        (
            "func",
            {
                PROTO: Enum("", 4, False, (EnumValue("ctx", NUMBER),)),
                MAIN: Typedef("main", PROTO),
            },
        ),
    ],
)
def test_what_a_kind_becomes(missing: str, expected: dict[int, Type]) -> None:
    assert changed(missing) == expected


def test_a_kernel_that_lacks_nothing() -> None:
    assert sanitize(built(), ()) == built()


def test_a_kernel_that_lacks_everything() -> None:
    """Not one of the newer kinds is left, and every type is where it was."""
    found = Btf.from_bytes(sanitize(built(), MISSING))
    new = (FuncProto, Func, Var, Datasec, Float, DeclTag, TypeTag, Enum64)
    assert not [number for number in range(1, len(found)) if isinstance(found.type(number), new)]
    assert len(found) == len(Btf.from_bytes(built())) + 1


def test_the_other_byte_order() -> None:
    other = "big" if sys.byteorder == "little" else "little"
    for missing in MISSING:
        mine = Btf.from_bytes(sanitize(built(), (missing,)))
        theirs = Btf.from_bytes(sanitize(built(other), (missing,)))
        assert [mine.type(number) for number in range(len(mine))] == [
            theirs.type(number) for number in range(len(theirs))
        ]


def test_an_offset_in_a_section_is_one_in_bits() -> None:
    builder = BtfBuilder()
    number = builder.add_int("int", 4)
    variables = [builder.add_var(name, number) for name in ("a", "b")]
    builder.add_datasec(".bss", 16, [(variables[0], 0, 4), (variables[1], 12, 4)])
    found = Btf.from_bytes(sanitize(builder.to_bytes(), ("datasec",))).type(4)
    assert found == Struct("_bss", 16, (Member("a", 2, 0), Member("b", 3, 96)))
    kept = Btf.from_bytes(sanitize(builder.to_bytes(), ("float",))).type(4)
    assert kept == Datasec(".bss", 16, (VarSecinfo(2, 0, 4), VarSecinfo(3, 12, 4)))


def test_what_is_no_btf() -> None:
    with pytest.raises(FormatError):
        sanitize(b"\x9f\xeb\x01", ("float",))
