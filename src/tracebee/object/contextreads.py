"""Which bytes of its context a program reads: what an event's record must have.

The kernel looks at the same when a program is attached to a tracepoint, and answers EACCES where the highest byte
is behind the record's end (perf_event_set_bpf_prog() in kernel/events/core.c, max_ctx_offset); nothing says so when
it is loaded.  Registers are followed through copies, additions of constants and spills; where two ways meet with
different values, the register counts as unknown, so that no read is made up.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, LDDW, Insn, reach

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT, FRAME = 1, 10

EXIT = op.BPF_JMP | op.BPF_EXIT
MOV = op.BPF_ALU64 | op.BPF_MOV | op.BPF_X
ADD = op.BPF_ALU64 | op.BPF_ADD | op.BPF_K
SPILL = op.BPF_STX | op.BPF_MEM | op.BPF_DW
FILL = op.BPF_LDX | op.BPF_MEM | op.BPF_DW
SIZES = {op.BPF_B: 1, op.BPF_H: 2, op.BPF_W: 4, op.BPF_DW: 8}

State = tuple[tuple[int, int], ...]
"""(place, offset into the context) of each place that holds an address in it: registers, and stack below 0."""


class ContextRead(NamedTuple):
    """A load of `size` bytes at `offset` of the context, by the instruction in `slot`."""

    slot: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


def context_reads(insns: Sequence[Insn]) -> list[ContextRead]:
    """All reads of the context at offsets that are constants, in the order of the program."""
    slots = list(accumulate([insn.slots for insn in insns], initial=0))
    index_at = {slot: index for index, slot in enumerate(slots[:-1])}
    known: dict[int, State] = {}
    pending: list[tuple[int, State]] = [(0, ((CONTEXT, 0),))] if insns else []
    while pending:
        index, state = pending.pop()
        if index >= len(insns):
            continue
        before = known.get(index)
        merged = state if before is None else tuple(sorted(set(before) & set(state)))
        if merged == before:
            continue  # states only lose what they know, so this comes to an end
        known[index] = merged
        insn = insns[index]
        after = _step(insn, dict(merged))
        distance = reach(insn)
        target = None if distance is None else index_at.get(slots[index] + insn.slots + distance)
        if insn.code == CALL and target is not None:
            handed = tuple((place, offset) for place, offset in merged if 0 < place <= 5)
            pending.append((target, handed))
            pending.append((index + 1, after))
            continue
        if target is not None and insn.code != LDDW:
            pending.append((target, after))
        if insn.code != EXIT and not _is_goto(insn):
            pending.append((index + 1, after))
    found = []
    for index, insn in enumerate(insns):
        read = _read(insn, dict(known.get(index, ())), slots[index])
        if read is not None:
            found.append(read)
    return found


def _read(insn: Insn, places: dict[int, int], slot: int) -> ContextRead | None:
    if insn.code & 7 != op.BPF_LDX or insn.src not in places:
        return None
    if insn.code & 0xE0 not in (op.BPF_MEM, op.BPF_MEMSX):
        return None
    return ContextRead(slot, places[insn.src] + insn.off, SIZES[insn.code & 0x18])


def _step(insn: Insn, places: dict[int, int]) -> State:
    """What is known behind an instruction."""
    code = insn.code
    kind = code & 7
    if code == MOV and insn.off == 0 and insn.src in places:
        places[insn.dst] = places[insn.src]
    elif code == ADD and insn.dst in places:
        places[insn.dst] += insn.imm
    elif code == SPILL and insn.dst == FRAME:
        if insn.src in places:
            places[insn.off] = places[insn.src]
        else:
            places.pop(insn.off, None)
    elif kind in (op.BPF_ST, op.BPF_STX):
        if insn.dst == FRAME:
            for place in [place for place in places if place < 0 and insn.off - 8 < place < insn.off + 8]:
                del places[place]
    elif code == FILL and insn.src == FRAME and insn.off in places:
        places[insn.dst] = places[insn.off]
    elif kind in (op.BPF_JMP, op.BPF_JMP32):
        if code & 0xF0 == op.BPF_CALL:
            for register in range(6):
                places.pop(register, None)
    else:
        places.pop(insn.dst, None)
    return tuple(sorted(places.items()))


def _is_goto(insn: Insn) -> bool:
    return insn.code & 0xF0 == op.BPF_JA and insn.code & 7 in (op.BPF_JMP, op.BPF_JMP32)
