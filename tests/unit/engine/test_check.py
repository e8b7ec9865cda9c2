"""What is refused before it runs."""

from __future__ import annotations

import pytest

from tracebee.engine.check import CALLX, check
from tracebee.errors import EngineFault
from tracebee.insn import LDDW, Insn, KernelSymbol, Kfunc, Label
from tracebee.insn import opcodes as op
from tracebee.insn.asm import assemble

EXIT = Insn(op.BPF_JMP | op.BPF_EXIT)
MOV = op.BPF_ALU64 | op.BPF_MOV


@pytest.mark.parametrize(
    ("insns", "reason", "slot"),
    [
        ([], "no instruction", 0),
        ([Insn(MOV)], "without an exit", 0),
        ([EXIT, Insn(LDDW, 1)], "without an exit", 1),
        ([EXIT, Insn(op.BPF_JMP | op.BPF_JEQ, off=-2)], "without an exit", 1),
        ([EXIT, Insn(op.BPF_JMP | op.BPF_CALL, src=1, imm=-2)], "without an exit", 1),
        ([Insn(0xFF), EXIT], "opcode 0xff", 0),
        ([Insn(0x06 | 0x80), EXIT], "opcode 0x86", 0),
        ([Insn(MOV, 11), EXIT], "no register r11", 0),
        ([Insn(MOV | op.BPF_X, 1, 12), EXIT], "no register r12", 0),
        ([Insn(MOV, 10), EXIT], "r10 is the frame pointer", 0),
        ([Insn(MOV, 1, 2), EXIT], "src field", 0),
        ([Insn(MOV | op.BPF_X, 1, 2, imm=3), EXIT], "immediate field", 0),
        ([Insn(MOV, 1, off=3), EXIT], "offset field", 0),
        ([Insn(LDDW, 1), Insn(op.BPF_JMP | op.BPF_JA, off=-2), EXIT], "into the middle", 2),
        ([Insn(op.BPF_JMP | op.BPF_JA, off=1), EXIT], "out of the program, to 2", 0),
        ([Insn(op.BPF_JMP | op.BPF_JA, off=-2), EXIT], "out of the program, to -1", 0),
        ([Insn(op.BPF_JMP32 | op.BPF_JA, imm=7), EXIT], "out of the program", 0),
        ([Insn(op.BPF_JMP | op.BPF_CALL, src=1, imm=4), EXIT], "call out of the program", 0),
        ([Insn(op.BPF_JMP | op.BPF_JA, ref=Label("nowhere")), EXIT], "out of the program", 0),
        ([Insn(LDDW, 1, op.BPF_PSEUDO_FUNC, imm=9), EXIT], "address of a function out of", 0),
        ([Insn(op.BPF_JMP | op.BPF_CALL, imm=2), EXIT], "bpf_map_update_elem", 0),
        ([Insn(op.BPF_JMP | op.BPF_CALL, imm=9), EXIT], "needs a packet or a socket", 0),
        ([Insn(op.BPF_JMP | op.BPF_CALL, imm=9999), EXIT], "no helper function #9999", 0),
        (
            [Insn(op.BPF_JMP | op.BPF_CALL, src=2, ref=Kfunc("bpf_rcu_read_lock")), EXIT],
            "bpf_rcu_read_lock",
            0,
        ),
        ([Insn(LDDW, 1, op.BPF_PSEUDO_BTF_ID, ref=KernelSymbol("jiffies")), EXIT], "jiffies", 0),
        ([Insn(CALLX, 10), EXIT], "r10 cannot hold", 0),
        ([Insn(CALLX, 1, imm=1), EXIT], "no field but dst", 0),
        ([Insn(op.BPF_LD | op.BPF_ABS | op.BPF_W), EXIT], "packet access", 0),
        ([Insn(op.BPF_LD | op.BPF_IND | op.BPF_B, 0, 1), EXIT], "packet access", 0),
        ([Insn(MOV | op.BPF_X, 1, 2, 1, 1), EXIT], "one address space", 0),
    ],
)
def test_refusals(insns: list[Insn], reason: str, slot: int) -> None:
    with pytest.raises(EngineFault) as caught:
        check(insns, {1}, program="main")
    assert reason in caught.value.reason
    assert caught.value.insn_index == slot
    assert caught.value.program == "main"


def test_a_program_that_is_too_long() -> None:
    with pytest.raises(EngineFault, match="more than 1048576"):
        check([EXIT] * ((1 << 20) + 1), ())


def test_targets_are_indexes() -> None:
    code = check(
        assemble(
            "r1 = 5 ll\nif r1 == 5 goto out\ncall local f\nr2 = subprog[g]\nout: exit\nf: exit\ng: exit"
        ),
        (),
    )
    assert code.slots == (0, 2, 3, 4, 6, 7, 8)
    assert code.targets == {1: 4, 2: 5, 3: 6}
    assert code.functions == (0, 5, 6)


def test_labels_of_others() -> None:
    code = check([Insn(op.BPF_JMP | op.BPF_CALL, src=1, ref=Label("f")), EXIT, EXIT], (), {"f": 2})
    assert code.targets == {0: 2}
    assert code.insns[0].ref is None
