"""Instructions behind the verifier, in bpftool's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracebee.insn import decode
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, LDDW, Insn
from tracebee.insn.disasm import NOSPEC
from tracebee.insn.xlated import (
    PROBE_ATOMIC,
    PROBE_MEMSX,
    Names,
    Source,
    describe,
    describe_insn,
    function_starts,
)

PROGRAMS = Path(__file__).parents[2] / "data" / "programs"

# What /proc/kallsyms had when the programs were recorded.
FUNCTIONS = {
    349856: "bpf_for_each_array_elem",
    290240: "bpf_rcu_read_lock",
    290272: "bpf_rcu_read_unlock",
}
SUBPROGRAMS = ("main", "visit", "bpf_prog_4cbc7cf40ec062d8_add", "bpf_prog_858c5cce6aa2a034_largest")
NAMES = Names(
    function=lambda distance: FUNCTIONS.get(distance, ""),
    symbol=lambda address: "vfs_read" if address == 0xFFFF_FFFF_8150_0000 else "",
    subprograms=SUBPROGRAMS,
    functions={54: "visit", 60: "add", 67: "largest"},
    maps={83138: "numbers", 83139: "jumps", 83141: "rewritten.rodata", 83142: "rewritten.bss"},
    variables=lambda map_id, offset: "total" if (map_id, offset) == (83142, 24) else "",
)


@pytest.mark.parametrize("name", ["packets", "locked"])
def test_recorded_programs_read_as_bpftool_reads_them(name: str) -> None:
    insns = decode((PROGRAMS / f"{name}.xlated").read_bytes(), byteorder="little")
    expected = [
        (int(slot), text)
        for slot, text in re.findall(r"^ *(\d+): (.*)$", (PROGRAMS / f"{name}.txt").read_text(), re.MULTILINE)
    ]
    lines = describe(insns, NAMES)
    assert [(line.slot, line.text) for line in lines] == expected


def test_notes_have_the_names_that_the_text_lacks() -> None:
    insns = decode((PROGRAMS / "packets.xlated").read_bytes(), byteorder="little")
    notes = {line.slot: line.note for line in describe(insns, NAMES) if line.note}
    assert notes == {
        5: "numbers",
        7: "visit",
        13: "add",
        36: "rewritten.bss[0]+0",
        40: "&total",
        48: "jumps",
        69: "rewritten.rodata[0]+0",
    }


def test_functions_begin_where_they_are_called() -> None:
    insns = decode((PROGRAMS / "packets.xlated").read_bytes(), byteorder="little")
    assert function_starts(insns) == {0: 0, 54: 1, 60: 2, 67: 3}
    # Distances out of the program are no functions.
    assert function_starts([Insn(CALL, 0, op.BPF_PSEUDO_CALL, 99, 7)]) == {0: 0}


def test_prototypes_and_sources_stand_where_they_begin() -> None:
    source = Source("return 0;", "a.c", 3, 5)
    insns = [Insn(LDDW, 1, 0, 0, 7), Insn(op.BPF_JMP | op.BPF_EXIT)]
    first, second = describe(insns, Names(), {0: "int f(void)"}, {2: source})
    assert (first.slot, first.head, first.source) == (0, "int f(void)", None)
    assert (second.slot, second.head, second.source) == (2, "", source)


@pytest.mark.parametrize(
    ("insn", "text", "note"),
    [
        (Insn(CALL, imm=14), "(85) call bpf_get_current_pid_tgid#14", ""),
        (Insn(CALL, imm=290240), "(85) call bpf_rcu_read_lock#290240", ""),
        (Insn(CALL, imm=-4096), "(85) call unknown#-4096", ""),
        (Insn(CALL, src=op.BPF_PSEUDO_KFUNC_CALL, imm=290240), "(85) call bpf_rcu_read_lock#290240", ""),
        # Where addresses are hidden, so are the distances.
        (Insn(CALL), "(85) call bpf_unspec#0", ""),
        (Insn(CALL, src=1, off=66, imm=3), "(85) call pc+66#bpf_prog_858c5cce6aa2a034_largest", ""),
        # Not compiled: bpftool has the interpreter's name there.
        (Insn(CALL, src=1, off=66, imm=290240), "(85) call pc+66#bpf_rcu_read_lock", "largest"),
        # Addresses are hidden: no symbols either.
        (Insn(CALL, src=1, off=66, imm=123456), "(85) call pc+66", "largest"),
        (Insn(CALL, src=1, off=-3, imm=-1), "(85) call pc-3", ""),
        (Insn(LDDW, 2, op.BPF_PSEUDO_FUNC, 0, 53 | 1 << 32), "(18) r2 = subprog[+53]", "visit"),
        (Insn(LDDW, 2, op.BPF_PSEUDO_FUNC, 0, 0xFFFF_FFFE), "(18) r2 = subprog[-2]", ""),
        (Insn(LDDW, 1, op.BPF_PSEUDO_MAP_FD, 0, 83138), "(18) r1 = map[id:83138]", "numbers"),
        (Insn(LDDW, 1, op.BPF_PSEUDO_MAP_FD, 0, 5), "(18) r1 = map[id:5]", ""),
        (Insn(LDDW, 1, op.BPF_PSEUDO_MAP_VALUE, 0, 5 | 8 << 32), "(18) r1 = map[id:5][0]+8", ""),
        (Insn(LDDW, 3, 0, 0, 0x20), "(18) r3 = 0x20", ""),
        (Insn(LDDW, 3, 0, 0, 0xFFFF_FFFF_8150_0000), "(18) r3 = 0xffffffff81500000", "&vfs_read"),
        (Insn(op.BPF_LDX | PROBE_MEMSX | op.BPF_W, 1, 2, 4), "(81) r1 = *(s32 *)(r2 +4)", ""),
        (Insn(op.BPF_STX | PROBE_ATOMIC | op.BPF_DW, 1, 2, 4), "(db) lock *(u64 *)(r1 +4) += r2", ""),
        (Insn(NOSPEC), "(c2) nospec", ""),
        # Constants that are blinded go through a register of the kernel's own.
        (Insn(op.BPF_ALU64 | op.BPF_MOV, 11, imm=286528056), "(b7) r11 = 286528056", ""),
        (Insn(op.BPF_ALU64 | op.BPF_XOR, 11, imm=285615726), "(a7) r11 ^= 285615726", ""),
        (Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 1, 11), "(bf) r1 = r11", ""),
        (Insn(op.BPF_JMP | op.BPF_JEQ | op.BPF_X, 1, 11, 5), "(1d) if r1 == r11 goto pc+5", ""),
        (Insn(op.BPF_ALU | op.BPF_MOV, 12, imm=-1), "(b4) w12 = -1", ""),
        (Insn(op.BPF_ALU64 | op.BPF_MOV, 13), ".insn code=0xb7 dst=13 src=0 off=0 imm=0", ""),
    ],
)
def test_what_the_verifier_writes(insn: Insn, text: str, note: str) -> None:
    assert describe_insn(insn, 0, NAMES) == (text, note)
