"""Whether bytes are a program: what can be said without running it (RFC 9669; Linux' additions to it).

Every instruction must exist, use the fields that it has and no others, jump to the start of an instruction,
and call what is there to be called.  Nothing is said about values: the engine holds memory, loops and calls
to their limits while it runs.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import EngineFault
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, GOTO, GOTOL, LDDW, Insn, KernelSymbol, Kfunc, Label, reach
from tracebee.insn.helpers import PREFIX, helper_name
from tracebee.insn.rules import validate

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

CALLX = op.BPF_JMP | op.BPF_CALL | op.BPF_X
"""A call to the function or helper that a register names."""

EXIT = op.BPF_JMP | op.BPF_EXIT

MAX_INSNS = 1 << 20
"""As many as the kernel looks at (BPF_COMPLEXITY_LIMIT_INSNS is 1,000,000)."""


class Code(NamedTuple):
    """A program that has been checked.

    `slots` is the slot of each instruction.  `targets` has the index of the instruction that a jump, a local
    call or a load of a function's address refers to, by the index of the instruction that does.  `functions`
    are the indexes where functions start, the program itself first.
    """

    insns: tuple[Insn, ...]
    slots: tuple[int, ...]
    targets: dict[int, int]
    functions: tuple[int, ...]


def check(
    insns: Sequence[Insn], helpers: Container[int], labels: dict[str, int] | None = None, program: str = ""
) -> Code:
    """The program with its jumps resolved.

    `helpers` are the numbers of the helper functions that there are; `labels` gives the slots of names that
    the instructions refer to.  Raises EngineFault.
    """
    starts = list(accumulate([insn.slots for insn in insns], initial=0))
    if not insns:
        raise EngineFault("there is no instruction", 0, program=program)
    if starts[-1] > MAX_INSNS:
        raise EngineFault(
            f"the program has {starts[-1]} instructions, more than {MAX_INSNS}", 0, program=program
        )
    index_at = {slot: index for index, slot in enumerate(starts)}
    del index_at[starts[-1]]
    resolved = list(insns)
    targets: dict[int, int] = {}
    functions = {0}
    for index, insn in enumerate(insns):
        slot = starts[index]
        reason = _refusal(insn, helpers)
        if reason is not None:
            raise EngineFault(reason, slot, program=program)
        goal = _goal(insn, slot, labels or {})
        if goal is None:
            continue
        target = index_at.get(goal)
        if target is None:
            inside = 0 <= goal < starts[-1]
            place = "into the middle of an instruction" if inside else "out of the program"
            raise EngineFault(f"{_verb(insn)} {place}, to {goal}", slot, program=program)
        targets[index] = target
        if insn.code in (LDDW, CALL):
            functions.add(target)
        if isinstance(insn.ref, Label):
            resolved[index] = insn._replace(ref=None)
    if not _ends(insns[-1]):
        raise EngineFault("the program ends without an exit", starts[-2], program=program)
    return Code(tuple(resolved), tuple(starts[:-1]), targets, tuple(sorted(functions)))


def _refusal(insn: Insn, helpers: Container[int]) -> str | None:
    """Why an instruction cannot be run here, or None."""
    code, dst, src, off, imm, ref = insn
    if code == CALLX:
        if src or off or imm:
            return "a call by register uses no field but dst"
        return None if dst < op.R10 else f"r{dst} cannot hold a function"
    reason = validate(insn)
    if reason is not None:
        return reason
    if code == CALL:
        if src == op.BPF_PSEUDO_KFUNC_CALL:
            named = f" {ref.name}" if isinstance(ref, Kfunc) else f" #{imm}"
            return f"there is no kernel here whose function{named} could be called"
        if src == 0 and imm not in helpers:
            name = helper_name(imm)
            if name is None:
                return f"there is no helper function #{imm}"
            from tracebee.engine.calls import KERNEL_ONLY

            need = KERNEL_ONLY.get(name.removeprefix(PREFIX))
            return f"no {name} (#{imm}) in user space{f': it needs {need}' if need else ''}"
    elif code == LDDW:
        if src == op.BPF_PSEUDO_BTF_ID:
            named = f" {ref.name}" if isinstance(ref, KernelSymbol) else ""
            return f"there is no kernel here whose variable{named} could be read"
    elif code & 7 == op.BPF_LD:
        return "the old packet access (BPF_ABS, BPF_IND) is not supported"
    elif code == op.BPF_ALU64 | op.BPF_MOV | op.BPF_X and off == op.BPF_ADDR_SPACE_CAST:
        return "there is only one address space"
    return None


def _goal(insn: Insn, slot: int, labels: dict[str, int]) -> int | None:
    """The slot that an instruction refers to; None if it refers to none."""
    if isinstance(insn.ref, Label):
        return labels.get(insn.ref.name, -1)
    distance = reach(insn)
    return None if distance is None else slot + 1 + distance


def _verb(insn: Insn) -> str:
    if insn.code == CALL:
        return "call"
    return "address of a function" if insn.code == LDDW else "jump"


def _ends(insn: Insn) -> bool:
    """Whether an instruction can be the last: nothing runs behind it."""
    return insn.code in (EXIT, GOTO, GOTOL)


def is_jump(insn: Insn) -> bool:
    """Whether an instruction goes to its target or, if it has a condition, to the next one."""
    return insn.code & 7 in (op.BPF_JMP, op.BPF_JMP32) and insn.code not in (CALL, CALLX, EXIT)


def is_conditional(insn: Insn) -> bool:
    """Whether a jump may go on with the next instruction."""
    return insn.code not in (GOTO, GOTOL)
