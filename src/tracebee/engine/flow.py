"""The shape of a function: its basic blocks, and the loops that they form.

Blocks are numbered in the order of the program.  A loop is a range of blocks: from the target of a jump
backwards to the last block that jumps there.  Loops are nested in each other or apart; where jumps would make
them overlap, they are one loop together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.engine.check import CALLX, EXIT, is_conditional, is_jump
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL

if TYPE_CHECKING:
    from tracebee.engine.check import Code


LONGEST_COPY = 3
"""Instructions of a block that is copied to where it is jumped to from, the exit included."""


class Block(NamedTuple):
    """Instructions `first` to `last`, by index, that run one after the other.

    `target` is the block that the last one jumps to, `following` the one behind it; each -1 if there is none.
    """

    first: int
    last: int
    target: int
    following: int


class Loop(NamedTuple):
    """Blocks `first` to `last`."""

    first: int
    last: int


class Flow(NamedTuple):
    """`loops` are by their first block; `entry` is the block where the function starts.

    `exits` are the blocks that do little more than to leave the function.  Who jumps there can have a copy, so
    such a jump makes no loop.
    """

    blocks: list[Block]
    loops: dict[int, Loop]
    entry: int
    exits: frozenset[int]


def flow_of(code: Code, entry: int, deepest: int) -> Flow:
    """The function that starts at index `entry`, as far as it can be reached; loops nest at most `deepest`."""
    insns, targets = code.insns, code.targets
    leaders = {entry}
    pending = [entry]
    ends: dict[int, int] = {}  # first index of a run of instructions → its last, not cut by leaders yet
    while pending:
        start = index = pending.pop()
        if start in ends:
            continue
        while True:
            insn = insns[index]
            if insn.code == EXIT or is_jump(insn):
                break
            index += 1
            if index in leaders:
                index -= 1
                break
        ends[start] = index
        insn = insns[index]
        if is_jump(insn):
            following = [targets[index]]
            if is_conditional(insn):
                following.append(index + 1)
            for one in following:
                if one not in leaders:
                    leaders.add(one)
                    pending.append(one)
    starts = sorted(leaders)
    number = {start: block for block, start in enumerate(starts)}
    blocks = []
    for block, start in enumerate(starts):
        last = ends[start]
        if block + 1 < len(starts):
            last = min(last, starts[block + 1] - 1)
        insn = insns[last]
        target = number[targets[last]] if is_jump(insn) else -1
        falls = insn.code != EXIT and not (is_jump(insn) and not is_conditional(insn))
        blocks.append(Block(start, last, target, number[last + 1] if falls else -1))
    exits = frozenset([index for index, block in enumerate(blocks) if _is_short_exit(code, block)])
    return Flow(blocks, _loops(blocks, exits, deepest), number[entry], exits)


def _is_short_exit(code: Code, block: Block) -> bool:
    insns = code.insns[block.first : block.last + 1]
    if insns[-1].code != EXIT or len(insns) > LONGEST_COPY:
        return False
    return all(insn.code & 7 in (op.BPF_ALU, op.BPF_ALU64) for insn in insns[:-1])


def _loops(blocks: list[Block], exits: frozenset[int], deepest: int) -> dict[int, Loop]:
    ends: dict[int, int] = {}
    for index, block in enumerate(blocks):
        if 0 <= block.target <= index and block.target not in exits:
            ends[block.target] = max(index, ends.get(block.target, 0))
    done: list[Loop] = []
    open_: list[list[int]] = []  # [first, last], each inside of the one before
    for first in sorted(ends):
        last = ends[first]
        while open_ and open_[-1][1] < first:
            done.append(Loop(*open_.pop()))
        if open_ and (last > open_[-1][1] or len(open_) >= deepest):
            # What overlaps is one loop; and so it may reach out of the loops around, too.
            open_[-1][1] = max(last, open_[-1][1])
            while len(open_) > 1 and open_[-1][1] > open_[-2][1]:
                _, reached = open_.pop()
                open_[-1][1] = max(reached, open_[-1][1])
        else:
            open_.append([first, last])
    done += [Loop(*one) for one in open_]
    return {loop.first: loop for loop in done}


def written(code: Code, block: Block) -> int:
    """The registers that a block may change, as bits."""
    bits = 0
    for index in range(block.first, block.last + 1):
        insn = code.insns[index]
        kind = insn.code & 7
        if kind in (op.BPF_ALU, op.BPF_ALU64, op.BPF_LDX, op.BPF_LD):
            bits |= 1 << insn.dst
        elif insn.code in (CALL, CALLX):
            bits |= 1
        elif kind == op.BPF_STX and insn.code & 0xE0 == op.BPF_ATOMIC:
            bits |= 1 | 1 << insn.dst | 1 << insn.src
    return bits
