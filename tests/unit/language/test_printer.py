"""The printer: standard form, and that what it prints is the same script."""

from __future__ import annotations

import pytest

from tracebee.language.printer import format_program, format_unit, quoted
from tracebee.language.tree import walk

from .fixtures import parsed, shape, typed


def check_round_trip(text: str) -> str:
    """What a script is printed as; it must parse to the same tree and print the same again."""
    program = parsed(text)
    printed = format_program(program)
    again = parsed(printed)
    assert shape(again) == shape(program)
    assert format_program(again) == printed
    return printed


def test_the_standard_form() -> None:
    script = (
        "#include <a.h>\nstruct s { int x; };\n"
        'config={max_strlen=64;stack_mode="raw"}import "a.bt";let @m=hash(5);'
        "macro f($a,b){$a+b}"
        "x=BEGIN,kprobe:f /pid==1&&1/{$x=1;if($x){print(1)}else if(2){@a[1,2]++;}else{exit()}"
        "for($i:0..3){continue;}while(1){break;}return;}"
    )
    assert check_round_trip(script) == (
        "#include <a.h>\n"
        "\n"
        "struct s { int x; };\n"
        "\n"
        "config = {\n"
        "  max_strlen = 64;\n"
        "  stack_mode = raw;\n"
        "}\n"
        "\n"
        'import "a.bt";\n'
        "\n"
        "let @m = hash(5);\n"
        "\n"
        "macro f($a, b)\n"
        "{\n"
        "  $a + b\n"
        "}\n"
        "\n"
        "x=BEGIN,\n"
        "kprobe:f\n"
        "/pid == 1 && 1/\n"
        "{\n"
        "  $x = 1;\n"
        "  if ($x) {\n"
        "    print(1)\n"
        "  } else if (2) {\n"
        "    @a[1, 2]++;\n"
        "  } else {\n"
        "    exit()\n"
        "  }\n"
        "  for ($i : 0..3) {\n"
        "    continue;\n"
        "  }\n"
        "  while (1) {\n"
        "    break;\n"
        "  }\n"
        "  return;\n"
        "}\n"
    )


@pytest.mark.parametrize(
    "statements",
    [
        "",
        "1",
        "1;",
        "1 - (2 - 3); (1 - 2) - 3; 1 - -2; 1 - --$x; - -1; -(-1); !-~1;",
        "(1 + 2) * 3; 1 + 2 * 3; (1 < 2) == 3; 1 < (2 == 3); 1 << (2 << 3);",
        "a && &$b; a & &$b; 1 / *$p; $a * *$p;",
        "$x++ + ++$x; --@a; @a[1]--;",
        "1 ?: 2; 1 ? 2 ? 3 : 4 : 5; (1 ? 2 : 3) ? 4 : 5; 1 + (2 ? 3 : 4); (1, 2 ? 3 : 4);",
        "(uint8)1; (uint8)-1; -(uint8)1; (uint8)(1 + 2); (struct a *)$x; ((struct a *)$x).b;",
        "(foo)1; (foo)(-1); (foo)($#); (foo)(1 + 2); (foo*)&$x; (foo)(!1); (foo)({ 1 }); (foo)(foo)1;",
        "(typeof($x)*)1; (typeof(struct a))1; (int8[])$x; (string[5])$x; (int32*[4])$x;",
        "a.b.c; (a).b; (1, 2).0; $t.0.1; a->b; (*a).b; *a.b; (a + b).c; f(1).g; a[1][2].b;",
        "@a[1][2]; (@a)[1]; @a[(1, 2)]; @a[1, (2, 3)]; @a[(1,)]; @a[()]; @; @[1]; @a[1].b;",
        "(); (1,); (1, 2); (a=1, b=(c=2)); (a == 1);",
        'print("\\n\\t\\r\\"\\\\\\x00\\x7f\\xff1é\\377a");',
        "0x10; 1e6; 5ms; 18446744073709551615; $1; $#; true; false; pid;",
        "sizeof(uint8); sizeof(struct x*); sizeof(1 + 2); sizeof(foo*); sizeof(typeof(1)[3]);",
        "offsetof(struct a, b.c); offsetof($x, y); typeinfo(1); typeinfo(uint8[2]); f(typeof(1), typeof(int8*));",
        "if (1) { }",
        "if (1) { };",
        "if (1) { }; -1;",
        "if (1) { }; *$p;",
        "if (1) { }; -1",
        "if (1) { } --$x;",
        "if (1) { } else { if (2) { } }",
        "if (1) { } else { if (2) { }; }",
        "if comptime (1) { 1 } else if (2) { 3 }",
        "{ 1 }; -2;",
        "{ { } }",
        "while (1) { } -1;",
        "$x = { $y = 1; $y }; $z = if (1) { 2 } else { 3 }; f(if (1) { 2 } else { 3 } + 1);",
        "for ($i : (1 + 2)..f(3)) { } for ($kv : @m) { } unroll (3) { } for ($i : -1..-$n) { }",
        "let $x; let $x = 1; let $x : uint8[4] = 1; let $x : struct a*;",
        "_ = 1; @a <<= 1; $x %= 2; return; return 1;",
        "return { 1 };",
    ],
)
def test_statements_print_as_what_they_are(statements: str) -> None:
    check_round_trip(f"BEGIN {{ {statements} }}")


@pytest.mark.parametrize(
    "script",
    [
        "",
        "BEGIN /1 / 2 == 3/ { }",
        "BEGIN /(pid / { 1 })/ { }",
        "BEGIN /f(pid / { 1 })/ { }",
        "BEGIN / *$p == 1/ { }",
        'import "\udcff\\n";',
        'config = { a = "x\\"y"; b = ""; c = 1; d_e = true }',
        "macro f() { 1 } macro g($a, @b, c) { }",
        'uprobe:"/a b":f { } u:/x:"f,g" { }',
        "#define A 1 \\\n + 2\nBEGIN { A }",
        "typedef struct { int y; } t;\nBEGIN { }",
    ],
)
def test_scripts_print_as_what_they_are(script: str) -> None:
    check_round_trip(script)


def test_the_longest_chain_can_be_printed() -> None:
    script = (
        "BEGIN { $x = 1"
        + " + 1" * 1990
        + "; $y = $z"
        + ".a" * 1990
        + "; $x = "
        + "-(1 + " * 190
        + "1"
        + ")" * 190
        + "; }"
    )
    program = parsed(script)
    again = parsed(format_program(program))
    # Too deep to compare by recursion; in this order the kinds of the nodes say it all.
    assert [type(node) for node in walk(again)] == [type(node) for node in walk(program)]


@pytest.mark.parametrize("code", range(256))
def test_any_byte_can_be_quoted(code: int) -> None:
    data = bytes((code, code)) + b"7f"
    (probe,) = parsed(f"BEGIN {{ print({quoted(data)}); }}").probes
    assert bytes(probe.body.statements[0].value.arguments[0].value) == data  # type: ignore[attr-defined]


def test_a_unit_shows_its_places_and_types() -> None:
    compilation = typed("tracepoint:s*:sys_enter_* /pid == 1/ { @a = 1 + nsecs; }")
    (unit,) = compilation.units[:1]
    shown = format_unit(unit)
    assert shown.splitlines()[0].startswith("tracepoint:syscalls:sys_enter_")
    assert "/pid() /* uint32 */ == 1 /* int8 */ /* bool */" in shown
    assert "@a /* uint64 */ = 1 /* int8 */ + nsecs() /* uint64 */ /* uint64 */;" in shown
    assert "/*" not in format_unit(unit, types=False)
