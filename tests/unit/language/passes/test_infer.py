"""Types with width and sign, and what is said about misuse."""

from __future__ import annotations

import pytest

from ..fixtures import complaints, hint, messages, typed


def map_types(script: str, **options: object) -> dict[str, tuple[str, str]]:
    """Key and value type of each map."""
    inference = typed(script, **options).inference
    assert inference is not None
    return {
        name: (str(state.key) if state.keyed else "", str(state.value))
        for name, state in inference.maps.items()
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", "int8"),
        ("127", "int8"),
        ("128", "int16"),
        ("-128", "int8"),
        ("-129", "int16"),
        ("300", "int16"),
        ("32768", "int32"),
        ("2147483648", "int64"),
        ("9223372036854775807", "int64"),
        ("9223372036854775808", "uint64"),
        ("true", "bool"),
        ("1 == 2", "bool"),
        ("pid == 2", "bool"),
        ("!pid", "bool"),
        ("pid && tid", "bool"),
        ('"abc"', "string[4]"),
        ("pid", "uint32"),
        ("comm", "string[16]"),
        ("nsecs", "uint64"),
        ("pid + 1", "uint64"),
        ("pid - 1", "int64"),
        ("pid + -1", "int64"),
        ("-pid", "uint64"),
        ("~pid", "uint64"),
        ("pid << 1", "uint64"),
        ("pid / 2", "uint64"),
        ("(int8)pid", "int8"),
        ("(uint16)pid", "uint16"),
        ("(int64)nsecs", "int64"),
        ("(bool)pid", "bool"),
        ("(1, pid)", "(int8,uint32)"),
        ("(a=1, b=comm)", "(.a=int8,.b=string[16])"),
        ("(1,)", "(int8)"),
        ("pid ? 1 : 300", "int16"),
        ('pid ? "a" : "abc"', "string[4]"),
        ("if (pid) { 1 } else { 300 }", "int16"),
        ("{ $x = 5; $x }", "int8"),
        ("curtask", "struct task_struct *"),
        ("curtask.pid", "int32"),
        ("curtask.comm", "string[16]"),
        ("curtask.real_parent.real_parent.tgid", "int32"),
        ("curtask.state", "enum task_state"),
        ("curtask.state + 0", "uint64"),
        ("curtask.flag", "bool"),
        ("curtask.low", "uint32"),
        ("curtask.numbers", "int64[3]"),
        ("curtask.numbers[1]", "int64"),
        ("curtask.wide", "uint32"),
        ("curtask.tasks", "struct list_head"),
        ("(uint8*)1 + 1", "uint8 *"),
        ("*(uint16*)1", "uint16"),
        ("((uint8*)1)[3]", "uint8"),
        ("(struct task_struct *)5", "struct task_struct *"),
        ("TASK_DEAD", "enum task_state"),
        ("sizeof(struct task_struct)", "int16"),
        ("offsetof(struct task_struct, tasks.prev)", "int8"),
        ("(int8[4])(uint32)1", "int8[4]"),
        ("kstack", "kstack_bpftrace_127"),
        ("ustack(perf, 5)", "ustack_perf_5"),
        ("count()", "count_t"),
        ("sum(pid)", "usum_t"),
        ("sum(-1)", "sum_t"),
        ("min(pid)", "umin_t"),
        ("max((int32)pid)", "max_t"),
        ("avg(pid)", "uavg_t"),
        ("stats(-1)", "stats_t"),
        ("hist(pid)", "hist_t"),
        ("lhist(pid, 0, 10, 1)", "lhist_t"),
    ],
)
def test_the_type_of_an_expression(value: str, expected: str) -> None:
    assert map_types(f"i:s:1 {{ @m = {value}; }}") == {"@m": ("", expected)}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("@m = 1; @m = 300;", "int16"),
        ("@m = 300; @m = 1;", "int16"),
        ("@m = pid; @m = 1;", "uint32"),
        ("@m = 1; @m = pid;", "uint32"),
        ("@m = -1; @m = pid;", "int64"),
        ("@m = (int8)pid; @m = (uint8)tid;", "int16"),
        ("@m = 1; @m++;", "int64"),
        ("@m++;", "int64"),
        ("@m = pid; @m++;", "uint64"),
        ("@m += 5;", "int64"),
        ('@m = "a"; @m = "abcd";', "string[5]"),
        ('@m = comm; @m = "a";', "string[16]"),
        ("@m = (1, 2); @m = (300, pid);", "(int16,int64)"),
        ("$x = @m;", "int64"),
    ],
)
def test_a_map_has_the_widest_of_its_values(statements: str, expected: str) -> None:
    assert map_types(f"BEGIN {{ {statements} }}")["@m"] == ("", expected)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("1", "int8"),
        ("pid", "uint32"),
        ("pid, comm", "(uint32,string[16])"),
        ("(pid, comm)", "(uint32,string[16])"),
        ("1, (2, 3)", "(int8,(int8,int8))"),
        ("kstack", "kstack_bpftrace_127"),
    ],
)
def test_the_type_of_a_key(key: str, expected: str) -> None:
    assert map_types(f"BEGIN {{ @m[{key}] = 1; }}")["@m"] == (expected, "int8")


def test_types_travel_between_probes_in_any_order() -> None:
    script = "BEGIN { @b = @a; } i:s:1 { @c = @b; } END { @a = comm; }"
    assert {name: value for name, (_, value) in map_types(script).items()} == {
        "@a": "string[16]",
        "@b": "string[16]",
        "@c": "string[16]",
    }


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("let $x : uint8 = 5; @m = $x;", "uint8"),
        ("let $x; $x = 5; $x = 300; @m = $x;", "int16"),
        ("for ($i : 0..3) { @m = $i; }", "int64"),
        ("@k[pid] = comm; for ($kv : @k) { @m = $kv; }", "(uint32,string[16])"),
        ("@k[pid, 1] = comm; for ($kv : @k) { @m = $kv.0; }", "(uint32,int8)"),
        ("@k[pid] = count(); for ($kv : @k) { @m = $kv.1; }", "uint64"),
        ("$x = 1; $x++; @m = $x;", "int64"),
        ("$x = (a=1, b=2); @m = $x.b;", "int8"),
    ],
)
def test_the_type_of_a_variable(statements: str, expected: str) -> None:
    assert map_types(f"BEGIN {{ {statements} }}")["@m"] == ("", expected)


def test_arguments_of_a_tracepoint() -> None:
    found = map_types(
        "t:sched:sched_switch { @a = args.prev_comm; @b = args.next_pid; @c = args.prev_state; }"
        "t:syscalls:sys_enter_openat { @d = args.filename; @e = args.flags; @f = str(args.filename); }"
    )
    assert [value for _, value in found.values()] == [
        "string[16]",
        "int32",
        "int64",
        "int8 *",
        "int32",
        "string[1024]",
    ]


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            '@a = 1; @a = "x";',
            "Type mismatch for @a: trying to assign value of type 'string[2]' when map already has a type 'int8'",
        ),
        (
            '$a = 1; $a = "x";',
            "Type mismatch for $a: trying to assign value of type 'string[2]' when variable already has a type "
            "'int8'",
        ),
        (
            "let $a : uint8 = 256;",
            "Type mismatch for $a: trying to assign value of type 'int16' when variable already has a type 'uint8'",
        ),
        (
            '@a[1] = 1; @a["x"] = 1;',
            "Argument mismatch for @a: trying to access with arguments: 'string[2]' when map expects arguments: "
            "'int8'",
        ),
        (
            "@a = 1; @a[1] = 1;",
            "@a used as a map with an explicit key (non-scalar map), previously used without an explicit key "
            "(scalar map)",
        ),
        ('$x = 1 + "a";', "Type mismatch for '+': comparing int8 with string[2]"),
        ('$x = comm < "a";', "The < operator can not be used on expressions of type 'string[16]'"),
        ("if (comm) { }", None),
        ('$x = -"a";', "The - operator can not be used on expressions of type 'string[2]'"),
        ("$x = pid / 0;", "Division by zero"),
        ("$x = *comm;", "Can not dereference expression of type 'string[16]'"),
        ("$x = *(void *)1;", "Cannot dereference a pointer to void"),
        ("$x = ((void *)1)[0];", "Cannot index a pointer to void"),
        ("$x = &pid;", "The & operator can only be used on variables"),
        ("$x = (1, 2); print($x.2);", "Invalid tuple index: 2. Found 2 elements in tuple."),
        ("$x = (1, 2); print($x[pid]);", "A tuple can only be indexed by a constant"),
        ("print(pid.x);", "Can not access field 'x' on expression of type 'uint32'"),
        ("print(pid.0);", "Can not access index '0' on expression of type 'uint32'"),
        ("print(curtask.numbers[3]);", "the index 3 is out of bounds for array of size 3"),
        ("print((a=1, a=2));", "Record has two fields named 'a'"),
        ('$x = pid ? 1 : "a";', "Branches must return the same type: have 'int8' and 'string[2]'"),
        ("$x = (nosuch_t *)$y;", None),
        ("$x = (struct nosuch *)1;", 'Cannot resolve unknown type "struct nosuch"'),
        ('$x = (uint8)"abc";', 'Cannot cast from "string[4]" to "uint8"'),
        ("$x = (int8[3])(uint32)1;", 'Cannot cast from "uint32" to "int8[3]"'),
        ("for ($kv : @nosuch) { }", "Undefined map: @nosuch"),
        (
            "@a = 1; for ($kv : @a) { }",
            "@a has no explicit keys (scalar map), and cannot be used for iteration",
        ),
        ('for ($i : "a"..2) { }', "Loop range requires an integer"),
        ("unroll (0) { }", "unroll minimum value is 1"),
        ("unroll (101) { }", "unroll maximum value is 100"),
        ("unroll (pid) { }", "invalid unroll value"),
        ("if comptime (pid) { }", "The condition of 'if comptime' must be known at compile time"),
        ("print(offsetof(struct task_struct, nosuch));", "'struct task_struct' has no field named 'nosuch'"),
        ("print(typeof(1));", "A type can not be used as a value"),
        ("$x = print(1);", "Value 'void' cannot be assigned to a scratch variable."),
        ("exit(1, 2, 3);", None),
        ("signal(9);", "signal() is an unsafe function being used in safe mode"),
        ("strftime();", None),
    ],
)
def test_misuse_is_named(statements: str, message: str | None) -> None:
    found = messages(f"BEGIN {{ {statements} }}")
    assert found
    if message is not None:
        assert found[0] == message


def test_a_string_beyond_the_limit() -> None:
    (found,) = messages(f'BEGIN {{ @a = "{"x" * 2000}"; }}')
    assert found.startswith("String is too long (over 1024 bytes): xxx")
    assert len(found) < 100


def test_several_mistakes_of_types_come_together() -> None:
    script = 'BEGIN { @a = 1; @a = "x"; } END { $x = 1 + "a"; print(curtask.nosuch); unroll (0) { } }'
    assert len(messages(script)) == 4


def test_without_btf_the_hint_says_what_to_do() -> None:
    from ..fixtures import MACHINES

    found = hint("BEGIN { $x = (struct file *)1; print($x.a); }", machine=MACHINES["bare"])
    assert found == "the kernel's own types (BTF) cannot be read here; declare the type in the script"


def test_warnings() -> None:
    compilation = typed("BEGIN { let $x; strlen(comm); }")
    assert [one.message for one in compilation.warnings] == [
        "Variable $x was never assigned to.",
        "Return value discarded.",
    ]


def test_marks_stand_under_the_wrong_part() -> None:
    (found,) = complaints('BEGIN {\n  $x = 1 + "a";\n}')
    assert found.render().split("\n")[:3] == [
        "test.bt:2:8-15: ERROR: Type mismatch for '+': comparing int8 with string[2]",
        '  $x = 1 + "a";',
        "       ~~~~~~~",
    ]
