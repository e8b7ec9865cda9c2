"""Register allocation: virtual registers to r0–r9, by linear scan.

r6–r9 keep their value across calls, r0–r5 do not (RFC 9669, 2.1 and the kernel's calling convention).  A
value that lives across a call needs one of the four, or a place in the stack frame.  Registers that find no
place are spilled: the code is rewritten so that they live in the frame and every use has a short-lived
register of its own, and allocation starts again; what is cheap to make anew (a constant, an address) is made
anew instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import InternalError
from tracebee.language.ir import (
    FRAME,
    Address,
    Alu,
    Atomic,
    Call,
    Jump,
    Label,
    Load,
    MapHandle,
    MapSpot,
    Move,
    Reg,
    Return,
    Store,
    Transfer,
)
from tracebee.records import Mutable

if TYPE_CHECKING:
    from tracebee.language.ir import Function, Op

SAVED = (6, 7, 8, 9)
SCRATCH = (1, 2, 3, 4, 5, 0)
"""Registers that calls destroy, in the order of preference: r0 is wanted by results."""

MAX_ROUNDS = 100

MAX_FRAME = 512
"""MAX_BPF_STACK: a frame that grows beyond it cannot become a program any more."""


class TooManyValues(Exception):
    """The code needs more values at once than registers and stack can hold; `function` is whose it is."""

    def __init__(self, function: Function) -> None:
        self.function = function
        super().__init__(function.name)


class Interval(Mutable):
    """From where to where a register holds a value: operation i reads at 2i and writes at 2i + 1.

    `crosses_call` says whether a call lies where the value is still needed.  There may be calls in between
    where it is not, such as those that make a value that another path already has; they may well destroy it.
    """

    reg: Reg
    start: int
    end: int
    uses: int = 0
    crosses_call: bool = False
    place: int = -1


def allocate(function: Function) -> dict[Reg, int]:
    """Give every virtual register a machine register; may rewrite the code and grow the frame.

    Raises TooManyValues.
    """
    unspillable: set[Reg] = set()
    for _ in range(MAX_ROUNDS):
        if function.frame_size > MAX_FRAME:
            break
        intervals = live_intervals(function)
        hints = _hints(function)
        places, victim = _scan(intervals, hints, unspillable)
        if victim is None:
            return places
        _spill(function, victim.reg, unspillable)
    raise TooManyValues(function)


# --- liveness


def live_intervals(function: Function) -> list[Interval]:
    """The interval of each register, by start."""
    ops = function.ops
    starts = [0] + [index + 1 for index, op in enumerate(ops) if isinstance(op, Transfer | Return)]
    starts += [index for index, op in enumerate(ops) if type(op) is Label]
    starts = sorted({start for start in starts if start < len(ops)})
    block_of_label: dict[str, int] = {}
    for number, start in enumerate(starts):
        at = start
        while at < len(ops) and type(label := ops[at]) is Label:
            block_of_label[label.name] = number
            at += 1
    ends = [*starts[1:], len(ops)]
    # A block that is only a label inside a run of labels has the run's block as well.
    for number, start in enumerate(starts):
        if type(label := ops[start]) is Label:
            block_of_label[label.name] = number
    successors: list[list[int]] = []
    # Most registers live within a block, so these sets are small however long the program is.
    reads: list[set[int]] = []
    writes: list[set[int]] = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        last = ops[end - 1]
        following: list[int] = []
        if isinstance(last, Transfer):
            following.append(block_of_label[last.label])
        if type(last) not in (Jump, Return) and number + 1 < len(starts):
            following.append(number + 1)
        successors.append(following)
        read: set[int] = set()
        written: set[int] = set()
        for op in ops[start:end]:
            for reg in op.reads():
                if reg.number not in written:
                    read.add(reg.number)
            if op.dst is not None:
                written.add(op.dst.number)
        reads.append(read)
        writes.append(written)
    live_in: list[set[int]] = [set() for _ in starts]
    live_out: list[set[int]] = [set() for _ in starts]
    changed = True
    while changed:
        changed = False
        for number in range(len(starts) - 1, -1, -1):
            out: set[int] = set()
            for following_number in successors[number]:
                out |= live_in[following_number]
            into = reads[number] | (out - writes[number])
            if out != live_out[number] or into != live_in[number]:
                live_out[number], live_in[number] = out, into
                changed = True
    return _intervals(function, starts, ends, live_in, live_out)


def _intervals(
    function: Function,
    starts: list[int],
    ends: list[int],
    live_in: list[set[int]],
    live_out: list[set[int]],
) -> list[Interval]:
    found: dict[int, Interval] = {}
    crossing: set[int] = set()

    def extend(reg: Reg, position: int) -> Interval:
        interval = found.get(reg.number)
        if interval is None:
            interval = found[reg.number] = Interval(reg, position, position)
        else:
            interval.start = min(interval.start, position)
            interval.end = max(interval.end, position)
        return interval

    by_number: dict[int, Reg] = {reg.number: reg for reg in function.parameters}
    for op in function.ops:
        if op.dst is not None:
            by_number[op.dst.number] = op.dst
        for reg in op.reads():
            by_number[reg.number] = reg
    for start, end, into, out in zip(starts, ends, live_in, live_out, strict=True):
        for number in sorted(into):
            extend(by_number[number], 2 * start)
        for number in sorted(out):
            extend(by_number[number], 2 * end - 1)
        live = set(out)
        for index in range(end - 1, start - 1, -1):
            op = function.ops[index]
            if op.dst is not None:
                live.discard(op.dst.number)
            if type(op) is Call:
                crossing |= live
            live.update(reg.number for reg in op.reads())
            late = _late_reads(op)
            for reg in op.reads():
                extend(reg, 2 * index + (reg in late)).uses += 1
            if op.dst is not None:
                extend(op.dst, 2 * index + 1).uses += 1
    for number, parameter in enumerate(function.parameters):
        if parameter.number in found:
            found[parameter.number].start = -len(function.parameters) + number
    for number in crossing:
        found[number].crosses_call = True
    return sorted(found.values(), key=lambda interval: interval.start)


def _late_reads(op: Op) -> list[Reg]:
    """Registers that are read after the result is written: BPF has two-operand instructions.

    ``dst = left - right`` becomes ``dst = left; dst -= right``, so right must survive the first.
    """
    if type(op) is Alu and type(op.right) is Reg and op.right is not op.left:
        return [op.right]
    if type(op) is Atomic and op.dst is not None and type(op.address.base) is Reg:
        return [op.address.base]
    return []


# --- scan


def _hints(function: Function) -> dict[Reg, list[int | Reg]]:
    """Where each register would best go: a machine register, or that of another register."""
    hints: dict[Reg, list[int | Reg]] = {}
    for number, parameter in enumerate(function.parameters):
        hints.setdefault(parameter, []).append(number + 1)
    for op in function.ops:
        if type(op) is Call:
            for number, argument in enumerate(op.arguments):
                if type(argument) is Reg:
                    hints.setdefault(argument, []).append(number + 1)
            if op.dst is not None:
                hints.setdefault(op.dst, []).append(0)
        elif type(op) is Move and type(op.source) is Reg:
            hints.setdefault(op.dst, []).append(op.source)
            hints.setdefault(op.source, []).append(op.dst)
        elif type(op) is Alu and type(op.left) is Reg:
            hints.setdefault(op.dst, []).append(op.left)
            hints.setdefault(op.left, []).append(op.dst)
        elif type(op) is Return and type(op.value) is Reg:
            hints.setdefault(op.value, []).append(0)
    return hints


def _scan(
    intervals: list[Interval], hints: dict[Reg, list[int | Reg]], unspillable: set[Reg]
) -> tuple[dict[Reg, int], Interval | None]:
    """One round: the places, and the interval to spill if there was one place too few."""
    holder: dict[int, Interval] = {}
    places: dict[Reg, int] = {}
    for interval in intervals:
        allowed: tuple[int, ...] = SAVED if interval.crosses_call else SCRATCH + SAVED
        if interval.start < 0:
            # Parameters arrive in r1–r5 and are moved all at once; r0 is what breaks a cycle then.
            allowed = tuple(place for place in allowed if place != 0)
        free = [place for place in allowed if place not in holder or holder[place].end < interval.start]
        if not free:
            # Whoever lives longest and is used least gives way.
            candidates = [interval] if interval.reg not in unspillable else []
            candidates += [
                holder[place] for place in allowed if place in holder and holder[place].reg not in unspillable
            ]
            if not candidates:
                raise InternalError("no register can be spilled")
            return places, max(candidates, key=lambda one: (one.end - one.start + 1) / (one.uses + 1))
        place = free[0]
        for hint in hints.get(interval.reg, ()):
            wanted = places.get(hint, -1) if type(hint) is Reg else hint
            if wanted in free:
                place = wanted
                break
        holder[place] = interval
        places[interval.reg] = place
    return places, None


def _spill(function: Function, victim: Reg, unspillable: set[Reg]) -> None:
    """Rewrite the code so that the register lives in the frame, or is made anew at each use."""
    definitions = [op for op in function.ops if op.dst is victim]
    again = None
    if len(definitions) == 1 and victim not in function.parameters and type(definitions[0]) is Move:
        source = definitions[0].source
        if type(source) in (int, MapHandle, MapSpot) or (type(source) is Address and source.base is FRAME):
            again = source
    if again is None:
        function.frame_size = (function.frame_size + 7) // 8 * 8 + 8
    slot = Address(FRAME, -function.frame_size)
    rewritten: list[Op] = []
    if victim in function.parameters:
        stored = Store(None, slot, victim, 8)
        stored.span = None
        fresh = function.reg(victim.name)
        unspillable.add(fresh)
        stored.value = fresh
        function.parameters = tuple(fresh if reg is victim else reg for reg in function.parameters)
        rewritten.append(stored)
    for op in function.ops:
        if victim in op.reads():
            fresh = function.reg(victim.name)
            unspillable.add(fresh)
            load: Op = Load(fresh, slot, 8) if again is None else Move(fresh, again)
            load.span = op.span
            rewritten.append(load)
            op.substitute(victim, fresh)
        if op.dst is not victim:
            rewritten.append(op)
            continue
        if again is not None:
            continue
        fresh = function.reg(victim.name)
        unspillable.add(fresh)
        op.dst = fresh
        store = Store(None, slot, fresh, 8)
        store.span = op.span
        rewritten += [op, store]
    function.ops = rewritten
