"""Types out of a few words of C: sizes and places as a compiler has them, and what is refused."""

from __future__ import annotations

import pytest

from tracebee.btf import Btf, Composite
from tracebee.btf.format import declaration
from tracebee.btf.typetext import types_of
from tracebee.errors import UsageError


def made(text: str) -> tuple[Btf, int, int]:
    btf, data, ((type_id, size),) = types_of(text)
    assert btf.size_of(type_id) == size
    assert len(Btf.from_bytes(data)) == len(btf)
    return btf, type_id, size


@pytest.mark.parametrize(
    ("text", "size", "shown"),
    [
        ("u8", 1, "u8"),
        ("__s64", 8, "__s64"),
        ("uint16_t", 2, "uint16_t"),
        ("__be32", 4, "__be32"),
        ("int", 4, "int"),
        ("unsigned", 4, "unsigned int"),
        ("long unsigned int", 8, "unsigned long int"),
        ("unsigned long long", 8, "unsigned long long"),
        ("const signed char", 1, "char"),
        ("short", 2, "short"),
        ("__int128", 16, "__int128"),
        ("bool", 1, "bool"),
        ("double", 8, "double"),
        ("char[16]", 16, "char [16]"),
        ("u32 [2][3]", 24, "u32 [2][3]"),
        ("u8[0x10]", 16, "u8 [16]"),
        ("void *", 8, "void *"),
        ("struct task_struct *", 8, "struct task_struct *"),
        ("char *const *", 8, "char **"),
        ("u64 *[4]", 32, "u64 *[4]"),
        ("enum { A, B = 5, C }", 4, "enum {\n\tA = 0,\n\tB = 5,\n\tC = 6,\n}"),
        ("enum wide { A = 0x100000000 }", 8, "enum wide"),
        ("struct key { u32 pid; char comm[16]; }", 20, "struct key"),
        ("union { u64 a; u8 b[3]; }", 8, None),
    ],
)
def test_types(text: str, size: int, shown: str | None) -> None:
    btf, type_id, found = made(text)
    assert found == size
    if shown is not None:
        assert declaration(btf, type_id) == shown


@pytest.mark.parametrize(
    ("text", "size", "places"),
    [
        ("struct { u8 a; u32 b; u8 c; }", 12, [("a", 0, 0), ("b", 32, 0), ("c", 64, 0)]),
        ("struct { u32 a, b; u64 c; }", 16, [("a", 0, 0), ("b", 32, 0), ("c", 64, 0)]),
        ("struct { u32 a : 3; u32 b : 30; u8 c; }", 12, [("a", 0, 3), ("b", 32, 30), ("c", 64, 0)]),
        ("struct { char a[3]; u16 b[2]; void *p; }", 16, [("a", 0, 0), ("b", 32, 0), ("p", 64, 0)]),
        ("struct { struct { u64 x; } in; u8 y; }", 16, [("in", 0, 0), ("y", 64, 0)]),
        ("struct { u8 a; struct { u16 b; }; }", 4, [("a", 0, 0), ("", 16, 0)]),
    ],
)
def test_members_lie_as_in_c(text: str, size: int, places: list[tuple[str, int, int]]) -> None:
    btf, type_id, found = made(text)
    composite = btf.type(type_id)
    assert isinstance(composite, Composite)
    assert found == size
    assert [(one.name, one.bit_offset, one.bitfield_size) for one in composite.members] == places


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" ", "unexpected"),
        ("u33", "did you mean"),
        ("struct s", "members are not said"),
        ("struct { u32 }", "needs a name"),
        ("struct { u32 a; u32 a; }", "two members a"),
        ("struct { u8 a : 9; }", "bitfield of 9 bits"),
        ("struct { u32 : 0; }", "bitfield of 0 bits"),
        ("struct { void v; }", "has no size"),
        ("void", "no size"),
        ("u32 x", "its end"),
        ("u32[0]", "array of 0"),
        ("u32[-1]", "array of -1"),
        ("char[9999999999]", "array of"),
        ("u32[", "a number"),
        ("struct {" * 40, "nested deeper"),
        ("enum { 3 }", "needs a name"),
        ("u32 %", "unexpected '%'"),
    ],
)
def test_what_is_no_type(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match="no type") as caught:
        made(text)
    assert reason in str(caught.value)
