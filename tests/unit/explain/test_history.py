"""A register followed back through a log."""

from __future__ import annotations

from tracebee.explain.history import Path
from tracebee.explain.log import read_text


def path_of(*lines: str) -> Path:
    return Path(read_text("\n".join((*lines, "R1 invalid mem access 'scalar'", ""))))


def test_moves_and_sums_lead_to_the_call() -> None:
    path = path_of(
        "0: (85) call bpf_map_lookup_elem#1",
        "1: (bf) r6 = r0",
        "2: (07) r6 += 8",
        "3: (bf) r1 = r6",
        "4: (79) r2 = *(u64 *)(r1 +0)",
    )
    origin = path.trace(4, 1)
    assert (origin.kind, origin.name, origin.position) == ("call", "bpf_map_lookup_elem", 0)
    assert [change.constant for change in origin.changes] == [8]


def test_a_saved_register_is_followed_through_the_stack() -> None:
    path = path_of(
        "0: (85) call bpf_get_current_task#35",
        "1: (7b) *(u64 *)(r10 -16) = r0",
        "2: (b7) r0 = 0",
        "3: (79) r3 = *(u64 *)(r10 -16)",
        "4: (61) r4 = *(u32 *)(r3 +8)",
    )
    assert path.trace(4, 3).name == "bpf_get_current_task"


def test_a_slot_that_a_helper_filled() -> None:
    path = path_of(
        "0: (bf) r1 = r10",
        "1: (07) r1 += -8",
        "2: (b7) r2 = 8",
        "3: (bf) r3 = r6",
        "4: (85) call bpf_probe_read_kernel#113",
        "5: (79) r1 = *(u64 *)(r10 -8)",
        "6: (61) r2 = *(u32 *)(r1 +0)",
    )
    origin = path.trace(6, 1)
    assert (origin.kind, origin.name, origin.slot) == ("stored", "bpf_probe_read_kernel", -8)


def test_chains_of_loads_have_a_root() -> None:
    path = path_of(
        "0: (79) r1 = *(u64 *)(r1 +112)",
        "1: (79) r2 = *(u64 *)(r1 +8)",
        "2: (61) r3 = *(u32 *)(r2 +4)",
    )
    origin = path.trace(2, 2)
    assert origin.kind == "load"
    assert origin.base is not None
    assert (origin.root().kind, origin.root().offset) == ("context", 112)


def test_arguments_come_from_the_caller_and_results_from_the_callee() -> None:
    path = path_of(
        "0: (85) call bpf_ktime_get_ns#5",
        "1: (bf) r1 = r0",
        "2: (85) call pc+2",
        "5: (bf) r0 = r1",
        "6: (95) exit",
        "3: (bf) r6 = r0",
        "4: (61) r2 = *(u32 *)(r6 +0)",
    )
    assert [insn.frame for insn in path.insns] == [0, 0, 0, 1, 1, 0, 0]
    assert path.trace(6, 6).name == "bpf_ktime_get_ns"


def test_a_branch_goes_on_from_where_it_parted() -> None:
    path = path_of(
        "0: (85) call bpf_map_lookup_elem#1",
        "1: (bf) r6 = r0",
        "2: (15) if r6 == 0x0 goto pc+2",
        "3: (b7) r6 = 5",
        "4: (95) exit",
        "from 2 to 5: R6=0 R10=fp0",
        "5: (61) r1 = *(u32 *)(r6 +0)",
    )
    assert [insn.index for insn in path.insns] == [0, 1, 2, 5]
    assert path.trace(3, 6).name == "bpf_map_lookup_elem"


def test_what_destroys_a_register_is_its_definition() -> None:
    path = path_of("0: (b7) r1 = 7", "1: (85) call bpf_ktime_get_ns#5", "2: (bf) r2 = r1")
    assert path.definition(2, 1) == 1


def test_an_endless_chain_ends() -> None:
    lines = [f"{number}: (07) r1 += 1" for number in range(5000)]
    path = path_of(*lines, "5000: (61) r2 = *(u32 *)(r1 +0)")
    assert path.trace(5000, 1).kind == "unknown"


def test_stack_addresses_with_and_without_states() -> None:
    path = path_of("0: (bf) r6 = r10", "1: (07) r6 += -24 ; R6_w=fp-24", "2: (bf) r1 = r6", "3: (bf) r0 = r1")
    assert path.frame_offset(3, 1) == -24
    assert path.frame_offset(1, 6) == 0
