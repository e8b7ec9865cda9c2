"""BTF as a C header: the order of definitions, and names that are there twice."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tracebee.btf import Btf, Member
from tracebee.btf.header import HEAD, TAIL, header
from tracebee.btf.types import INT_SIGNED, Struct
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError


def pieces(builder: BtfBuilder, roots: list[int] | None = None) -> list[str]:
    """The definitions and declarations of the header."""
    text = "".join(header(Btf.from_bytes(builder.to_bytes()), roots))
    assert text.startswith(HEAD)
    assert text.endswith(TAIL)
    body = text.removeprefix(HEAD).removesuffix(TAIL)
    return body.strip("\n").split("\n\n") if body.strip("\n") else []


def define(text: str) -> str:
    return dedent(text).strip("\n").replace("    ", "\t")


def test_what_is_held_by_value_comes_first() -> None:
    builder = BtfBuilder()
    inner = builder.reserve()
    outer = builder.add_struct("outer", 8, [Member("in", inner, 0)])
    number = builder.add_int("int", 4, INT_SIGNED)
    size = builder.add_typedef("my_size", number)
    builder.define(inner, Struct("inner", 8, (Member("n", size, 0), Member("m", size, 32))))
    expected = [
        "typedef int my_size;",
        define("""
            struct inner {
                my_size n;
                my_size m;
            };
        """),
        define("""
            struct outer {
                struct inner in;
            };
        """),
    ]
    assert pieces(builder) == expected
    assert pieces(builder, [outer]) == expected
    assert pieces(builder, [size]) == expected[:1]
    assert pieces(builder, [number]) == []


def test_what_is_pointed_to_is_declared_once_and_not_if_known() -> None:
    builder = BtfBuilder()
    file = builder.reserve()
    pointer = builder.add_ptr(file)
    builder.add_struct("user", 8, [Member("file", pointer, 0)])
    builder.add_struct("another", 8, [Member("file", pointer, 0)])
    # Arrays need the whole of their elements, also behind a pointer.
    element = builder.reserve()
    rows = builder.add_ptr(builder.add_array(element, 2))
    builder.add_struct("matrix", 8, [Member("rows", rows, 0)])
    builder.define(file, Struct("file", 8, (Member("next", pointer, 0),)))
    builder.define(element, Struct("element", 0, ()))
    proto = builder.add_func_proto(0, [("x", builder.add_ptr(builder.add_fwd("opaque")))])
    builder.add_typedef("fn_t", builder.add_ptr(proto))
    assert [piece.splitlines()[0] for piece in pieces(builder)] == [
        "struct file {",
        "struct user {",
        "struct another {",
        "struct element {};",
        "struct matrix {",
        "struct opaque;",
        "typedef void (*fn_t)(struct opaque *x);",
    ]


def test_names_that_are_there_twice() -> None:
    builder = BtfBuilder()
    number = builder.add_int("int", 4, INT_SIGNED)
    first = builder.add_struct("pair", 4, [Member("a", number, 0)])
    second = builder.add_struct("pair", 8, [Member("a", number, 0), Member("b", number, 32)])
    builder.add_struct("pair___2", 0)
    builder.add_enum("pair", [("A", 0)])
    builder.add_enum("other", [("A", 1), ("B", 2)])
    builder.add_typedef("B", second)
    builder.add_struct("both", 16, [Member("x", first, 0), Member("y", second, 32)])
    text = "\n".join(pieces(builder))
    for line in (
        "struct pair {",
        "struct pair___2 {",
        "struct pair___2___2 {};",
        "enum pair___3 {",
        "\tA = 0,",
        "\tA___2 = 1,",
        "\tB = 2,",
        "typedef struct pair___2 B___2;",
        "\tstruct pair x;",
        "\tstruct pair___2 y;",
    ):
        assert line in text.splitlines(), line


def test_anonymous_enumerations_are_written_once() -> None:
    builder = BtfBuilder()
    single = builder.add_enum("", [("ONE", 1)])
    shared = builder.add_enum("", [("TWO", -2)])
    builder.add_enum("", [("ALONE", 3)], 1)
    builder.add_typedef("one_t", single)
    builder.add_struct("s", 8, [Member("x", shared, 0), Member("y", shared, 32)])
    assert pieces(builder) == [
        define("""
            enum {
                TWO = -2,
            };
        """),
        define("""
            enum {
                ALONE = 3,
            } __attribute__((mode(byte)));
        """),
        define("""
            typedef enum {
                ONE = 1,
            } one_t;
        """),
        define("""
            struct s {
                int x;
                int y;
            };
        """),
    ]


def test_what_compilers_bring_themselves_is_left_out() -> None:
    builder = BtfBuilder()
    tag = builder.add_struct("__va_list_tag", 0)
    listed = builder.add_typedef("__builtin_va_list", builder.add_array(tag, 1))
    builder.add_typedef("va_list", listed)
    assert pieces(builder) == ["struct __va_list_tag {};", "typedef __builtin_va_list va_list;"]


def test_a_structure_in_itself() -> None:
    builder = BtfBuilder()
    at = builder.reserve()
    middle = builder.add_struct("middle", 8, [Member("m", at, 0)])
    builder.define(at, Struct("loop", 8, (Member("l", middle, 0),)))
    with pytest.raises(FormatError, match="contains itself"):
        pieces(builder)


def test_a_long_chain_of_definitions() -> None:
    builder = BtfBuilder()
    ids = [builder.reserve() for _ in range(3000)]
    for number, (at, following) in enumerate(zip(ids, [*ids[1:], 0], strict=True)):
        builder.define(at, Struct(f"s{number}", 0, (Member("v", following, 0),) if following else ()))
    found = pieces(builder, ids[:1])
    assert [piece.splitlines()[0] for piece in found[:2]] == ["struct s2999 {};", "struct s2998 {"]
    assert len(found) == 3000
