"""Programs: what holds for all of them on every kind of machine, and what makes them small."""

from __future__ import annotations

import pytest

from tracebee.insn import MapValue
from tracebee.insn import opcodes as op
from tracebee.spec.objects import GLOBALS_MAP, RING_MAP, Globals

from .fixtures import (
    MACHINES,
    FakeMachine,
    build,
    call_order,
    check_debug_info,
    check_program,
    helper_calls,
    messages,
    program_of,
    spec_of,
)

SCRIPTS = {
    "hello": 'BEGIN { printf("hello %d %s\\n", pid, comm); exit(); }',
    "predicate": "t:sched:sched_switch /pid == 1 && args.next_pid > 5/ { @[comm] = count(); }",
    "aggregations": "i:s:1 { @a = count(); @b = sum(pid); @c = avg(pid); @d = min(pid); @e = max(pid); "
    "@f = hist(pid); @g = lhist(pid, 0, 100, 10); @h = stats(-1); @i[comm] = hist(nsecs); }",
    "maps": "i:s:1 { @a[pid] = nsecs; @b = @a[pid]; delete(@a[pid]); @c[comm, pid]++; @d += 2; "
    'clear(@a); print(@c, 5); if (has_key(@a, 1)) { print(len(@a)); } @e["x"] = (1, comm); }',
    "loops": "BEGIN { @a[1] = 2; for ($kv : @a) { @s += $kv.1; if ($kv.0 == 3) { break; } } "
    "for ($i : 0..10) { if ($i == 5) { continue; } @t = $i; } $n = 0; while ($n < 5) { $n++; } "
    "unroll (3) { @u++; } }",
    "captured": "BEGIN { $total = 0; @a[1] = 2; for ($kv : @a) { $total += $kv.1; } print($total); }",
    "strings": 'i:s:1 { $s = str(kptr((uint64)curtask)); if ($s == "abc") { print($s); } @[$s] = 1; '
    "print(strlen(comm)); @b = buf(curtask, 64); }",
    "structs": "i:s:1 { $t = curtask; print($t.real_parent.comm); print($t.wide); print($t.numbers[1]); "
    "@a = $t.tasks; @b = $t.low; print($t.state); }",
    "arithmetic": "i:s:1 { $x = (int64)pid; $y = $x / -3; $z = $x % (tid + 1); print(($x * $y) - ($z << 2)); "
    "print(-$x); print(~$y); print(!$z); print((int8)$x); print($x > 5 ? $y : $z); }",
    "stacks": "p:hz:99 { @[kstack, ustack(3)] = count(); }",
    "syscalls": "t:syscalls:sys_enter_openat { @n[tid] = nsecs; print(str(args.filename)); } "
    "t:syscalls:sys_exit_openat /@n[tid]/ { @h = hist(nsecs - @n[tid]); delete(@n, tid); print(args.ret); }",
    "many syscalls": "t:syscalls:sys_enter_* { @[probe] = count(); } t:syscalls:sys_exit_* { @e[probe] = count(); }",
    "data_loc": "t:sched:sched_process_exec { print(str(args.filename)); }",
    "uprobe": 'u:/bin/tool:main { @[arg0] = count(); print(reg("sp")); } ur:/bin/tool:work { print(retval); }',
    "uprobes": "u:/bin/tool:work* { @[probe] = count(); @f[func] = count(); }",
    "long": 'BEGIN { $a = "' + "x" * 500 + '"; @a = $a; printf("%s %s", $a, comm); }',
    "c": "struct s { int a; char b[8]; unsigned c : 3; };\n"
    "i:s:1 { $p = (struct s *)curtask; print($p->a); print($p->b); print($p->c); @ = *$p; }",
    "macros": "macro twice(e) { (e) + (e) } macro put($v, @m) { @m = $v; $v + 1 }\n"
    'BEGIN { $x = 1; print(twice(pid)); print(put($x, @q)); assert(pid == 1, "no"); }',
    "several lines": "// a comment\nBEGIN\n{\n  $x = pid;\n\n  if ($x) {\n    print($x);\n  }\n}\n",
}


MAP_LOOP = "needs the helper for_each_map_elem (since Linux 5.13)"
REFUSED = {
    ("maps", "old"): MAP_LOOP,
    ("maps", "bare"): MAP_LOOP,
    ("loops", "old"): MAP_LOOP,
    ("loops", "bare"): MAP_LOOP,
    ("captured", "old"): MAP_LOOP,
    ("captured", "bare"): MAP_LOOP,
    ("structs", "bare"): "Can not access field 'real_parent'",
    ("uprobe", "bare"): "this kernel has no uprobes",
    ("uprobes", "bare"): "this kernel has no uprobes",
}
"""What a machine cannot do, and what is said about it."""


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_holds_for_every_program(script: str, machine: str) -> None:
    if (script, machine) in REFUSED:
        assert REFUSED[script, machine] in messages(SCRIPTS[script], machine=MACHINES[machine])[0]
        return
    spec = spec_of(SCRIPTS[script], MACHINES[machine])
    maps = {one.name for one in spec.maps}
    for program in spec.programs:
        check_program(program)
        for insn in program.insns:
            name = getattr(insn.ref, "name", None)
            if type(insn.ref).__name__ in ("MapFd", "MapValue"):
                assert name in maps, f"{program.name} uses {name}"
        assert len(program.insns) < 4096
    check_debug_info(spec, SCRIPTS[script])
    assert {probe.program for probe in spec.probes} <= {program.name for program in spec.programs}
    names = [program.name for program in spec.programs]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_same_script_gives_the_same_programs(script: str) -> None:
    assert spec_of(SCRIPTS[script]) == spec_of(SCRIPTS[script])


# --- once per fact


@pytest.mark.parametrize(
    ("script", "helper", "times"),
    [
        ("BEGIN { @a = pid; @b = pid; @c = tid; }", "get_current_pid_tgid", 1),
        ("BEGIN { @a = uid; @b = gid; @c = uid; }", "get_current_uid_gid", 1),
        ("BEGIN /pid == 1/ { @a = pid; }", "get_current_pid_tgid", 1),
        ("BEGIN { @a = curtask; @b = curtask; }", "get_current_task", 1),
        ("BEGIN { @a = comm; @b = comm; @c[comm] = 1; }", "get_current_comm", 1),
        ("BEGIN { @a = cpu; @b = cpu; }", "get_smp_processor_id", 1),
        ("BEGIN { @a = nsecs; @b = nsecs; }", "ktime_get_boot_ns", 2),
        ("BEGIN { @a = rand; @b = rand; }", "get_prandom_u32", 2),
        ("BEGIN { if (@x) { @a = pid; } @b = pid; }", "get_current_pid_tgid", 2),
        ("BEGIN { @b = pid; if (@x) { @a = pid; } }", "get_current_pid_tgid", 1),
    ],
)
def test_a_fact_is_asked_for_once(script: str, helper: str, times: int) -> None:
    assert helper_calls(program_of(script))[f"bpf_{helper}"] == times


def test_the_predicate_is_asked_first() -> None:
    order = call_order(program_of('BEGIN /pid == 1/ { printf("%s %d", comm, nsecs); }'))
    assert order[0] == "bpf_get_current_pid_tgid"
    assert "bpf_get_current_comm" not in order[:1]
    # The context filter of -p stands in front of it all, and asks the same.
    filtered = program_of("i:s:1 /uid == 0/ { @ = count(); }")
    assert call_order(filtered)[0] == "bpf_get_current_uid_gid"


def test_a_false_predicate_leaves_nothing() -> None:
    program = program_of('BEGIN /0/ { printf("%s", comm); }')
    assert helper_calls(program) == {}
    assert len(program.insns) <= 2


# --- records


def test_a_record_of_fixed_size_is_built_in_place() -> None:
    calls = helper_calls(program_of('BEGIN { printf("%d %s", pid, comm); }'))
    assert (calls["bpf_ringbuf_reserve"], calls["bpf_ringbuf_submit"], calls["bpf_ringbuf_output"]) == (
        1,
        1,
        0,
    )


def test_a_long_string_is_sent_at_its_length() -> None:
    calls = helper_calls(program_of("i:s:1 { print(str(arg0)); }".replace("arg0", "kptr(curtask)")))
    assert (calls["bpf_ringbuf_reserve"], calls["bpf_ringbuf_output"]) == (0, 1)


def test_what_does_not_fit_is_counted() -> None:
    program = program_of("BEGIN { print(1); }")
    assert [insn.ref for insn in program.insns if isinstance(insn.ref, MapValue)] == [
        MapValue(GLOBALS_MAP, Globals.LOST)
    ]


def test_the_ring_is_there_only_if_something_is_sent() -> None:
    assert RING_MAP in {one.name for one in spec_of("BEGIN { print(1); }").maps}
    assert RING_MAP not in {one.name for one in spec_of("BEGIN { @a = 1; }").maps}


# --- less code


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("@a = 1 + 2 * 3;", "@a = 7;"),
        ("@a = (1 << 4) | 1;", "@a = 17;"),
        ('@a = "a" + "b";', '@a = "ab";'),
        ("if (1 == 2) { @a = 1; } else { @a = 2; }", "@a = 2;"),
        ("if (0) { @a = 5; } @a = 1;", "@a = 1;"),
        ("@a = 1 ? 2 : nsecs;", "@a = 2;"),
        ("if (false && pid) { @a = 300; } @a = 300;", "@a = 300;"),
        ("@a = sizeof(uint64);", "@a = 8;"),
        ("$x = 5; $y = $x + 1; @a = 6;", "@a = 6;"),
        ("$unused = nsecs + 1; @a = 6;", None),
        ("@a = pid * 8;", "@a = pid << 3;"),
        ("@a = nsecs % 16;", "@a = nsecs & 15;"),
        ("return; @a = 1;", None),
    ],
)
def test_constants_fold_and_dead_code_goes(one: str, other: str | None) -> None:
    if other is None:
        plain = program_of("BEGIN { @a = 6; }") if "unused" in one else None
        found = program_of(f"BEGIN {{ {one} }}")
        assert len(found.insns) <= (len(plain.insns) + 1 if plain is not None else 2)
        return
    first, second = program_of(f"BEGIN {{ {one} }}").insns, program_of(f"BEGIN {{ {other} }}").insns
    assert [insn.code for insn in first] == [insn.code for insn in second]
    assert [insn.imm for insn in first] == [insn.imm for insn in second]


def test_a_map_without_keys_is_addressed_directly() -> None:
    calls = helper_calls(program_of("BEGIN { @a = pid; @b = @a + 1; }"))
    assert set(calls) == {"bpf_get_current_pid_tgid"}


def test_hello_world_is_short() -> None:
    assert len(program_of('BEGIN { printf("hello"); }').insns) < 20


# --- bounds


def test_many_variables_stay_within_the_stack() -> None:
    assigns = " ".join(f"$x{i} = nsecs;" for i in range(40))
    uses = " ".join(f"@m{i} = $x{i};" for i in range(40))
    check_program(program_of(f"BEGIN {{ {assigns} {uses} }}"))


def test_more_values_than_there_is_room_for_is_a_message() -> None:
    deep = "nsecs + (" * 150 + "1" + ")" * 150
    assert messages(f"BEGIN {{ $x = {deep}; print($x); }}") == [
        "the probe needs more values at once than registers and BPF stack can hold"
    ]


def test_a_long_chain_compiles() -> None:
    check_program(program_of("BEGIN /" + " || ".join(f"pid == {i}" for i in range(900)) + "/ { print(1); }"))


def test_a_script_with_more_probes_than_allowed() -> None:
    (found,) = messages("BEGIN { print(1); }\n" * 1100)
    assert found.startswith(
        "Can't attach to 1100 probes because it exceeds the current limit of 1024 probes."
    )


# --- machines


def test_old_kernels_get_other_code() -> None:
    script = "BEGIN { @a[1] = 2; for ($i : 0..pid) { @t = $i; } @x = @a[1]++; print(nsecs); }"
    new, old = program_of(script), program_of(script, MACHINES["old"])
    may_goto = op.BPF_JMP | op.BPF_JCOND
    assert any(insn.code == may_goto for insn in new.insns)
    assert all(insn.code != may_goto for insn in old.insns)
    fetch = [
        insn
        for insn in old.insns
        if insn.code & 0xE7 == op.BPF_STX | op.BPF_ATOMIC and insn.imm & op.BPF_FETCH
    ]
    assert fetch == []


def test_sign_extension_needs_isa_v4() -> None:
    script = "BEGIN { @a = (int64)(int8)nsecs; }"
    shifts = [insn.code for insn in program_of(script, MACHINES["old"]).insns]
    assert op.BPF_ALU64 | op.BPF_ARSH | op.BPF_K in shifts
    assert op.BPF_ALU64 | op.BPF_ARSH | op.BPF_K not in [insn.code for insn in program_of(script).insns]


def test_a_pid_namespace_is_asked_by_its_inode() -> None:
    machine = FakeMachine(pid_namespace=(4, 4026531836))
    calls = helper_calls(program_of("BEGIN { @a = pid; @b = pid; @c = pid(init); }", machine))
    assert calls["bpf_get_ns_current_pid_tgid"] == 1
    assert calls["bpf_get_current_pid_tgid"] == 1


def test_without_a_map_loop_helper_the_loop_is_refused() -> None:
    assert messages("BEGIN { @a[1] = 2; for ($kv : @a) { } }", machine=FakeMachine(())) != []


def test_stages_can_be_kept() -> None:
    compilation = build("BEGIN { @a = 1 + pid * 0; }", keep_stages=True)
    assert len(compilation.lowered) == len(compilation.optimized) == 1
    assert len(compilation.optimized[0]) <= len(compilation.lowered[0])
