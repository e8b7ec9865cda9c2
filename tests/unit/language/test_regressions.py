"""Scripts that once came out wrong, each by the behaviour that it showed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tracebee.insn import opcodes as op
from tracebee.insn.codec import MapValue
from tracebee.insn.helpers import helper_id
from tracebee.language.probes.base import Point
from tracebee.language.probes.tracepoint import FEW, MANY, TracepointKind, TypedSyscallEnter, few_syscalls
from tracebee.language.probes.uprobe import UprobeKind
from tracebee.spec.objects import GLOBALS_MAP, Globals, Tracepoint

from .fixtures import MACHINES, NEW, FakeMachine, build, hint, messages, program_of, spec_of, typed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.insn import Insn


@pytest.mark.parametrize(
    ("argument", "type_", "member", "printed"),
    [
        ("curtask", "struct task_struct", "pid", "struct task_struct *"),
        ("curtask", "typeof(*curtask)", "comm", "struct task_struct *"),
        ("(uint8 *)8", "struct task_struct", "tasks.prev", "struct task_struct *"),
    ],
)
def test_container_of_takes_builtins_and_members_named_like_them(
    argument: str, type_: str, member: str, printed: str
) -> None:
    script = f"begin {{ $x = container_of({argument}, typeof({type_}), {member}); print($x) }}"
    assert program_of(script).insns
    probe = typed(script).units[0].probe
    assert str(probe.body.statements[0].target.type) == printed  # type: ignore[attr-defined]


def test_container_of_subtracts_the_way_to_the_member() -> None:
    script = "begin {{ print(container_of((uint8 *)1000, typeof(struct task_struct), {})); }}"
    inner = {str(insn) for insn in program_of(script.format("tasks.prev")).insns}
    outer = {str(insn) for insn in program_of(script.format("pid")).insns}
    assert any("920" in text for text in inner)
    assert any("1000" in text for text in outer)


def test_container_of_names_what_is_wrong() -> None:
    bad = "begin { print(container_of(curtask, typeof(struct task_struct), pidd)); }"
    assert messages(bad) == ["'struct task_struct' has no field named 'pidd'"]
    assert "pid" in hint(bad)
    not_a_type = "begin { print(container_of(curtask, 3, pid)); }"
    assert messages(not_a_type) == [
        "container_of() expects a pointer, a structure type and the name of a member"
    ]
    assert "typeof(struct type)" in hint(not_a_type)


def arguments_of(probe: str) -> list[tuple[str, int, int]]:
    """Name, offset and size of each member of `args` as a value."""
    statement = typed(f"{probe} {{ $a = args; print($a) }}").units[0].probe.body.statements[0]
    type_ = statement.target.type  # type: ignore[attr-defined]
    assert max(field.offset + field.type.size for field in type_.fields) <= type_.size
    return [(field.name, field.offset, field.type.size) for field in type_.fields]


def test_args_of_a_tracepoint_leave_out_what_programs_may_not_read() -> None:
    assert [name for name, _, _ in arguments_of("t:sched:sched_switch")] == [
        "prev_comm",
        "prev_pid",
        "prev_state",
        "next_pid",
    ]
    program = program_of("t:sched:sched_switch { print(args) }")
    assert not [insn for insn in program.insns if insn.src == 6 and insn.code & 7 == 1 and insn.off < 8]
    assert messages("t:sched:sched_switch { print(args.common_type) }") == [
        "BPF does not support accessing common tracepoint fields"
    ]


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        # The eight bytes of a pointer do not fit into the four of a __data_loc.
        ("t:sched:sched_process_exec", [("filename", 16, 8), ("pid", 12, 4)]),
        ("t:syscalls:sys_exit_openat", [("__syscall_nr", 8, 4), ("ret", 16, 8)]),
    ],
)
def test_members_of_args_do_not_overlap_as_a_value(probe: str, expected: list[tuple[str, int, int]]) -> None:
    assert arguments_of(probe) == expected


def test_args_of_many_system_calls_are_laid_out_like_those_of_one() -> None:
    kinds = [TypedSyscallEnter(), TracepointKind()]
    values = []
    for kind in kinds:
        context = typed("begin { }").context
        point = Point(
            "", Tracepoint("", ""), "", ("syscalls", "sys_enter_openat", 257)[: 3 - kinds.index(kind)]
        )
        found = kind.arguments(point, context)
        assert found is not None
        value = kind.arguments_value(found)
        values.append([(field.name, field.offset, field.type) for field in value.fields])
    assert values[0] == values[1]
    assert [offset for _, offset, _ in values[0]] == [8, 16, 24, 32]


MAY_GOTO = op.BPF_JMP | op.BPF_JCOND
CALL = op.BPF_JMP | op.BPF_CALL
HELPER_LOOP = helper_id("loop")
LONG_LOOPS = (
    "for ($i : 0..1000000) { @++ }",
    "$n = 70; for ($i : 0..$n) { @++ }",
    "$n = 0; while ($n < 10) { $n++ }",
    "for ($i : 0..6) { for ($j : 0..6) { @++ } }",
)


def forgets(script: str, machine: str) -> int:
    """How often a program reads the zero that the verifier does not know, and asks to be cut short."""
    insns = program_of(f"begin {{ {script} }}", MACHINES[machine]).insns
    zero = MapValue(GLOBALS_MAP, Globals.ZERO)
    assert (zero in [insn.ref for insn in insns]) == any(insn.code == MAY_GOTO for insn in insns)
    return sum(insn.code == MAY_GOTO for insn in insns)


@pytest.mark.parametrize("script", LONG_LOOPS)
def test_a_long_loop_is_one_round_to_the_verifier(script: str) -> None:
    assert forgets(script, "new") == 1
    assert forgets(script, "old") == 0


@pytest.mark.parametrize(
    "script",
    ["for ($i : 0..32) { @++ }", "for ($i : 0..5) { for ($j : 0..6) { @++ } }", "unroll (50) { @++ }"],
)
def test_a_short_loop_has_no_guard(script: str) -> None:
    assert forgets(script, "new") == 0


@pytest.mark.parametrize("script", LONG_LOOPS)
def test_without_may_goto_a_long_loop_is_a_function(script: str) -> None:
    """Linux 5.17 to 6.8: the helper loop calls the body, which reaches the variables around it in memory."""
    machine = FakeMachine(features=NEW - {"may_goto"})
    program = program_of(f"begin {{ {script} }}", machine)
    assert calls_of(program.insns).count(HELPER_LOOP) == 1
    assert not any(insn.code == MAY_GOTO for insn in program.insns)


def test_short_loops_and_unrolled_ones_stay_in_line() -> None:
    machine = FakeMachine(features=NEW - {"may_goto"})
    for script in ("for ($i : 0..32) { @++ }", "unroll (50) { @++ }"):
        assert HELPER_LOOP not in calls_of(program_of(f"begin {{ {script} }}", machine).insns)


def calls_of(insns: Iterable[Insn]) -> list[int]:
    """The numbers of the helpers that are called."""
    return [insn.imm for insn in insns if insn.code == CALL and insn.src == 0]


def test_the_zero_of_long_loops_stays_clear_of_the_other_globals() -> None:
    assert Globals.ZERO >= Globals.WALL_OFFSET + 8
    assert Globals.ZERO + 8 <= Globals.SIZE


def test_sizes_and_offsets_are_known_to_static_assert() -> None:
    script = """begin {
      $x = (uint16)1;
      static_assert(sizeof(uint32) == 4, "a");
      static_assert(sizeof($x) + 1 == 3 && !(sizeof(typeof($x)) > 2), "b");
      static_assert(offsetof(struct task_struct, tgid) == 4, "c");
    }"""
    assert program_of(script).insns
    assert messages('begin { static_assert(sizeof(uint32) == 5, "four"); }') == ["four"]
    assert messages('begin { static_assert(pid, "x"); }') == [
        "The condition of 'if comptime' must be known at compile time"
    ]


@pytest.mark.parametrize(
    "condition",
    ["sizeof(@x) == 2", "is_str(@x)", 'typeinfo(@x).base_type == "string"', "!is_integer(@x)"],
)
def test_if_comptime_waits_for_types_that_are_found_out_later(condition: str) -> None:
    script = f'begin {{ if comptime ({condition}) {{ @y = "s" }} else {{ @y = 3; }} }} end {{ @x = "a" }}'
    inference = typed(script).inference
    assert inference is not None
    assert str(inference.maps["@y"].value) == "string[2]"


@pytest.mark.parametrize(
    ("value", "type_", "fits"),
    [
        ("5", "uint8[8]", True),
        ("true", "bool[2]", True),
        ("pid", "uint8[2]", False),
        ("70000", "uint8[3]", False),
    ],
)
def test_numbers_that_fit_become_arrays(value: str, type_: str, fits: bool) -> None:
    script = f"begin {{ print(({type_}){value}); }}"
    if fits:
        assert program_of(script).insns
    else:
        assert "Cannot cast from" in messages(script)[0]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("hist(3)", "hist_t"),
        ("lhist(3, 0, 10, 1)", "lhist_t"),
        ("tseries(3, 1s, 5)", "tseries_t"),
        ("stats(3)", "stats_t"),
    ],
)
def test_loops_refuse_maps_whose_values_are_not_numbers(value: str, named: str) -> None:
    script = f"begin {{ @[1] = {value}; for ($kv : @) {{ print($kv.0); }} }}"
    assert messages(script) == [f"Loop expression does not support type: {named}"]


@pytest.mark.parametrize(
    "ask",
    [
        'if comptime (kfunc_allowed("vfs_read")) { @ = 77; } else { @ = 88; }',
        '@ = kfunc_allowed("vfs_read") ? 77 : 88;',
    ],
)
def test_whether_a_kfunc_is_allowed_depends_on_the_probe(ask: str) -> None:
    programs = spec_of(f"begin {{ {ask} }} t:irq:softirq_entry {{ {ask} }} end {{ {ask} }}").programs
    stored = [{insn.imm for insn in program.insns} & {77, 88} for program in programs]
    assert stored == [{88}, {77}, {88}]


def test_a_kfunc_that_is_not_there_is_not_allowed() -> None:
    ask = '@ = kfunc_allowed("task_struct") ? 77 : 88;'
    assert 88 in {insn.imm for insn in program_of(f"t:irq:softirq_entry {{ {ask} }}").insns}


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("*:sched_switch", {"rawtracepoint:vmlinux:sched_switch"}),
        ("*:sched:sched_switch", {"tracepoint:sched:sched_switch"}),
        (
            "*:vfs_read",
            {"kprobe:vfs_read", "kretprobe:vfs_read", "fentry:vmlinux:vfs_read", "fexit:vmlinux:vfs_read"},
        ),
        ("b*n", {"begin"}),
    ],
)
def test_a_wildcard_for_the_kind_passes_over_kinds_without_such_a_place(
    point: str, expected: set[str]
) -> None:
    units = typed(f"{point} {{ print(1) }}").units
    assert {point.name for unit in units for point in unit.points} == expected


def test_a_wildcard_for_the_kind_that_matches_nothing() -> None:
    assert messages("nope*:x { }") == ["No probe type matched for nope*", NO_POINTS][:1]
    assert messages("*:nothing_of_the_sort { }") == [NO_POINTS]
    # Where tracing by functions is missing, that is said only if there is nothing else.
    assert "kprobe" in messages("*:vfs_read { }", machine=MACHINES["bare"])[0]


def test_points_that_the_kernel_cannot_serve_are_skipped_as_configured() -> None:
    """A tool that names kprobes for some kernels still runs where there are none."""
    bare = MACHINES["bare"]
    for mode in ("ignore", "warn"):
        script = f"config = {{ missing_probes = {mode} }} kprobe:vfs_read {{ }} begin {{ }}"
        units = typed(script, machine=bare).units
        assert [point.name for unit in units for point in unit.points] == ["begin"]
    assert messages("kprobe:vfs_read { } begin { }", machine=bare) == [
        "kprobes are not possible here: this kernel has no kprobes (CONFIG_KPROBES is not set)"
    ]


NO_POINTS = (
    "Probe has no valid attach points. "
    "If this is expected, set the 'missing_probes' config variable to 'warn'."
)


def test_iterators_take_no_wildcards() -> None:
    assert messages("iter:t* { }") == ["iter probe type does not support wildcards"]


@pytest.mark.parametrize(
    ("expression", "size"),
    [("macaddr((uint8[6])1)", 6), ("cgroup_path(1)", 16), ("macaddr", 6), ("username", 4), ("username()", 4)],
)
def test_names_of_types_that_are_functions_too(expression: str, size: int) -> None:
    probe = typed(
        f"begin {{ $x = sizeof({expression}); print($x); static_assert(sizeof({expression}) == {size}, 1) }}"
    )
    assert probe.units
    for keyword in ("typeinfo", "sizeof"):
        assert program_of(f"begin {{ print({keyword}({expression})); }}").insns


@pytest.mark.parametrize(
    "body",
    [
        'print(strerror(-2) == "number two");',
        '$x = signal_name(1); if ($x == "signal") { print(1) }',
        '@ = syscall_name(1); if (@ != "syscall") { print(1) }',
        'print(strncmp(strerror(1), "str", 3)); print(strlen(signal_name(1)));',
    ],
)
def test_names_of_numbers_are_compared_by_a_table(body: str) -> None:
    spec = spec_of(f"begin {{ {body} }}")
    (table,) = [one.contents for one in spec.maps if one.name == "rodata"]
    assert b"number two".ljust(16, b"\0") + b"unknown".ljust(16, b"\0") in table


def test_a_kept_probe_name_is_not_compared_as_the_bytes_of_its_number() -> None:
    assert messages('begin { $x = probe; if ($x == "begin") { print(1) } }') == [
        "a kept probe name can only be printed or be a key"
    ]


def test_assigning_to_a_part_of_a_string_does_not_speak_of_tuples() -> None:
    script = 'begin { $a = "x"; $a[0] = 1; }'
    assert messages(script) == ["syntax: invalid assignment target"]
    assert "strings and arrays" in hint(script)
    assert "immutable" in messages("begin { $a = (1, 2); $a.0 = 1; }")[0]


def test_args_of_a_uprobe_come_from_debug_information() -> None:
    assert arguments_of("uprobe:/bin/tool:work") == [("flag", 0, 1), ("count", 8, 8), ("far", 16, 4)]
    # Both functions take the same arguments, so that one program does for them.
    assert len(typed("uprobe:/bin/tool:work* { print(args.far) }").units) == 1
    machine = MACHINES["arm64"]
    assert program_of("uprobe:/bin/tool:work { print(args); print(args.count) }", machine).insns


def test_args_of_a_uprobe_that_are_not_there_are_named() -> None:
    assert messages("uprobe:/bin/tool:main { print(args) }") == [
        "The args builtin needs the debug information (DWARF) of main in /bin/tool"
    ]
    assert "-g" in hint("uprobe:/bin/tool:main { print(args.x) }")
    assert messages("uprobe:/bin/tool:work { print(args.ratio) }") == [
        "args.ratio cannot be read: a 'double' is not passed in a general register here"
    ]
    assert messages("uprobe:/bin/tool:work { print(args.x) }") == ["Can't find function parameter x"]
    assert "uretprobe used here" in messages("uretprobe:/bin/tool:work { print(args) }")[0]


def test_arguments_of_uprobes_are_listed() -> None:
    context = typed("begin { }").context
    assert list(UprobeKind().describe_arguments("uprobe:/bin/tool:work", context)) == [
        ("char", "flag"),
        ("double", "ratio"),
        ("long", "count"),
        ("int", "far"),
    ]
    assert list(UprobeKind().describe_arguments("uprobe:/bin/tool:main", context)) == []


def notes(script: str) -> list[str]:
    """The warnings of a script."""
    return [one.message for one in build(script).warnings]


@pytest.mark.parametrize(
    ("feature", "use"), [("typeinfo", "print(typeinfo(1))"), ("tseries", "@ = tseries(1, 1s, 3)")]
)
def test_unstable_features_are_as_configured(feature: str, use: str) -> None:
    script = f"config = {{{{ unstable_{feature} = {{}} }}}} begin {{{{ {use}; }}}}"
    assert notes(script.format("enable")) == []
    (warning,) = notes(script.format("warn"))
    assert warning.startswith(f"Script is using an unstable feature: {feature}.")
    (error,) = messages(script.format("error"))
    assert error.startswith(f"{feature} feature is not enabled by default.")


@pytest.mark.parametrize("key", ["unstable_map_decl", "unstable_import", "unstable_macro"])
def test_keys_of_features_that_are_stable_do_nothing(key: str) -> None:
    script = f"config = {{ {key} = error }} let @a = hash(10); macro f() {{ 1 }} begin {{ @a[f()] = 1; }}"
    assert notes(script) == [f"{key} is deprecated and has no effect"]


def test_the_number_of_programs_has_a_limit() -> None:
    script = "config = {{ max_bpf_progs = {} }} begin {{ print(1) }} end {{ print(2) }}"
    assert len(spec_of(script.format(2)).programs) == 2
    assert messages(script.format(1)) == [
        "The script is compiled to 2 BPF programs, which exceeds the current limit of 1."
    ]


@pytest.mark.parametrize("wanted", [True, False])
def test_demangling_is_as_configured(wanted: bool) -> None:
    script = f"config = {{ cpp_demangle = {str(wanted).lower()} }} begin {{ print(usym(1)); }}"
    assert spec_of(script).schema.demangles is wanted


def test_where_keys_are_small_strings_are_short() -> None:
    script = "t:irq:softirq_entry { @[str(1), str(2)] = 1; @whole = str(3); }"

    def sizes(machine: str, text: str = script) -> dict[str, tuple[int, int]]:
        return {one.name: (one.key_size, one.value_size) for one in spec_of(text, MACHINES[machine]).maps}

    assert sizes("new")["@"][0] == 2048
    assert sizes("old")["@"][0] == 400
    assert sizes("old", f"config = {{ max_strlen = 300 }} {script.replace('2', '2, 10')}")["@"][0] == 300 + 11
    large = "begin { @[str(1, 600)] = 1; }"
    assert messages(large, machine=MACHINES["old"]) == [
        "this kernel lacks keys of more than 512 bytes (since Linux 5.11): one of @ takes 601"
    ]
    assert sizes("new", large)["@"][0] == 601


class NamedTypes:
    """As much of a kernel's BTF as a question for names needs."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find(self, name: str, kinds: object) -> int | None:
        return 1 if name in self.names else None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("tracepoint_ext", "tracepoint_srcu_srcu_data"), MANY),  # 7.2
        (("tracepoint_ext",), FEW),  # 6.18
        (("tracepoint_srcu_srcu_data",), FEW),  # 6.1, where it is for tracepoints in idle tasks
        ((), FEW),
    ],
)
def test_preemptible_tracepoints_are_not_made_one(names: tuple[str, ...], expected: int) -> None:
    context = SimpleNamespace(types=SimpleNamespace(btf=NamedTypes(*names)))
    assert few_syscalls(context) == expected  # type: ignore[arg-type]
