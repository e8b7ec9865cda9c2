"""Declarations and definitions in C."""

from __future__ import annotations

import pytest

from tracebee.btf import Btf, FuncProto, Member, Param, Ptr, Struct, Typedef
from tracebee.btf.format import declaration, definition, function_params, return_type
from tracebee.btf.types import INT_SIGNED
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError


class World:
    """A few types to build others from."""

    def __init__(self) -> None:
        self.builder = builder = BtfBuilder()
        self.char = builder.add_int("char", 1)
        self.int = builder.add_int("int", 4, INT_SIGNED)
        self.long = builder.add_int("long unsigned int", 8)
        self.file = builder.add_struct("file", 8, [Member("pos", self.long, 0)])
        self.size_t = builder.add_typedef("size_t", self.long)

    @property
    def btf(self) -> Btf:
        return Btf.from_bytes(self.builder.to_bytes())

    def declare(self, type_id: int, name: str = "") -> str:
        return declaration(self.btf, type_id, name)

    def define(self, type_id: int) -> str:
        return definition(self.btf, type_id)


@pytest.fixture
def world() -> World:
    return World()


def test_plain_types(world: World) -> None:
    builder = world.builder
    assert world.declare(0) == "void"
    assert world.declare(world.int) == "int"
    assert world.declare(world.int, "x") == "int x"
    assert world.declare(world.size_t, "n") == "size_t n"
    assert world.declare(world.file, "f") == "struct file f"
    assert world.declare(builder.add_union("u", 0), "u") == "union u u"
    assert world.declare(builder.add_enum("e", [("A", 1)]), "e") == "enum e e"
    assert world.declare(builder.add_enum("e"), "e") == "enum e e"
    assert world.declare(builder.add_enum(""), "e") == "enum e"
    assert world.declare(builder.add_fwd("f"), "f") == "struct f f"
    assert world.declare(builder.add_fwd("f", is_union=True), "f") == "union f f"
    assert world.declare(builder.add_float("double", 8), "d") == "double d"


def test_pointers_and_qualifiers(world: World) -> None:
    add = world.builder
    text = add.add_ptr(add.add_const(world.char))
    assert world.declare(text) == "const char *"
    assert world.declare(text, "argv") == "const char *argv"
    assert world.declare(add.add_ptr(text), "argv") == "const char **argv"
    assert world.declare(add.add_const(text), "argv") == "const char * const argv"
    assert world.declare(add.add_const(text)) == "const char * const"
    assert world.declare(add.add_ptr(add.add_const(text)), "argv") == "const char * const *argv"
    assert world.declare(add.add_restrict(text), "s") == "const char * restrict s"
    assert world.declare(add.add_const(add.add_volatile(world.int)), "x") == "volatile const int x"
    assert world.declare(add.add_const(add.add_const(world.int)), "x") == "const int x"
    assert world.declare(add.add_ptr(world.file)) == "struct file *"
    assert world.declare(add.add_ptr(0), "p") == "void *p"


def test_arrays(world: World) -> None:
    add = world.builder
    four = add.add_array(world.int, 4)
    assert world.declare(four) == "int [4]"
    assert world.declare(add.add_ptr(four)) == "int (*)[4]"
    assert world.declare(four, "a") == "int a[4]"
    assert world.declare(add.add_array(four, 2), "a") == "int a[2][4]"
    assert world.declare(add.add_array(add.add_ptr(world.char), 3), "argv") == "char *argv[3]"
    assert world.declare(add.add_ptr(four), "p") == "int (*p)[4]"
    assert world.declare(add.add_ptr(add.add_array(add.add_ptr(world.char), 3)), "p") == "char *(*p)[3]"
    assert world.declare(add.add_array(world.char, 0), "tail") == "char tail[0]"
    assert world.declare(add.add_const(add.add_array(world.char, 2)), "x") == "const char x[2]"
    assert world.declare(add.add_const(add.add_array(add.add_const(world.char), 2)), "x") == "const char x[2]"


def test_functions(world: World) -> None:
    add = world.builder
    file = add.add_ptr(world.file)
    proto = add.add_func_proto(world.int, [("", file), ("", world.size_t)])
    fn = add.add_ptr(proto)
    assert world.declare(fn, "fn") == "int (*fn)(struct file *, size_t)"
    assert world.declare(fn) == "int (*)(struct file *, size_t)"
    assert world.declare(add.add_const(fn), "fn") == "int (* const fn)(struct file *, size_t)"
    assert world.declare(add.add_array(fn, 3), "fns") == "int (*fns[3])(struct file *, size_t)"
    assert world.declare(add.add_ptr(add.add_func_proto(0)), "fn") == "void (*fn)(void)"
    assert world.declare(add.add_ptr(add.add_func_proto(0, [("", 0)])), "fn") == "void (*fn)(void)"
    printf = add.add_func_proto(world.int, [("fmt", add.add_ptr(add.add_const(world.char))), ("", 0)])
    assert world.declare(add.add_ptr(printf), "p") == "int (*p)(const char *fmt, ...)"
    # As libbpf has it: a space between what is returned and the parenthesis.
    assert world.declare(add.add_ptr(add.add_func_proto(file)), "open") == "struct file * (*open)(void)"
    assert world.declare(add.add_func("vfs_open", add.add_func_proto(file))) == "struct file *vfs_open(void)"
    # A function that takes a function and returns one: signal(2).
    handler = add.add_ptr(add.add_func_proto(0, [("", world.int)]))
    signal = add.add_func("signal", add.add_func_proto(handler, [("sig", world.int), ("func", handler)]))
    assert world.declare(signal) == "void (*signal(int sig, void (*func)(int)))(int)"
    # GCC marks a function that does not return as volatile.
    assert world.declare(add.add_ptr(add.add_volatile(proto)), "fn") == "int (*fn)(struct file *, size_t)"


def test_tags(world: World) -> None:
    add = world.builder
    user = add.add_ptr(add.add_type_tag("user", add.add_const(world.char)))
    assert world.declare(user, "buf") == 'const char __attribute__((btf_type_tag("user"))) *buf'
    arena = add.add_ptr(add.add_type_tag("address_space(1)", world.char, is_attribute=True))
    assert world.declare(arena, "p") == "char __attribute__((address_space(1))) *p"


def test_definitions_of_other_kinds(world: World) -> None:
    add = world.builder
    counter = add.add_var("counter", add.add_array(world.long, 2))
    assert world.define(world.size_t) == "typedef long unsigned int size_t;"
    assert world.define(add.add_fwd("opaque")) == "struct opaque;"
    assert world.define(counter) == "long unsigned int counter[2];"
    assert world.define(add.add_func("f", add.add_func_proto(0))) == "void f(void);"
    assert world.define(add.add_datasec(".data", 16, [(counter, 0, 16)])) == (
        "/* section .data */\nlong unsigned int counter[2];"
    )
    assert world.define(add.add_decl_tag("tag", world.file)) == "struct file;"
    assert world.define(add.add_ptr(world.file)) == "struct file *;"
    callback = add.add_typedef("fn_t", add.add_ptr(add.add_func_proto(0, [("", world.int)])))
    assert world.define(callback) == "typedef void (*fn_t)(int);"


def test_enumerations(world: World) -> None:
    add = world.builder
    assert world.define(add.add_enum("color", [("RED", 0), ("NONE", -1)])) == (
        "enum color {\n\tRED = 0,\n\tNONE = -1,\n};"
    )
    assert world.define(add.add_enum("", [("ONE", 1)])) == "enum {\n\tONE = 1,\n};"
    assert world.define(add.add_enum("tiny", [("ONE", 1)], 1)) == (
        "enum tiny {\n\tONE = 1,\n} __attribute__((mode(byte)));"
    )
    assert world.define(add.add_enum64("big", [("BIG", 1 << 40), ("ONE", 1)])) == (
        "enum big {\n\tBIG = 1099511627776ULL,\n\tONE = 1ULL,\n};"
    )
    assert (
        world.define(add.add_enum64("neg", [("LOW", -(1 << 40))]))
        == "enum neg {\n\tLOW = -1099511627776LL,\n};"
    )
    assert world.define(add.add_enum("forward")) == "enum forward;"


def test_structures(world: World) -> None:
    add = world.builder
    inner = add.add_union("", 8, [Member("n", world.long, 0), Member("f", add.add_ptr(world.file), 0)])
    named = add.add_struct("", 4, [Member("x", world.int, 0)])
    kind = add.add_enum("", [("A", 0)])
    outer = add.add_struct(
        "outer",
        40,
        [
            Member("", inner, 0),
            Member("list", add.add_array(named, 2), 64),
            Member("a", world.int, 128, 3),
            Member("b", world.int, 131, 29),
            Member("kind", kind, 160),
            Member("comm", add.add_array(world.char, 16), 192),
        ],
    )
    assert world.define(outer) == (
        "struct outer {\n"
        "\tunion {\n"
        "\t\tlong unsigned int n;\n"
        "\t\tstruct file *f;\n"
        "\t};\n"
        "\tstruct {\n"
        "\t\tint x;\n"
        "\t} list[2];\n"
        "\tint a: 3;\n"
        "\tint b: 29;\n"
        "\tenum {\n"
        "\t\tA = 0,\n"
        "\t} kind;\n"
        "\tchar comm[16];\n"
        "};"
    )
    assert world.define(add.add_struct("empty", 0)) == "struct empty {};"
    assert world.define(add.add_typedef("outer_t", named)) == "typedef struct {\n\tint x;\n} outer_t;"


@pytest.mark.parametrize(
    ("size", "members", "lines"),
    [
        # (type, bit offset, bits); the lines are what must stand between the braces
        (16, [("char", 0, 0), ("long", 64, 0)], ["char m0;", "long unsigned int m1;"]),
        (16, [("int", 0, 0), ("int", 64, 0)], ["int m0;", "long: 0;", "int m1;", "long: 0;"]),
        (64, [("int", 0, 0)], ["int m0;", *["long: 64;"] * 7]),
        (8, [("int", 0, 0), ("char", 40, 0)], ["int m0;", "char: 8;", "char m1;"]),
        (4, [("int", 0, 3), ("int", 8, 2)], ["int m0: 3;", "char: 5;", "int m1: 2;"]),
        (4, [("int", 0, 3), ("int", 5, 2)], ["int m0: 3;", "char: 2;", "int m1: 2;"]),
        (8, [("int", 0, 3), ("int", 32, 2)], ["int m0: 3;", "int: 29;", "int m1: 2;"]),
        (12, [("int", 0, 0), ("long", 32, 0)], ["int m0;", "long unsigned int m1;"]),
    ],
)
def test_padding(world: World, size: int, members: list[tuple[str, int, int]], lines: list[str]) -> None:
    types = {"char": world.char, "int": world.int, "long": world.long}
    made = [Member(f"m{i}", types[name], at, bits) for i, (name, at, bits) in enumerate(members)]
    text = world.define(world.builder.add_struct("s", size, made))
    head, *middle, tail = text.split("\n")
    assert head == "struct s {"
    assert [line.strip() for line in middle] == lines
    assert tail == ("} __attribute__((packed));" if size == 12 else "};")


def test_function_signatures(world: World) -> None:
    add = world.builder
    file, text = add.add_ptr(world.file), add.add_ptr(add.add_const(world.char))
    proto = add.add_func_proto(add.add_ptr(0), [("file", file), ("fmt", text), ("", 0)])
    func = add.add_func("f", proto)
    btf = world.btf
    expected = [("struct file *", "file"), ("const char *", "fmt"), ("...", "")]
    assert function_params(btf, func) == function_params(btf, proto) == expected
    assert return_type(btf, func) == "void *"
    with pytest.raises(FormatError, match="not a function"):
        function_params(btf, world.int)
    broken = add.add_func("g", world.int)
    with pytest.raises(FormatError, match="not a function"):
        return_type(world.btf, broken)


def test_chains_that_do_not_end() -> None:
    builder = BtfBuilder()
    pointer = builder.reserve()
    builder.define(pointer, Ptr(pointer))
    name = builder.reserve()
    builder.define(name, Typedef("t", name))
    btf = Btf.from_bytes(builder.to_bytes())
    with pytest.raises(FormatError, match="contains itself"):
        declaration(btf, pointer, "p")
    assert declaration(btf, name, "x") == "t x"


def test_structures_and_prototypes_in_themselves() -> None:
    builder = BtfBuilder()
    anonymous = builder.reserve()
    builder.define(anonymous, Struct("", 4, (Member("", anonymous, 0), Member("", anonymous, 0))))
    proto = builder.reserve()
    pointer = builder.add_ptr(proto)
    builder.define(proto, FuncProto(0, (Param("a", pointer), Param("b", pointer))))
    btf = Btf.from_bytes(builder.to_bytes())
    for type_id in (anonymous, pointer):
        with pytest.raises(FormatError, match="nested deeper"):
            definition(btf, type_id)


def test_text_that_doubles_at_each_level() -> None:
    builder = BtfBuilder()
    inner = builder.add_struct("", 0)
    proto = builder.add_func_proto(0)
    for _ in range(30):
        inner = builder.add_union("", 0, [Member("a", inner, 0), Member("b", inner, 0)])
        proto = builder.add_func_proto(0, [("a", builder.add_ptr(proto)), ("b", builder.add_ptr(proto))])
    btf = Btf.from_bytes(builder.to_bytes())
    for type_id in (inner, proto):
        with pytest.raises(FormatError, match="longer than"):
            definition(btf, type_id)


def test_padding_that_never_seems_to_end() -> None:
    builder = BtfBuilder()
    hole = builder.add_struct("hole", 0xFFFFFFF8)
    btf = Btf.from_bytes(builder.to_bytes())
    with pytest.raises(FormatError, match="longer than"):
        definition(btf, hole)
