"""What makes programs quick, and where it must not be done."""

from __future__ import annotations

import pytest

from tracebee.insn import MapValue
from tracebee.insn import opcodes as op
from tracebee.insn.helpers import helper_id
from tracebee.language.lower.build import BPF_F_MMAPABLE, SCRATCH_MAP
from tracebee.spec.objects import GLOBALS_MAP, Globals, ProgramSpec

from .fixtures import OLD, FakeMachine, call_order, helper_calls, program_of, spec_of


def atomics(program: ProgramSpec) -> int:
    """How many atomic operations there are, but for those that count lost records."""
    found = 0
    globals_ = False
    for insn in program.insns:
        if isinstance(insn.ref, MapValue):
            globals_ = insn.ref.name == GLOBALS_MAP
        if insn.code & 0xE7 == op.BPF_STX | op.BPF_ATOMIC:
            found += not globals_
            globals_ = False
    return found


# --- numbers of one CPU

GUARDED = (
    "t:sched:sched_switch",
    "k:vfs_read",
    "kr:vfs_read",
    "p:hz:99",
    "i:s:1",
    "s:faults:100",
    "h:cycles:100",
)
OPEN = (
    "rt:sched_switch",
    "f:vfs_read",
    "fr:vfs_read",
    "u:/bin/tool:main",
    "ur:/bin/tool:work",
    "self:signal:SIGUSR1",
)
COUNTING = (
    "@ = count();",
    "@[pid] = count();",
    "@[comm] = sum(cpu);",
    "@ = avg(cpu);",
    "@[cpu] = hist(cpu);",
    "@ = lhist(cpu, 0, 10, 1);",
)


@pytest.mark.parametrize("statement", COUNTING)
@pytest.mark.parametrize("point", GUARDED)
def test_programs_that_nothing_interrupts_add_without_a_lock(point: str, statement: str) -> None:
    spec = spec_of(f"begin {{ {statement} }} {point} {{ {statement} }} end {{ {statement} }}")
    assert [atomics(program) for program in spec.programs] == [0, 0, 0]


@pytest.mark.parametrize("statement", COUNTING)
@pytest.mark.parametrize("point", OPEN)
def test_one_program_that_may_interrupt_makes_all_of_them_add_with_a_lock(point: str, statement: str) -> None:
    spec = spec_of(f"t:sched:sched_switch {{ {statement} @other = count(); }} {point} {{ {statement} }}")
    guarded, other = (atomics(program) for program in spec.programs)
    assert guarded == other > 0


def test_system_calls_by_a_raw_tracepoint_add_with_a_lock() -> None:
    (program,) = spec_of("t:syscalls:sys_enter_* { @ = count(); }").programs
    assert program.type != "TRACEPOINT"
    assert atomics(program) == 1


def test_what_all_cpus_share_is_added_with_a_lock() -> None:
    (program,) = spec_of("t:sched:sched_switch { @a++; @b[pid] += 2; }").programs
    assert atomics(program) == 2
    (program,) = spec_of("let @a = hash(100); t:sched:sched_switch { @a[pid] = count(); }").programs
    assert atomics(program) == 1


# --- maps


def test_a_number_is_overwritten_in_its_place() -> None:
    (program,) = spec_of("i:s:1 { @a[pid] = nsecs; }").programs
    assert helper_calls(program)["bpf_map_lookup_elem"] == 1


@pytest.mark.parametrize("delete", ["delete(@a, 1)", "delete(@a[1])"])
def test_where_keys_are_deleted_a_number_is_not_looked_for(delete: str) -> None:
    setter, deleter = spec_of(f"i:s:1 {{ @a[pid] = nsecs; }} i:s:2 {{ {delete}; }}").programs
    assert helper_calls(setter)["bpf_map_lookup_elem"] == 0
    assert helper_calls(setter)["bpf_map_update_elem"] == 1
    assert helper_calls(deleter)["bpf_map_delete_elem"] == 1


# --- registers


@pytest.mark.parametrize("statement", ["@[pid] = count();", "@[comm] = sum(cpu);"])
def test_what_only_a_new_element_needs_costs_others_nothing(statement: str) -> None:
    """The element stays in the register that the look-up gives it in, until it is added to."""
    (program,) = spec_of(f"t:sched:sched_switch {{ {statement} }}").programs
    calls = [index for index, insn in enumerate(program.insns) if insn.code == op.BPF_JMP | op.BPF_CALL]
    first = next(at for at in calls if program.insns[at].imm == helper_id("map_lookup_elem"))
    branch = program.insns[first + 1]
    assert (branch.code, branch.dst) == (op.BPF_JMP | op.BPF_JNE | op.BPF_K, 0)


# --- scratch memory


def test_scratch_memory_is_found_behind_the_predicate() -> None:
    (program,) = spec_of("i:s:1 /pid == 1 || tid == 2/ { @[str(curtask)] = 1; }").programs
    calls = call_order(program)
    assert calls.index("bpf_get_current_pid_tgid") < calls.index("bpf_get_smp_processor_id")


def test_scratch_memory_is_there_for_a_predicate_that_needs_it() -> None:
    (program,) = spec_of('i:s:1 /pid == 1 && str(curtask) == "abc"/ { @[str(curtask)] = 1; }').programs
    calls = call_order(program)
    assert calls.count("bpf_get_smp_processor_id") == 1
    assert calls[0] == "bpf_get_smp_processor_id"


# --- bytes


def test_many_bytes_are_cleared_by_a_read_that_fails() -> None:
    spec = spec_of("i:s:1 { @[str(curtask)] = 1; }")
    (program,) = spec.programs
    assert "zeros" not in [one.name for one in spec.maps]
    at = next(
        index
        for index, insn in enumerate(program.insns)
        if insn.code == op.BPF_JMP | op.BPF_CALL and insn.imm == helper_id("probe_read_kernel")
    )
    third = [insn for insn in program.insns[:at] if insn.dst == 3][-1]
    assert (third.code, third.imm) == (op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, 0)


def test_scratch_memory_starts_at_a_page() -> None:
    (scratch,) = [one for one in spec_of("i:s:1 { @[str(curtask)] = 1; }").maps if one.name == SCRATCH_MAP]
    assert scratch.type == "ARRAY"
    assert scratch.flags & BPF_F_MMAPABLE


# --- scratch memory that two tasks of a CPU could be in

EXCHANGE = (op.BPF_STX | op.BPF_ATOMIC | op.BPF_DW, op.BPF_XCHG)


def exchanges(program: ProgramSpec) -> list[int]:
    return [index for index, insn in enumerate(program.insns) if (insn.code, insn.imm) == EXCHANGE]


def test_a_program_that_can_be_preempted_claims_its_scratch_memory() -> None:
    program = program_of("uprobe:/bin/tool:main /arg0/ { @[str(arg0)] = 1; return; }")
    (claim,) = exchanges(program)
    address = program.insns[claim].dst, program.insns[claim].off
    stores = [
        insn
        for insn in program.insns
        if insn.code == op.BPF_ST | op.BPF_MEM | op.BPF_DW and (insn.dst, insn.off, insn.imm) == (*address, 0)
    ]
    assert stores, "the claim is never given back"
    calls = [index for index, insn in enumerate(program.insns) if insn.code == op.BPF_JMP | op.BPF_CALL]
    assert program.insns[calls[0]].imm == helper_id("get_smp_processor_id")
    assert calls[0] < claim < calls[1], "memory is used before it is claimed"


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        ("i:s:1 { @[str(curtask)] = 1; }", None),
        ("uprobe:/bin/tool:main { @[arg0] = 1; }", None),
        ("uprobe:/bin/tool:main { @[str(arg0)] = 1; }", FakeMachine(OLD)),
    ],
    ids=["not preemptible", "no scratch memory", "no exchange"],
)
def test_nothing_is_claimed_without_need(text: str, machine: FakeMachine | None) -> None:
    assert not exchanges(program_of(text, machine))


# --- exit()


def flag_loads(program: ProgramSpec) -> int:
    """How often a program loads what lies at the start of the globals: whether exit() was called."""
    refs = [insn.dst for insn in program.insns if insn.ref == MapValue(GLOBALS_MAP, Globals.EXITING)]
    return sum(
        insn.code == op.BPF_LDX | op.BPF_MEM | op.BPF_W and insn.src in refs and insn.off == 0
        for insn in program.insns
    )


def test_probes_do_nothing_once_exit_was_called() -> None:
    begin, timer, end = spec_of("begin { exit(); } i:s:1 { @++; } end { @++; }").programs
    assert [flag_loads(program) for program in (begin, timer, end)] == [0, 1, 0]


def test_a_script_that_never_calls_exit_does_not_ask() -> None:
    assert flag_loads(program_of("i:s:1 { @++; }")) == 0
