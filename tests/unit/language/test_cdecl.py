"""The C part of a script: layouts as the psABI has them, and what scripts may not declare."""

from __future__ import annotations

import pytest

from tracebee.language.cdecl import Declarations
from tracebee.spec.types import INT8, INT32, UINT8, Array, Enum, Pointer, Str, Struct, Type, Void

from .fixtures import FakeMachine, build, messages, typed


def declare(text: str, machine: FakeMachine | None = None) -> Declarations:
    declarations = typed(f"{text}\nBEGIN {{ }}", machine).declarations
    assert declarations is not None
    return declarations


def struct(text: str, name: str = "struct s") -> Struct:
    found = declare(text).types[name]
    assert isinstance(found, Struct)
    return found


def offsets(found: Struct) -> list[tuple[str, int]]:
    return [(field.name, field.offset) for field in found.fields]


@pytest.mark.parametrize(
    ("members", "expected", "size", "align"),
    [
        # The numbers are gcc's and clang's for x86-64 and arm64.
        ("char a; int b; char c;", [("a", 0), ("b", 4), ("c", 8)], 12, 4),
        ("char a; long b;", [("a", 0), ("b", 8)], 16, 8),
        ("short a, b; unsigned long long c;", [("a", 0), ("b", 2), ("c", 8)], 16, 8),
        ("void *p; char c;", [("p", 0), ("c", 8)], 16, 8),
        ("char a[3]; short b;", [("a", 0), ("b", 4)], 6, 2),
        ("int a[2][3]; char b;", [("a", 0), ("b", 24)], 28, 4),
        ("double d; float f;", [("d", 0), ("f", 8)], 16, 8),
        ("int (*f)(int, void *); char c;", [("f", 0), ("c", 8)], 16, 8),
        ("_Bool a; __u32 b; size_t c;", [("a", 0), ("b", 4), ("c", 8)], 16, 8),
        ("char a; long long b __attribute__((packed)); int c;", [("a", 0), ("b", 1), ("c", 12)], 16, 4),
        ("char a; double b __attribute__((packed));", [("a", 0), ("b", 1)], 9, 1),
        ("char a, b __attribute__((aligned(4))), c;", [("a", 0), ("b", 4), ("c", 5)], 8, 4),
        ("char a; int b __attribute__((aligned(16)));", [("a", 0), ("b", 16)], 32, 16),
        ("char a; int n[];", [("a", 0), ("n", 4)], 4, 4),
        ("struct { int x; } in; char c;", [("in", 0), ("c", 4)], 8, 4),
        ("", [], 0, 1),
    ],
)
def test_members_lie_as_compilers_lay_them(
    members: str, expected: list[tuple[str, int]], size: int, align: int
) -> None:
    found = struct(f"struct s {{ {members} }};")
    assert (offsets(found), found.size, found.align) == (expected, size, align)


@pytest.mark.parametrize(
    ("text", "size", "align"),
    [
        ("struct s { char a; int b; } __attribute__((packed));", 5, 1),
        ("struct __attribute__((packed)) s { char a; int b; };", 5, 1),
        ("struct s { char a; int b; } __attribute__((aligned(16)));", 16, 16),
        ("struct s { char a; int b; } __attribute__((packed, aligned(4)));", 8, 4),
        ("struct s { char a; } __attribute__((aligned));", 16, 16),
        ("struct s { char a; } __attribute__((aligned(sizeof(long))));", 8, 8),
    ],
)
def test_attributes_of_a_structure(text: str, size: int, align: int) -> None:
    found = struct(text)
    assert (found.size, found.align) == (size, align)


@pytest.mark.parametrize(
    ("members", "expected", "size"),
    [
        ("unsigned a : 3; unsigned b : 5;", [("a", 0, 3, 0), ("b", 0, 5, 3)], 4),
        ("unsigned a : 20; unsigned b : 20;", [("a", 0, 20, 0), ("b", 4, 20, 0)], 8),
        ("unsigned char a : 4, b : 4, c : 1;", [("a", 0, 4, 0), ("b", 0, 4, 4), ("c", 1, 1, 0)], 2),
        ("unsigned a : 3; unsigned : 5; unsigned b : 2;", [("a", 0, 3, 0), ("b", 0, 2, 8)], 4),
        ("unsigned a : 3; unsigned : 0; unsigned b : 2;", [("a", 0, 3, 0), ("b", 4, 2, 0)], 8),
        ("unsigned long a : 40; unsigned b : 8;", [("a", 0, 40, 0), ("b", 4, 8, 8)], 8),
        ("int x; unsigned a : 1;", [("x", 0, 0, 0), ("a", 4, 1, 0)], 8),
        ("unsigned a : 3; char c;", [("a", 0, 3, 0), ("c", 1, 0, 0)], 4),
    ],
)
def test_bit_fields(members: str, expected: list[tuple[str, int, int, int]], size: int) -> None:
    found = struct(f"struct s {{ {members} }};")
    assert [(f.name, f.offset, f.bits, f.bit_offset) for f in found.fields] == expected
    assert found.size == size


def test_unions_and_anonymous_members() -> None:
    found = struct(
        "struct s { int tag; union { long whole; struct { int low; int high; }; char bytes[8]; }; };"
    )
    assert found.size == 16
    places = {
        name: field.offset for name in ("tag", "whole", "low", "high", "bytes") if (field := found.find(name))
    }
    assert places == {"tag": 0, "whole": 8, "low": 8, "high": 12, "bytes": 8}
    assert struct("union u { char a; long b; int c[3]; };", "union u").size == 16


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        ("char x[5];", Str(5)),
        ("unsigned char x[5];", Array(UINT8, 5)),
        ("signed char x;", INT8),
        ("const volatile int x;", INT32),
        ("int *x;", Pointer(INT32)),
        ("int **x;", Pointer(Pointer(INT32))),
        ("int *x[2];", Array(Pointer(INT32), 2)),
        ("int (*x)[2];", Pointer(Array(INT32, 2))),
        ("int (*x)(void);", Pointer(Void())),
        ("int *(*x[3])(int (*)(char));", Array(Pointer(Void()), 3)),
        ("void *x;", Pointer(Void())),
        ("double x;", Void(8)),
        ("int x[1 + 2 * 2];", Array(INT32, 5)),
        ("int x[sizeof(long)];", Array(INT32, 8)),
        ("int x[B];", Array(INT32, 7)),
        ("int x[SIZE];", Array(INT32, 9)),
    ],
)
def test_declarators(declaration: str, expected: Type) -> None:
    found = struct(f"#define SIZE (4 + 5)\nenum e {{ A = 6, B }};\nstruct s {{ {declaration} }};").find("x")
    assert found is not None
    assert found.type == expected


def test_enumerations() -> None:
    found = declare(
        "enum e { A, B = 5, C, D = B + 10, E = (1 << 4), };\nenum { X = -1, Y };\nenum w { W = 1UL << 40 };"
    )
    assert {name: value for name, (value, _) in found.enumerators.items()} == {
        "A": 0,
        "B": 5,
        "C": 6,
        "D": 15,
        "E": 16,
        "X": -1,
        "Y": 0,
        "W": 1 << 40,
    }
    assert found.types["enum e"] == Enum("e", 4, False, ((0, "A"), (5, "B"), (6, "C"), (15, "D"), (16, "E")))
    assert found.enumerators["X"][1] == Enum("", 4, True, ((-1, "X"), (0, "Y")))
    assert found.types["enum w"].size == 8


def test_typedefs() -> None:
    found = declare(
        "typedef unsigned int number, *pointer;\ntypedef struct { number n; } box;\ntypedef int arr[4];"
    )
    assert found.types["number"] == found.types["pointer"].target  # type: ignore[attr-defined]
    assert found.types["box"].size == 4
    assert found.types["arr"] == Array(INT32, 4)


def test_structures_may_name_each_other() -> None:
    found = declare("struct a { struct b *other; struct a *self; };\nstruct b { struct a inside; int x; };")
    a, b = found.types["struct a"], found.types["struct b"]
    assert isinstance(a, Struct)
    assert isinstance(b, Struct)
    assert (a.size, b.size) == (16, 24)
    other = a.find("other")
    assert other is not None
    assert isinstance(other.type, Pointer)
    assert other.type.target.size == 24


def test_the_kernels_structures_can_be_named() -> None:
    found = struct("struct s { struct task_struct *task; struct list_head head; };")
    assert found.size == 24
    task = found.find("task")
    assert task is not None
    assert isinstance(task.type, Pointer)
    assert task.type.target.size == 128


def test_what_a_script_declares_hides_the_kernels() -> None:
    compilation = typed(
        "struct task_struct { int mine; };\nBEGIN { $x = (struct task_struct *)1; print($x.mine); }"
    )
    assert compilation.diagnostics.all == ()


def test_headers() -> None:
    header = (
        '#pragma once\nint puts(const char *s) __attribute__((nonnull(1))) __asm__("puts");\n'
        "struct s { int a; };\nstatic inline int f(void) { return 1; }\n#define N 3\n"
    )
    machine = FakeMachine(headers={"mine.h": header})
    found = declare("#include <mine.h>\n#include <linux/sched.h>\nstruct t { struct s inside[N]; };", machine)
    assert found.types["struct t"].size == 12
    assert messages("#include <mine.h>\nBEGIN { }") == ["'mine.h' file not found"]
    # Without the kernel's types its headers are needed.
    bare = FakeMachine(has_btf=False)
    assert messages("#include <linux/sched.h>\nBEGIN { }", machine=bare) == ["'linux/sched.h' file not found"]


def test_included_from_the_command_line() -> None:
    machine = FakeMachine(headers={"mine.h": "struct s { int a; };"})
    assert build("BEGIN { print(sizeof(struct s)); }", machine, includes=("mine.h",)).spec is not None


def test_constants_stand_in_the_script() -> None:
    compilation = typed(
        '#define A 5\n#define B (A + 1)\n#define C "text"\n#define D comm\nBEGIN { @a = B; @b = C; @c = D; }'
    )
    assert compilation.inference is not None
    values = {name: str(state.value) for name, state in compilation.inference.maps.items()}
    assert values == {"@a": "int8", "@b": "string[5]", "@c": "string[16]"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("struct s { int x = 5; };", "expected ';' in C declaration"),
        ("struct s { nosuch x; };", "unknown type name 'nosuch'"),
        ("struct s { int x[-1]; };", "size is out of range"),
        ("struct s { int x[1 / 0]; };", "division by zero"),
        ("struct s { int x[N]; };", "'N' is no constant"),
        ("struct s { int x : 33; };", "bit field is wider than its type"),
        ("struct s { int x; } __attribute__((aligned(3)));", "alignment is not a power of two"),
        ("struct s { int x; } __attribute__((aligned(08)));", "invalid integer: 08"),
        ("struct { };", ""),
        ("struct s { __int128 x; };", "__int128 is not supported"),
        ("enum e { 5 };", "expected the name of an enumerator"),
        ("enum e { A = };", "expected an expression"),
        ("enum missing x;", "unknown type 'enum missing'"),
        ("#if 1\n", "#if without #endif"),
        ("#endif\n", "directive without #if"),
        ("#error no\n", "#error no"),
        ("struct s {" * 10_000 + "}" * 10_000 + ";", "C declaration is nested too deeply"),
        (
            "struct s { int " + "(" * 10_000 + "x" + ")" * 10_000 + "; };",
            "C declaration is nested too deeply",
        ),
        ("struct s { int x[" + "- " * 10_000 + "1]; };", "expression is nested too deeply"),
        ("struct s { int x[" + "(" * 10_000 + "1]; };", "expression is nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_declaration(text: str, message: str) -> None:
    if not message:
        assert typed(f"{text}\nBEGIN {{ }}").diagnostics.all == ()
        return
    assert messages(f"{text}\nBEGIN {{ print(1); }}") == [message]


@pytest.mark.parametrize(
    "defines",
    [
        "".join(f"#define a{i} (a{i + 1} + a{i + 1})\n" for i in range(60)) + "#define a60 1\n",
        "".join(f"#define a{i} a{i + 1}\n" for i in range(2000)),
    ],
    ids=["powers", "chain"],
)
def test_constants_that_grow_beyond_reason_are_refused(defines: str) -> None:
    (found,) = messages(defines + "BEGIN { print(a0); }")
    assert found.endswith("expands to too much")


def test_a_structure_of_many_members() -> None:
    members = "".join(f"int x{number};" for number in range(19_000))
    assert struct(f"struct s {{ {members} }};").size == 4 * 19_000
    assert messages(f"struct s {{ {members * 2} }};\nBEGIN {{ }}") == ["structure has too many members"]
