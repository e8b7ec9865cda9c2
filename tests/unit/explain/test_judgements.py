"""Messages that mean several things: the instruction, the register's story and the kernel decide between them."""

from __future__ import annotations

import pytest

from tracebee.explain.chooser import explain_text
from tracebee.explain.explanation import Explanation
from tracebee.explain.facts import Facts

END = "processed 9 insns (limit 1000000)\n"


def told_of(*lines: str, **facts: str) -> Explanation:
    return explain_text("\n".join((*lines, END)), Facts(**facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "release", "cause", "sure"),
    [
        ("unknown opcode d7", "6.1.0", "instruction-too-new", True),
        ("unknown opcode 06", "", "instruction-too-new", True),
        ("unknown opcode 91", "5.10.0", "instruction-too-new", True),
        ("unknown opcode 26", "4.19.0", "instruction-too-new", True),
        ("unknown opcode de", "4.19.0", "instruction-too-new", True),
        ("unknown opcode e5", "6.6.0", "instruction-too-new", True),
        ("unknown opcode d7", "6.12.0", "bad-instruction", False),
        ("unknown opcode 86", "4.19.0", "bad-instruction", True),
        ("unknown opcode e7", "5.10.0", "bad-instruction", True),
        ("unknown opcode ff", "6.12.0", "bad-instruction", True),
        ("unknown opcode 8d", "6.12.0", "bad-instruction", True),
        ("unknown opcode ff", "9.1.0", "bad-instruction", False),
        ("BPF_ATOMIC uses invalid atomic opcode 110", "6.12.0", "instruction-too-new", True),
        ("BPF_ATOMIC uses invalid atomic opcode 33", "6.12.0", "bad-instruction", True),
        ("BPF_EXIT uses reserved fields", "5.10.0", "bad-instruction", True),
        ("BPF_ST uses reserved fields", "5.10.0", "bad-instruction", True),
        ("BPF_LDX uses reserved fields", "5.10.0", "instruction-too-new", False),
    ],
)
def test_an_instruction_is_too_new_where_a_later_kernel_has_it(
    line: str, release: str, cause: str, sure: bool
) -> None:
    told = told_of(line, release=release)
    assert (told.cause, told.sure) == (cause, sure)


def test_the_release_that_brought_an_opcode_is_named() -> None:
    assert "Linux 6.6" in told_of("unknown opcode d7", release="6.1.0").sentence
    assert "Linux 6.9" in told_of("unknown opcode e5", release="6.6.0").sentence
    assert "Linux 5.1" in told_of("unknown opcode a6", release="4.19.0").sentence


RESERVE = (
    "0: (bf) r6 = r10",
    "1: (07) r6 += -16",
    "2: (bf) r4 = r6",
    "3: (85) call bpf_ringbuf_reserve_dynptr#198",
)


def test_a_dynptr_that_is_given_back_twice() -> None:
    told = told_of(
        *RESERVE,
        "4: (bf) r1 = r6",
        "; bpf_ringbuf_discard_dynptr(&d, 0); @ a.c:21",
        "5: (85) call bpf_ringbuf_discard_dynptr#200",
        "6: (bf) r1 = r6",
        "; bpf_ringbuf_submit_dynptr(&d, 0); @ a.c:22",
        "7: (85) call bpf_ringbuf_submit_dynptr#199",
        "arg 1 is an unacquired reference",
    )
    assert (told.cause, told.sure) == ("dynptr", True)
    assert "a second time: bpf_ringbuf_discard_dynptr (a.c:21)" in told.sentence


def test_a_dynptr_that_was_never_reserved() -> None:
    told = told_of(
        "0: (bf) r1 = r10",
        "1: (07) r1 += -16",
        "2: (85) call bpf_ringbuf_submit_dynptr#199",
        "arg 1 is an unacquired reference",
    )
    assert (told.cause, told.sure) == ("dynptr", True)
    assert "never reserved" in told.sentence


def test_another_dynptr_was_given_back() -> None:
    told = told_of(
        *RESERVE,
        "4: (bf) r1 = r6",
        "5: (85) call bpf_ringbuf_submit_dynptr#199",
        "6: (bf) r1 = r10",
        "7: (07) r1 += -48",
        "8: (85) call bpf_ringbuf_submit_dynptr#199",
        "arg 1 is an unacquired reference",
    )
    assert "a second time" not in told.sentence


@pytest.mark.parametrize(
    ("state", "cause", "sure"),
    [
        ("fp-32=dynptr_ringbuf(id=1,ref_id=4,dynptr_id=3) refs=4", "dynptr", True),
        ("fp-16=iter_task(ref_id=4,state=active,depth=1) refs=4", "iterator", True),
        ("fp-32=dynptr_ringbuf(id=1,ref_id=2,dynptr_id=3) refs=2,4", "reference-leak", True),
    ],
)
def test_whose_reference_it_is_when_the_call_is_cut_off(state: str, cause: str, sure: bool) -> None:
    told = told_of(
        f"61: (b7) r0 = 0 ; R0=0 {state}", "62: (95) exit", "Unreleased reference id=4 alloc_insn=40"
    )
    assert (told.cause, told.sure) == (cause, sure)


def test_before_6_2_a_function_of_dynptrs_hints_at_one() -> None:
    told = told_of(
        "60: (85) call bpf_dynptr_read#201 ; R0=scalar() refs=1",
        "61: (95) exit",
        "Unreleased reference id=1 alloc_insn=40",
    )
    assert told.cause == "dynptr"


BUFFER = ("0: (bf) r1 = r10", "1: (07) r1 += -8", "2: (85) call pc+3")


@pytest.mark.parametrize(
    "line",
    [
        "invalid indirect access to stack R1 off=-8 size=24",
        "invalid read from stack R1 off=-8 size=24",
        "invalid access to map value, value_size=8 off=0 size=24",
    ],
)
def test_memory_that_is_too_small_for_a_global_function(line: str) -> None:
    told = told_of(*BUFFER, line, "Caller passes invalid args into func#2 ('sum')")
    assert (told.cause, told.sure) == ("global-function", True)
    assert "sum()" in told.sentence
    assert "24 bytes" in told.sentence
    assert told_of(*BUFFER, line).cause != "global-function"


def test_a_number_for_a_kernel_function() -> None:
    told = told_of(
        "0: (85) call bpf_get_current_task#35 ; R0_w=scalar()",
        "1: (bf) r1 = r0 ; R0_w=scalar(id=1) R1_w=scalar(id=1)",
        "2: (85) call bpf_cgroup_acquire#56798",
        "arg#0 pointer type STRUCT cgroup must point to scalar, or struct with scalar",
    )
    assert (told.cause, told.sure) == ("kfunc", True)
    assert "bpf_cgroup_acquire" in told.sentence
    assert "struct cgroup" in told.sentence


ACQUIRE = (
    "0: (85) call bpf_cgroup_from_id#56803 ; R0_w=ptr_or_null_cgroup(id=2,ref_obj_id=2) refs=2",
    "1: (bf) r6 = r0",
    "2: (15) if r6 == 0x0 goto pc+4 ; R6_w=ptr_cgroup(ref_obj_id=2) refs=2",
    "3: (bf) r1 = r6",
    "4: (85) call bpf_cgroup_release#56810",
    "5: (bf) r1 = r6 ; R1_w=scalar(id=3) R6_w=scalar(id=3)",
    "6: (85) call bpf_cgroup_release#56810",
)


@pytest.mark.parametrize(
    "line",
    [
        "arg#0 pointer type STRUCT cgroup must point to scalar, or struct with scalar",
        "R1 pointer type STRUCT cgroup must point to scalar, or struct with scalar",
        "release kfunc bpf_cgroup_release expects referenced PTR_TO_BTF_ID passed to R1",
        "R1 must be referenced",
    ],
)
def test_a_kernel_object_that_is_released_twice(line: str) -> None:
    told = told_of(*ACQUIRE, line)
    assert (told.cause, told.sure) == ("use-after-release", True)
    assert "bpf_cgroup_release" in told.sentence


def test_a_structure_as_argument_of_a_function_of_the_program_is_no_matter_of_kernel_functions() -> None:
    told = told_of("arg#0 pointer type STRUCT task_struct must point to scalar, or struct with scalar")
    assert told.cause == "global-function"


def test_a_constant_that_is_far_outside_of_the_stack() -> None:
    told = told_of(
        "0: (bf) r2 = r10",
        "1: (07) r2 += -1073741824",
        "math between fp pointer and -1073741824 is not allowed",
    )
    assert (told.cause, told.sure) == ("stack-out-of-bounds", False)
    assert "-1073741824" in told.sentence


def test_the_loop_is_shown_by_the_jump_that_leads_back() -> None:
    told = told_of(
        "0: (b7) r1 = 0",
        "; x = 1; @ a.c:8",
        "1: (b7) r2 = 1",
        "; while (n > 3) @ a.c:5",
        "2: (25) if r3 > 0x3 goto pc-2",
        "infinite loop detected at insn 1",
    )
    assert (told.cause, told.insn) == ("infinite-loop", 1)
    assert [place.line for place in told.fix] == [5]


def test_broken_invariants_are_the_reason_only_where_nothing_else_is() -> None:
    line = "REG INVARIANTS VIOLATION (true_reg1): range bounds violation u64=[0x1, 0x0] var_off=(0x1, 0x0)"
    told = told_of(line, errno="EFAULT", release="6.8.0")
    assert (told.cause, told.sure) == ("kernel-bug", True)
    assert not told_of(line).sure
    told = told_of("0: (b7) r1 = 0", line, "1: (95) exit", line, "R0 !read_ok")
    assert (told.cause, told.sure) == ("reg-uninit", True)


# Only the end of a path: the value comes from what is cut off.


def test_a_number_is_released_and_the_start_is_cut_off() -> None:
    lines = ("31: (bf) r1 = r7 ; R1=scalar(id=3) R7=scalar(id=3)", "32: (85) call bpf_ringbuf_discard#133")
    told = told_of(*lines, "R1 type=scalar expected=ringbuf_mem")
    assert (told.cause, told.sure) == ("use-after-release", False)
    assert "helper-arg-type" in told.others
    whole = told_of("0: (b7) r7 = 5", "1: (bf) r1 = r7", "2: (85) call bpf_ringbuf_discard#133",
                    "R1 type=scalar expected=ringbuf_mem")  # fmt: skip
    assert whole.cause == "helper-arg-type"


def test_half_of_a_slot_was_overwritten_and_the_start_is_cut_off() -> None:
    lines = (
        "40: (6b) *(u16 *)(r10 -22) = r2",
        "41: (79) r3 = *(u64 *)(r10 -24) ; R3=scalar()",
        "42: (71) r0 = *(u8 *)(r3 +4)",
        "R3 invalid mem access 'scalar'",
    )
    told = told_of(*lines)
    assert (told.cause, told.sure) == ("spill-corruption", False)
    assert "fp-24" in told.sentence
    whole = told_of("0: (7b) *(u64 *)(r10 -24) = r2", "1: (79) r3 = *(u64 *)(r10 -24) ; R3=scalar()",
                    "2: (71) r0 = *(u8 *)(r3 +4)", "R3 invalid mem access 'scalar'")  # fmt: skip
    assert whole.cause == "direct-deref"


def test_the_null_side_of_a_test_and_the_start_is_cut_off() -> None:
    lines = ("20: (55) if r8 != 0x0 goto pc+2 ; R8=0", "21: (b7) r1 = 16", "22: (71) r2 = *(u8 *)(r1 +0)")
    told = told_of(*lines, "R1 invalid mem access 'scalar'")
    assert (told.cause, told.sure) == ("null-check-missing", False)
    other = told_of("20: (15) if r8 == 0x0 goto pc+2", *lines[1:], "R1 invalid mem access 'scalar'")
    assert other.cause == "direct-deref"


@pytest.mark.parametrize(
    ("section", "state", "cause"),
    [
        ("tp_btf/sched_wakeup", "R6=trusted_ptr_or_null_task_struct(id=1)", "nullable-tracepoint-argument"),
        ("tp_btf/sched_wakeup", "R6=ptr_or_null_task_struct(id=1,ref_obj_id=2)", "null-check-missing"),
        ("tp_btf/sched_wakeup", "R6=trusted_ptr_or_null_task_struct(id=1) refs=1", "null-check-missing"),
        ("fentry/schedule", "R6=trusted_ptr_or_null_task_struct(id=1)", "null-check-missing"),
    ],
)
def test_a_typed_pointer_and_the_start_is_cut_off(section: str, state: str, cause: str) -> None:
    told = told_of(
        f"12: (b7) r1 = 0 ; R1=0 {state}",
        "13: (61) r1 = *(u32 *)(r6 +2808)",
        "R6 invalid mem access 'trusted_ptr_or_null_'",
        section=section,
    )
    assert told.cause == cause


@pytest.mark.parametrize(
    ("section", "register", "cause"),
    [("xdp", 8, "packet-pointer-stale"), ("tc", 6, "packet-pointer-stale"), ("kprobe/x", 8, "direct-deref"),
     ("xdp", 2, "direct-deref")],
)  # fmt: skip
def test_a_number_in_a_program_on_packets_and_the_start_is_cut_off(
    section: str, register: int, cause: str
) -> None:
    told = told_of(
        f"50: (71) r3 = *(u8 *)(r{register} +12)", f"R{register} invalid mem access 'scalar'", section=section
    )
    assert (told.cause, told.sure) == (cause, False)


# What a line stands next to.


def test_a_weak_function_that_is_not_there() -> None:
    for call in ("call #0", "call <error>#0                ;"):
        told = told_of(
            "; return bpf_of_tomorrow(ctx); @ a.c:4", f"0: (85) {call}", "1: (95) exit", "R0 !read_ok"
        )
        assert (told.cause, told.sure) == ("kfunc", True)
        assert "bpf_of_tomorrow" in told.sentence
    assert told_of("0: (b7) r1 = 0", "1: (95) exit", "R0 !read_ok").cause == "reg-uninit"


def test_the_message_of_a_loop_on_the_line_of_the_jump() -> None:
    told = told_of("0: (b7) r1 = 0", "1: (55) if r3 != 0x0 goto pc-1 infinite loop detected at insn 1")
    assert (told.cause, told.insn) == ("infinite-loop", 1)


def test_the_context_that_a_caller_does_not_pass() -> None:
    lines = ("4: (85) call pc+1", "arg#0 expected pointer to ctx, but got PTR")
    told = told_of(*lines, "Caller passes invalid args into func#1")
    assert (told.cause, told.sure) == ("global-function", True)
    assert "R1" in told.sentence


def test_a_remark_beside_the_error_is_not_the_error() -> None:
    told = told_of(
        "6: (85) call bpf_for_each_map_elem#164",
        "reg type unsupported for arg#0 function each#29",
        "callback function not allowed for map",
    )
    assert (told.cause, told.sure) == ("map-helper-mismatch", True)
    assert told.kernel_says == ("callback function not allowed for map",)


RECORD = (
    "0: (85) call bpf_ringbuf_reserve#131 ; R0_w=alloc_mem_or_null(id=2,ref_obj_id=2) refs=2",
    "1: (15) if r0 == 0x0 goto pc+4 ; R0_w=alloc_mem(ref_obj_id=2) refs=2",
)


def test_a_pointer_that_was_negated() -> None:
    told = told_of(
        *RECORD, "2: (87) r0 = -r0 ; R0_w=scalar() refs=2", "3: (71) r1 = *(u8 *)(r0 +0)",
        "R0 invalid mem access 'scalar'",
    )  # fmt: skip
    assert (told.cause, told.sure) == ("pointer-arithmetic", True)


def test_what_is_still_held_was_not_released() -> None:
    told = told_of(
        "31: (bf) r1 = r7 ; R1=scalar(id=3) R7=scalar(id=3) refs=2",
        "32: (85) call bpf_ringbuf_discard#133",
        "R1 type=scalar expected=ringbuf_mem",
    )
    assert (told.cause, told.sure) == ("helper-arg-type", False)


@pytest.mark.parametrize(("privileges", "cause"), [("none", "unprivileged-leak"), ("root", "stack-uninit")])
def test_a_pointer_in_a_key_of_an_unprivileged_program(privileges: str, cause: str) -> None:
    told = told_of(
        "0: (7b) *(u64 *)(r10 -8) = r1 ; R1=ctx() R10=fp0 fp-8_w=ctx",
        "1: (bf) r2 = r10",
        "2: (07) r2 += -8",
        "3: (85) call bpf_map_lookup_elem#1",
        "invalid indirect read from stack R2 off -8+0 size 8",
        privileges=privileges,
    )
    assert told.cause == cause


@pytest.mark.parametrize(
    ("section", "cause", "sure"),
    [
        ("tp_btf/sched_switch", "sleepable", True),
        ("", "sleepable", False),
        ("fentry.s/do_unlinkat", "rcu-preempt-context", False),
    ],
)
def test_a_global_function_that_may_sleep(section: str, cause: str, sure: bool) -> None:
    """The message names the program and sections in one breath (Linux 6.16 and later)."""
    told = told_of(
        "3: (85) call pc+2",
        "global functions that may sleep are not allowed in non-sleepable context,",
        "i.e., in a RCU/IRQ/preempt-disabled section, or in",
        "a non-sleepable BPF program context",
        section=section,
        release="6.18.0",
    )
    assert (told.cause, told.sure, told.insn) == (cause, sure, 3)
