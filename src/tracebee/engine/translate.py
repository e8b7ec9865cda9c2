"""The fast path: every function of a program becomes a Python function, once.

    r2, = U64(R[(a := r6 + 16) >> 32], a & 0xffffffff)          r2 = *(u64 *)(r6 +16)
    if r2 <= 5:                                                 if r2 > 5 goto …
        s8[63] = r2                                             *(u64 *)(r10 -8) = r2

Registers are local variables that hold 0 to 2**64 - 1.  Memory is reached through the dicts of
`tracebee.engine.memory`, whose KeyError, like the struct.error or IndexError of what they give, is the check of
the bounds; no offset is ever negative, which Python would count from the end.  From the line where such an
exception was raised follows the instruction, and from the variables there the address (`found_in`).

Jumps become `if` and `else` where they are shaped like these.  Other jumps forward set `pc` to the number of
their block, and blocks that may have been jumped over ask for it.  A loop is a Python loop over an iterator
that all functions of a run share and that ends when the budget is spent, which is the cheapest way to count.
Nesting is limited, as CPython's compiler limits it; jumps beyond the limit take the way with `pc`.

While the source is written, one walk in program order keeps what is known of registers: constants, upper
bounds, addresses on the stack, in the context or in a map's only value.  So masks that change nothing are left
out, and memory whose place is known is reached without the dicts.
"""

from __future__ import annotations

import struct
import sys
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tracebee.engine.check import CALLX, EXIT, is_conditional, is_jump
from tracebee.engine.faults import BudgetSpent, ProgramFault, Stop, TailCall
from tracebee.engine.flow import Block, Flow, flow_of, written
from tracebee.engine.memory import MASK32
from tracebee.engine.runtime import MASK64, MAX_DEPTH, MAY_GOTO_ROUNDS, STACK_BYTES, UNIT
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, LDDW, PSEUDO_JUMP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Literal

    from tracebee.engine.flow import Loop
    from tracebee.engine.memory import Memory
    from tracebee.engine.runtime import Function, Linked, Runtime
    from tracebee.insn import Insn

FILE = "<program translated by tracebee>"

LONGEST = 16_384
"""Instructions of a program that is translated; longer ones, which would take seconds, are interpreted."""

DEEPEST_LOOP = 8
DEEPEST_INDENT = 50
"""Limits of nesting: CPython 3.11 has 20 for loops, 100 for indentation."""

SCAN_LIMIT = 200_000
"""Blocks that are looked at, all in all, to find the shape of jumps: a hostile program may ask for many more."""

CALLS_BACK = frozenset((12, 164, 169, 170, 171, 180, 181, 209))
"""Helper functions that run other functions of the program, or leave it: their depth counts."""

TAIL_CALL = 12
MAP_LOOKUP = 1

SIGN64, SIGN32 = 1 << 63, 1 << 31

_SIZES = {op.BPF_B: 1, op.BPF_H: 2, op.BPF_W: 4, op.BPF_DW: 8}
_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_CASTS: dict[int, Literal["H", "I", "Q"]] = {2: "H", 4: "I", 8: "Q"}
_WIDEST = {size: (1 << size * 8) - 1 for size in (1, 2, 4, 8)}
_BINARY = {
    op.BPF_ADD: "+",
    op.BPF_SUB: "-",
    op.BPF_MUL: "*",
    op.BPF_OR: "|",
    op.BPF_AND: "&",
    op.BPF_XOR: "^",
}
_UNSIGNED = {
    op.BPF_JEQ: ("==", "!="),
    op.BPF_JNE: ("!=", "=="),
    op.BPF_JGT: (">", "<="),
    op.BPF_JGE: (">=", "<"),
    op.BPF_JLT: ("<", ">="),
    op.BPF_JLE: ("<=", ">"),
    op.BPF_JSGT: (">", "<="),
    op.BPF_JSGE: (">=", "<"),
    op.BPF_JSLT: ("<", ">="),
    op.BPF_JSLE: ("<=", ">"),
}
_SIGNED = (op.BPF_JSGT, op.BPF_JSGE, op.BPF_JSLT, op.BPF_JSLE)


class Fact(NamedTuple):
    """What is known of a register: its `most`, and where it points.

    `base` is "" for a number, "fp" for the end of the stack, "ctx" for the start of the context, and the name
    of a buffer for the start of a map's only value; then `offset` is the distance from there.  A constant has
    `base` "const" and its value as `offset`.
    """

    most: int
    base: str = ""
    offset: int = 0


UNKNOWN = Fact(MASK64)
WORD = Fact(MASK32)


def constant(value: int) -> Fact:
    return Fact(value, "const", value)


def _joined(a: Fact, b: Fact) -> Fact:
    """What holds whether the one or the other does."""
    if a == b:
        return a
    return Fact(max(a.most, b.most))


def translated(linked: Linked, runtime: Runtime) -> dict[int, Function]:
    """The functions of a program by the index of their first instruction."""
    if len(linked.code.insns) > LONGEST:
        return _interpreted(linked, runtime)
    writer = _Writer(linked, runtime)
    for entry in linked.code.functions:
        writer.function(entry)
        if len(writer.lines) > 4 * LONGEST:
            # Functions may share code, which would be written once for each of them.
            return _interpreted(linked, runtime)
    try:
        compiled = compile("\n".join(writer.lines), FILE, "exec", dont_inherit=True)
    except (SyntaxError, RecursionError, MemoryError):
        # CPython's compiler has limits that depend on its version; nothing is lost but speed.
        return _interpreted(linked, runtime)
    names: dict[str, object] = {"__builtins__": {}, **writer.names}
    exec(compiled, names)
    functions: dict[int, Function] = {}
    for entry in linked.code.functions:
        function = names[f"f{entry}"]
        assert callable(function)
        functions[entry] = function
    return functions


def source(linked: Linked, runtime: Runtime) -> str:
    """The Python source of a program, to be looked at."""
    writer = _Writer(linked, runtime)
    for entry in linked.code.functions:
        writer.function(entry)
    return "\n".join(writer.lines) + "\n"


def _interpreted(linked: Linked, runtime: Runtime) -> dict[int, Function]:
    from tracebee.engine.interpreter import interpreted

    return interpreted(linked, runtime)


# --- what runs beside the translated code


def _drop(units: Iterator[None], count: int) -> None:
    """Take so many units from the budget; the loop that asks next for one sees if it is spent."""
    next(islice(units, count, count), None)


def _divide_signed(a: int, b: int, bits: int) -> int:
    sign = 1 << bits - 1
    a, b = (a ^ sign) - sign, (b ^ sign) - sign
    if b == 0:
        return 0
    quotient = abs(a) // abs(b)
    return (quotient if (a < 0) == (b < 0) else -quotient) & (sign << 1) - 1


def _modulo_signed(a: int, b: int, bits: int) -> int:
    sign = 1 << bits - 1
    a, b = (a ^ sign) - sign, (b ^ sign) - sign
    rest = abs(a) % abs(b) if b else abs(a)
    return (-rest if a < 0 else rest) & (sign << 1) - 1


def _swap(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")


# --- from an exception back to the instruction


def found_in(error: Exception, memory: Memory) -> Exception:
    """The Stop, with its place, that an exception out of translated code stands for."""
    frame, is_last = _innermost(error.__traceback__)
    if frame is None:
        return error
    # What _Writer has left there: the program, and the index of the instruction that each line is of.
    linked: Linked = frame.tb_frame.f_globals["linked"]
    index = frame.tb_frame.f_globals["origins"][frame.tb_lineno - 1]
    if isinstance(error, Stop):
        if error.place is None:
            error.place = linked, index
        return error
    insn = linked.code.insns[index]
    if not (is_last and isinstance(error, KeyError | IndexError | struct.error)):
        return error
    if insn.code & 7 not in (op.BPF_LDX, op.BPF_ST, op.BPF_STX):
        return error
    is_atomic = insn.code & 0xE7 == op.BPF_STX | op.BPF_ATOMIC
    is_load = insn.code & 7 == op.BPF_LDX or (is_atomic and insn.imm == op.BPF_LOAD_ACQ)
    base = insn.src if is_load else insn.dst
    local = frame.tb_frame.f_locals
    address = local["fp" if base == op.R10 else f"r{base}"] + insn.off & MASK64
    stop = memory.fault("read" if is_load else "write", address, _SIZES[insn.code & 0x18])
    stop.place = linked, index
    return stop


def _innermost(traceback: TracebackType | None) -> tuple[TracebackType | None, bool]:
    """The innermost frame of translated code, and whether no other function was called from there."""
    found, is_last = None, False
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == FILE:
            found, is_last = traceback, traceback.tb_next is None
        traceback = traceback.tb_next
    return found, is_last


# --- writing


class _Writer:
    """The source of a program in the making."""

    def __init__(self, linked: Linked, runtime: Runtime) -> None:
        self.linked = linked
        self.code = linked.code
        self.runtime = runtime
        self.lines: list[str] = []
        self.origins: list[int] = []
        targets = linked.code.targets
        self.called = {
            targets[at]
            for at, insn in enumerate(linked.code.insns)
            if insn.code in (CALL, LDDW) and at in targets
        }
        self.native_order = sys.byteorder == "little"
        memory = runtime.memory
        self.names: dict[str, object] = {
            "linked": linked,
            "origins": self.origins,
            "R": memory.readable,
            "W": memory.writable,
            "rt": runtime,
            "FP": runtime.frames,
            "S1": runtime.stacks,
            "EMPTY": bytes(STACK_BYTES),
            "TailCall": TailCall,
            "drop": _drop,
            "spent": lambda: BudgetSpent(runtime.budget),
            "deep": lambda: ProgramFault(f"more than {MAX_DEPTH} functions call each other"),
            "sdiv": _divide_signed,
            "smod": _modulo_signed,
            "swap": _swap,
        }
        for size, letter in _FORMATS.items():
            self.names[f"U{size}"] = struct.Struct(f"<{letter}").unpack_from
            self.names[f"I{size}"] = struct.Struct(f"<{letter.lower()}").unpack_from
            self.names[f"P{size}"] = struct.Struct(f"<{letter}").pack_into
            if size > 1 and self.native_order:
                self.names[f"S{size}"] = [memoryview(data).cast(_CASTS[size]) for data in runtime.stacks]
        for number, helper in linked.helpers.items():
            self.names[f"h{number}"] = helper
        self.buffers: dict[int, str] = {}
        self.scans = SCAN_LIMIT

    def function(self, entry: int) -> None:
        """Write the function that starts at index `entry`."""
        _Function(self, entry).write()


class _Function:
    """A function in the making.

    `states` are the facts at the start of blocks, as far as jumps there have been written.
    """

    def __init__(self, writer: _Writer, entry: int) -> None:
        self.writer = writer
        self.code = writer.code
        self.linked = writer.linked
        self.entry = entry
        self.flow: Flow = flow_of(writer.code, entry, DEEPEST_LOOP)
        self.blocks = self.flow.blocks
        self.body: list[tuple[int, str, int]] = []  # indent, text, index of the instruction
        self.index = entry
        self.last = entry
        self.indent = 1
        self.loop: Loop | None = None
        self.facts: list[Fact] = []
        self.states: dict[int, list[Fact]] = {}
        self.uses: set[str] = set()
        self.exits = self.flow.exits
        self.preceding = self._jumps_to()
        self.loop_of = self._loops_around()
        self.outside = self._loops_outside()
        self.rounds_of = self._rounds()
        self.irregular = self._irregular_loops()
        self.regions: dict[tuple[int, bool], tuple[str, int]] = {}
        self.writes: dict[Loop, int] = {}
        self.back_to: dict[int, set[Loop]] = {}
        for number, loop in enumerate(self.rounds_of):
            if loop is not None:
                self.back_to.setdefault(self.blocks[number].target, set()).add(loop)

    # --- the shape

    def _jumps_to(self) -> list[tuple[int, int]]:
        """By block, the first and the last of the blocks that jump or fall into it."""
        found = [(len(self.blocks), -1)] * len(self.blocks)
        found[self.flow.entry] = (-1, -1)  # whoever calls the function
        for number, block in enumerate(self.blocks):
            for goal in (block.target, block.following):
                if goal >= 0 and not (goal == block.target and self._is_copied(number, goal)):
                    low, high = found[goal]
                    found[goal] = min(low, number), max(high, number)
        return found

    def _is_copied(self, number: int, goal: int) -> bool:
        """Whether the jump of block `number` to `goal` is written as a copy of what is there."""
        return goal in self.exits and goal != number + 1

    def _loops_around(self) -> list[Loop | None]:
        """By block, the innermost loop that it is in."""
        around: list[Loop | None] = [None] * len(self.blocks)
        for loop in sorted(self.flow.loops.values(), key=lambda one: (one.first, -one.last)):
            around[loop.first : loop.last + 1] = [loop] * (loop.last + 1 - loop.first)
        return around

    def _loops_outside(self) -> dict[Loop, Loop | None]:
        """By loop, the next one around it."""
        outside: dict[Loop, Loop | None] = {}
        around: list[Loop] = []
        for loop in sorted(self.flow.loops.values(), key=lambda one: (one.first, -one.last)):
            while around and around[-1].last < loop.first:
                around.pop()
            outside[loop] = around[-1] if around else None
            around.append(loop)
        return outside

    def _rounds(self) -> list[Loop | None]:
        """By block that jumps backwards, the loop whose next round that is: the smallest with both its ends."""
        found: list[Loop | None] = [None] * len(self.blocks)
        for number, block in enumerate(self.blocks):
            if 0 <= block.target <= number and not self._is_copied(number, block.target):
                own = self.loop_of[number]
                while own is not None and own.first > block.target:
                    own = self.outside[own]
                found[number] = own
        return found

    def _irregular_loops(self) -> set[Loop]:
        """The loops that can be entered elsewhere than at their first block."""
        found: set[Loop] = set()
        edges = [
            (number, goal)
            for number, block in enumerate(self.blocks)
            for goal in (block.target, block.following)
            if goal >= 0
        ]
        for source, goal in [(-1, self.flow.entry), *edges]:
            loop = self.loop_of[goal]
            while loop is not None and not loop.first <= source <= loop.last:
                if goal != loop.first:
                    found.add(loop)
                loop = self.outside[loop]
        return found

    def _encloses(self, first: int, last: int, source: int) -> bool:
        """Whether blocks `first` to `last` are entered at the first only, and there only from `source`."""
        if not 0 <= first <= last:
            return False
        self.writer.scans -= last - source
        if self.writer.scans < 0 or last - source > 2000:
            return False
        for number in range(source + 1, first):
            if first in (self.blocks[number].target, self.blocks[number].following):
                return False
        for number in range(first, last + 1):
            low, high = self.preceding[number]
            if high > last or low < (first if number > first else source):
                return False
            loop = self.flow.loops.get(number)
            if loop is not None and loop.last > last:
                return False
            # A jump backwards must not lead out, to a round that would come in again elsewhere.
            loop = self.rounds_of[number]
            if loop is not None and loop.first < first <= self.blocks[number].target:
                return False
        return True

    # --- writing

    def line(self, text: str) -> None:
        self.body.append((self.indent, text, self.index))

    def use(self, name: str) -> str:
        self.uses.add(name)
        return name

    def write(self) -> None:
        """Write the whole function."""
        writer = self.writer
        is_program = self.entry == 0 and 0 not in writer.called
        facts = [UNKNOWN] * 11
        for register in (0, 6, 7, 8, 9):
            facts[register] = constant(0)
        if is_program:
            facts[1] = Fact(MASK64, "ctx", 0)
        facts[op.R10] = Fact(MASK64, "fp", 0)
        tail = any(
            insn.code == CALLX or (insn.code == CALL and insn.src == 0 and insn.imm == TAIL_CALL)
            for block in self.blocks
            for insn in self.code.insns[block.first : block.last + 1]
        )
        self.indent = 2 if tail else 1
        self.states[self.flow.entry] = facts
        entered = self.flow.entry
        reached = self._sequence(0, len(self.blocks) - 1, entered)
        assert reached < len(self.blocks), "a function ends with an exit or a jump"
        self._finish(tail, is_program)

    def _finish(self, tail: bool, is_program: bool) -> None:
        """Put the parts of the function together."""
        asks = any("pc <" in text for _, text, _ in self.body)
        head: list[str] = []
        registers = sorted({f"r{r}" for r in self._registers() if r in (0, 6, 7, 8, 9)})
        if registers:
            head.append(f"{' = '.join(registers)} = 0")
        if not is_program and self.entry in self.writer.called:
            length = sum(block.last - block.first + 1 for block in self.blocks)
            head.append(f"drop(rt.units, {length // UNIT + 1})")
            # The last unit is for whoever asks last.
            head.append("for _ in rt.units: break")
            head.append("else: raise spent()")
        if "units" in self.uses:
            head.append("units = rt.units")
        if "ctx" in self.uses:
            head.append("ctx = R[r1 >> 32]")
        if "rounds" in self.uses:
            head.append(f"rounds = {MAY_GOTO_ROUNDS}")
        if asks:
            head.append(f"pc = {self.flow.entry}")
        stack = [name for name in ("s1", "s2", "s4", "s8") if name in self.uses]
        if "fp" in self.uses or stack:
            head.append("s1 = S1[d]")
            head.append("s1[:] = EMPTY")
            head += [f"{name} = {name.upper()}[d]" for name in stack if name != "s1"]
        if "fp" in self.uses:
            head.append("fp = FP[d]")
        lines, origins = self.writer.lines, self.writer.origins

        def put(indent: int, text: str, index: int) -> None:
            lines.append(" " * indent + text)
            origins.append(index)

        put(0, f"def f{self.entry}(r1, r2, r3, r4, r5, d):", self.entry)
        for text in head:
            put(1, text, self.entry)
        if tail:
            put(1, "try:", self.entry)
        for indent, text, index in self.body:
            if asks or not text.startswith("pc = "):
                put(indent, text, index)
            else:
                put(indent, "pass", index)
        if tail:
            put(1, "except TailCall as tail: left = tail", self.entry)
            put(1, "return rt.enter(left, d)", self.entry)

    def _registers(self) -> set[int]:
        found = {0}
        for block in self.blocks:
            for insn in self.code.insns[block.first : block.last + 1]:
                found |= {insn.dst, insn.src}
        return found

    def _sequence(self, first: int, last: int, most: int) -> int:
        """Write blocks `first` to `last`, one after the other; `most` is the last block that `pc` may name.

        Gives the last block that `pc` may name behind them.
        """
        number = first
        while number <= last:
            loop = self.flow.loops.get(number)
            if loop is not None and loop is not self.loop:
                number, most = self._written_loop(loop, most)
            elif self.preceding[number][1] < 0 and number != self.flow.entry:
                number += 1  # all that jump here have a copy
            else:
                number, most = self._written_block(number, last, most)
        return most

    def _written_loop(self, loop: Loop, most: int) -> tuple[int, int]:
        guarded = most > loop.last
        if guarded:
            self.line(f"if pc <= {loop.last}:")
            self.indent += 1
        outside = self.loop
        self.use("units")
        self.line("for _ in units:")
        self.indent += 1
        self.loop = loop
        length = self.blocks[loop.last].last - self.blocks[loop.first].first + 1
        if length >= 2 * UNIT:
            self.line(f"drop(units, {length // UNIT})")
        # The next round may start at any block that is jumped back to.
        numbers = range(loop.first, loop.last + 1)
        inside = max(
            [self.blocks[one].target for one in numbers if self.rounds_of[one] == loop], default=loop.first
        )
        reached = self._sequence(loop.first, loop.last, max(min(most, loop.last), inside))
        backwards = [
            goal
            for one in numbers
            if 0 <= (goal := self.blocks[one].target) < loop.first and self.rounds_of[one] is not None
        ]
        if backwards:
            self.line(f"if pc <= {loop.last}: pc = {loop.last + 1}")
        self.line("break")
        self.indent -= 1
        self.line("else: raise spent()")
        self.loop = outside
        if backwards:
            # Not below a guard of its own: whoever has jumped out of the loop is here.
            here = outside.first if outside is not None else 0
            if min(backwards) < here:
                self.line(f"if pc < {here}: break")
            self.line(f"if pc < {loop.first}: continue")
        if guarded:
            self.indent -= 1
        return loop.last + 1, max(most, reached)

    def _written_block(self, number: int, last: int, most: int) -> tuple[int, int]:
        """Write a block, and what belongs to its jump; the next block, and what `pc` may name there."""
        block = self.blocks[number]
        guarded = most > number
        if guarded:
            self.index = block.first
            self.line(f"if pc <= {number}:")
            self.indent += 1
        before = len(self.body)
        self._start(number)
        self.last = block.last
        for index in range(block.first, block.last):
            self.index = index
            self._instruction(self.code.insns[index])
        self.index = block.last
        following, reached = self._end(number, last)
        if guarded:
            if len(self.body) == before:
                self.line("pass")
            self.indent -= 1
        return following, max(most, reached)

    def _start(self, number: int) -> None:
        """Set the facts to what holds at the start of a block."""
        facts = self.states.pop(number, None)
        if facts is None:
            facts = [UNKNOWN] * 11
            facts[op.R10] = Fact(MASK64, "fp", 0)
        for loop in self.back_to.get(number, ()):
            if loop in self.irregular:
                facts = [UNKNOWN] * 10 + facts[10:]
            # Its rounds come here with what they have written.
            facts = [
                UNKNOWN if self._written_in(loop) >> register & 1 else fact
                for register, fact in enumerate(facts)
            ]
        self.facts = facts
        self.regions.clear()

    def _written_in(self, loop: Loop) -> int:
        """The registers that a loop may change, as bits."""
        bits = self.writes.get(loop)
        if bits is None:
            bits = 0
            for number in range(loop.first, loop.last + 1):
                bits |= written(self.code, self.blocks[number])
            self.writes[loop] = bits
        return bits

    def _pass_on(self, goal: int) -> None:
        """A jump, or the end of a block, leads to block `goal` with the facts of now."""
        known = self.states.get(goal)
        if known is None:
            self.states[goal] = list(self.facts)
        else:
            self.states[goal] = [_joined(a, b) for a, b in zip(known, self.facts, strict=True)]

    def _end(self, number: int, last: int) -> tuple[int, int]:
        """Write the last instruction of a block."""
        block = self.blocks[number]
        insn = self.code.insns[block.last]
        if insn.code == EXIT:
            self.line(f"return {self._value(0)}")
            return number + 1, -1
        if not is_jump(insn):
            self._instruction(insn)
            self._pass_on(block.following)
            return number + 1, -1
        if not is_conditional(insn):
            return number + 1, self._leave(number, block.target)
        return self._condition(number, last, insn)

    def _leave(self, number: int, goal: int, inline: bool = False) -> int:
        """Write a jump without a condition, or what is done when one holds; what `pc` may name then."""
        loop = self.loop
        if self._is_copied(number, goal):
            kept, index = list(self.facts), self.index
            block = self.blocks[goal]
            for at in range(block.first, block.last):
                self.index = at
                self._instruction(self.code.insns[at])
            self.index = block.last
            self.line(f"return {self._value(0)}")
            self.facts, self.index = kept, index
            return -1
        self._pass_on(goal)
        if goal == number + 1 and (loop is None or goal <= loop.last) and not inline:
            return -1
        self.line(f"pc = {goal}")
        if loop is not None:
            if goal > loop.last:
                self.line("break")
            elif goal <= number:
                self.line("continue" if goal >= loop.first else "break")
                return -1
        return goal

    def _condition(self, number: int, last: int, insn: Insn) -> tuple[int, int]:
        """Write a conditional jump."""
        block, loop = self.blocks[number], self.loop
        goal = block.target
        if insn.code == PSEUDO_JUMP:
            self.use("rounds")
            holds, fails = "rounds == 0", "rounds"
        else:
            holds, fails = self._comparison(insn)
        taken, kept = self._refined(insn, True), self._refined(insn, False)
        step = "rounds -= 1" if insn.code == PSEUDO_JUMP else ""
        forward = number < goal <= last + 1 and (loop is None or goal <= loop.last + 1)
        if self._is_copied(number, goal):
            forward = False
        if forward and goal == number + 1:
            self.facts = taken
            self._pass_on(goal)
            self.facts = kept
            self._pass_on(goal)
            if step:
                self.line(f"if {fails}: {step}")
            return number + 1, -1
        # The limit is for what is nested in the region too.
        if forward and self.indent < DEEPEST_INDENT and self._encloses(number + 1, goal - 1, number):
            return self._branches(number, last, goal, fails, step, taken, kept)
        self.line(f"if {holds}:")
        self.indent += 1
        self.facts = taken
        reached = self._leave(number, goal, inline=True)
        self.indent -= 1
        self.facts = kept
        if step:
            self.line(step)
        self._pass_on(block.following)
        return number + 1, reached

    def _branches(
        self, number: int, last: int, goal: int, fails: str, step: str, taken: list[Fact], kept: list[Fact]
    ) -> tuple[int, int]:
        """Write ``if`` and, where it is one, ``else``."""
        self.facts = taken
        self._pass_on(goal)
        self.facts = kept
        self._pass_on(number + 1)
        end = self.blocks[goal - 1]
        limit = last + 1 if self.loop is None else min(last, self.loop.last) + 1
        other = end.target if end.following < 0 and end.target > goal else -1
        has_else = (
            goal < other <= limit and other not in self.exits and self._encloses(goal, other - 1, number)
        )
        self.line(f"if {fails}:")
        self.indent += 1
        if step:
            self.line(step)
        before = len(self.body)
        reached = self._sequence(number + 1, goal - 1, number + 1)
        if len(self.body) == before and not step:
            self.line("pass")
        self.indent -= 1
        if not has_else:
            return goal, reached
        self.index = self.blocks[goal].first
        self.line("else:")
        self.indent += 1
        before = len(self.body)
        reached = max(reached, self._sequence(goal, other - 1, goal))
        if len(self.body) == before:
            self.line("pass")
        self.indent -= 1
        return other, reached

    # --- conditions

    def _comparison(self, insn: Insn) -> tuple[str, str]:
        """The condition of a jump as Python, and the opposite."""
        code = insn.code
        narrow = code & 7 == op.BPF_JMP32
        operation, mask = code & 0xF0, MASK32 if narrow else MASK64
        left = self._operand(insn.dst, narrow)
        number: int | None = None
        if code & op.BPF_X:
            fact = self.facts[insn.src]
            if fact.base == "const":
                number = fact.offset & mask
            right = self._operand(insn.src, narrow)
        else:
            number = insn.imm & mask
            right = str(number)
        if operation == op.BPF_JSET:
            return f"{left} & {right}", f"not {left} & {right}"
        positive, negative = _UNSIGNED[operation]
        if operation in _SIGNED:
            sign = SIGN32 if narrow else SIGN64
            if number is not None:
                return _signed_comparison(operation, left, number, sign)
            low = min(self.facts[insn.dst].most, mask) < sign and min(self.facts[insn.src].most, mask) < sign
            if not low:
                left, right = f"({left} ^ {sign})", f"({right} ^ {sign})"
        return f"{left} {positive} {right}", f"{left} {negative} {right}"

    def _refined(self, insn: Insn, holds: bool) -> list[Fact]:
        """The facts where the condition of a jump holds, or does not."""
        facts = list(self.facts)
        code, dst = insn.code, insn.dst
        if code & op.BPF_X or code & 7 != op.BPF_JMP or facts[dst].base:
            return facts
        operation, limit = code & 0xF0, insn.imm & MASK64
        most = facts[dst].most
        if operation == (op.BPF_JEQ if holds else op.BPF_JNE):
            facts[dst] = constant(limit)
        elif operation == (op.BPF_JLT if holds else op.BPF_JGE):
            facts[dst] = Fact(max(0, min(most, limit - 1)))
        elif operation == (op.BPF_JLE if holds else op.BPF_JGT):
            facts[dst] = Fact(min(most, limit))
        return facts

    def _value(self, register: int) -> str:
        """A register as Python."""
        if register == op.R10:
            return self.use("fp")
        fact = self.facts[register]
        return str(fact.offset) if fact.base == "const" else f"r{register}"

    def _operand(self, register: int, narrow: bool) -> str:
        """A register, or its lower half."""
        fact = self.facts[register]
        if fact.base == "const":
            return str(fact.offset & MASK32 if narrow else fact.offset)
        text = self._value(register)
        return f"({text} & {MASK32})" if narrow and fact.most > MASK32 else text

    # --- instructions

    def _instruction(self, insn: Insn) -> None:
        kind = insn.code & 7
        if kind in (op.BPF_ALU, op.BPF_ALU64):
            self._arithmetic(insn)
        elif insn.code == LDDW:
            self._wide(insn)
        elif kind == op.BPF_LDX:
            self._load(insn, insn.src, signed=insn.code & 0xE0 == op.BPF_MEMSX)
        elif insn.code in (CALL, CALLX):
            self._call(insn)
        elif insn.code & 0xE0 == op.BPF_ATOMIC:
            self._atomic(insn)
        else:
            self._store(insn)

    def _set(self, register: int, text: str, fact: Fact = UNKNOWN) -> None:
        """``register = text``."""
        self.line(f"r{register} = {fact.offset if fact.base == 'const' else text}")
        self._changed(register, fact)

    def _changed(self, register: int, fact: Fact) -> None:
        self.facts[register] = fact
        self.regions.pop((register, False), None)
        self.regions.pop((register, True), None)

    def _wide(self, insn: Insn) -> None:
        value = self.linked.values[self.index]
        fact = constant(value)
        if self.index in self.linked.pinned:
            data = self.writer.runtime.memory.readable[value >> 32]
            name = self.writer.buffers.get(value >> 32)
            if name is None:
                name = self.writer.buffers[value >> 32] = f"g{len(self.writer.buffers)}"
                self.writer.names[name] = data
            self.line(f"r{insn.dst} = {value}")
            self._changed(insn.dst, Fact(MASK64, name, value & MASK32))
            return
        self._set(insn.dst, str(value), fact)

    def _arithmetic(self, insn: Insn) -> None:
        code, dst, src, off, imm, _ = insn
        operation, narrow = code & 0xF0, code & 7 == op.BPF_ALU
        bits, mask = (32, MASK32) if narrow else (64, MASK64)
        if operation == op.BPF_END:
            self._swap(insn)
            return
        if operation == op.BPF_NEG:
            self._set(dst, f"-r{dst} & {mask}", WORD if narrow else UNKNOWN)
            return
        by_register = bool(code & op.BPF_X)
        other = self.facts[src] if by_register else constant(imm & mask)
        if narrow:
            other = _halved(other)
        if operation == op.BPF_MOV:
            self._move(insn, other, bits, mask)
            return
        right = self._operand(src, narrow) if by_register else str(imm & mask)
        own = self.facts[dst]
        is_address = not narrow and own.base not in ("", "const")
        if is_address and other.base == "const" and operation in (op.BPF_ADD, op.BPF_SUB):
            self._displace(dst, own, other.offset, operation)
            return
        if narrow:
            own = _halved(own)
        left = self._operand(dst, narrow)
        if operation in _BINARY:
            self._binary(dst, operation, left, right, own, other, mask)
        elif operation in (op.BPF_DIV, op.BPF_MOD):
            self._divide(dst, operation, left, right, own, other, bits, bool(off))
        else:
            self._shift(dst, operation, left, right, own, other, bits)

    def _move(self, insn: Insn, other: Fact, bits: int, mask: int) -> None:
        dst, src, off = insn.dst, insn.src, insn.off
        if not insn.code & op.BPF_X:
            self._set(dst, str(insn.imm & mask), other)
        elif off:
            sign = 1 << off - 1
            low = (sign << 1) - 1
            if other.most < sign:
                self._set(dst, self._operand(src, bits == 32), Fact(other.most))
                return
            value = f"({self._value(src)} & {low} ^ {sign}) - {sign} & {mask}"
            self._set(dst, value, WORD if bits == 32 else UNKNOWN)
        else:
            self._set(dst, self._operand(src, bits == 32), other)

    def _displace(self, dst: int, own: Fact, distance: int, operation: int) -> None:
        """An address whose place is known, moved by a constant."""
        if distance > SIGN64:
            distance -= 1 << 64
        if operation == op.BPF_SUB:
            distance = -distance
        offset = own.offset + distance
        if not -(1 << 31) < offset < 1 << 31:
            self._set(dst, f"r{dst} + {distance} & {MASK64}")
            return
        if own.base == "fp":
            # Far from both ends of 64 bits, where nothing has to be masked.
            self.line(f"r{dst} = {self.use('fp')} {'-' if offset < 0 else '+'} {abs(offset)}")
        else:
            self.line(f"r{dst} = r{dst} {'-' if distance < 0 else '+'} {abs(distance)}")
        self._changed(dst, Fact(MASK64, own.base, offset))

    def _binary(
        self, dst: int, operation: int, left: str, right: str, own: Fact, other: Fact, mask: int
    ) -> None:
        """Addition, multiplication and what goes bit by bit."""
        if own.base == other.base == "const":
            value = _FOLD[operation](own.offset, other.offset) & mask
            self._set(dst, "", constant(value))
            return
        text = f"{left} {_BINARY[operation]} {right}"
        if operation == op.BPF_AND:
            self._set(dst, text, Fact(min(own.most, other.most)))
            return
        if operation in (op.BPF_OR, op.BPF_XOR):
            self._set(dst, text, Fact((1 << max(own.most, other.most).bit_length()) - 1))
            return
        if operation == op.BPF_SUB:
            self._set(dst, f"{text} & {mask}", Fact(mask))
            return
        most = own.most + other.most if operation == op.BPF_ADD else own.most * other.most
        if most <= mask:
            self._set(dst, text, Fact(most))
        elif operation == op.BPF_ADD and other.base == "const" and other.offset > mask >> 1:
            self._set(dst, f"{left} - {mask + 1 - other.offset} & {mask}", Fact(mask))
        else:
            self._set(dst, f"{text} & {mask}", Fact(mask))

    def _divide(
        self, dst: int, operation: int, left: str, right: str, own: Fact, other: Fact, bits: int, signed: bool
    ) -> None:
        if signed:
            name = "sdiv" if operation == op.BPF_DIV else "smod"
            self._set(dst, f"{name}({left}, {right}, {bits})", Fact((1 << bits) - 1))
            return
        sign = "//" if operation == op.BPF_DIV else "%"
        if other.base == "const" and other.offset:
            most = own.most // other.offset if operation == op.BPF_DIV else min(own.most, other.offset - 1)
            self._set(dst, f"{left} {sign} {right}", Fact(most))
            return
        zero = "0" if operation == op.BPF_DIV else left
        self._set(dst, f"{left} {sign} {right} if {right} else {zero}", Fact(own.most))

    def _shift(
        self, dst: int, operation: int, left: str, right: str, own: Fact, other: Fact, bits: int
    ) -> None:
        mask = (1 << bits) - 1
        count: int | None = None
        if other.base == "const":
            count = other.offset & bits - 1
            right = str(count)
        elif other.most >= bits:
            right = f"({right} & {bits - 1})"
        if operation == op.BPF_LSH:
            if count is not None and own.most << count <= mask:
                self._set(dst, f"{left} << {right}", Fact(own.most << count))
            else:
                self._set(dst, f"{left} << {right} & {mask}", Fact(mask))
        elif operation == op.BPF_RSH or own.most <= mask >> 1:
            self._set(dst, f"{left} >> {right}", Fact(own.most >> (count or 0)))
        else:
            sign = 1 << bits - 1
            self._set(dst, f"({left} ^ {sign}) - {sign} >> {right} & {mask}", Fact(mask))

    def _swap(self, insn: Insn) -> None:
        """BPF_END: the lowest bits in another byte order."""
        dst, bits = insn.dst, insn.imm
        mask = (1 << bits) - 1
        low = f"r{dst}" if self.facts[dst].most <= mask else f"r{dst} & {mask}"
        if insn.code == op.BPF_ALU | op.BPF_END | op.BPF_TO_LE:
            if low != f"r{dst}":
                self._set(dst, low, Fact(mask))
        elif bits == 16:
            self._set(dst, f"(r{dst} & 255) << 8 | r{dst} >> 8 & 255", Fact(mask))
        else:
            self._set(dst, f"swap({low}, {bits // 8})", Fact(mask))

    # --- memory

    def _load(self, insn: Insn, base: int, signed: bool = False) -> None:
        size, dst = _SIZES[insn.code & 0x18], insn.dst
        fact = UNKNOWN if signed else Fact(_WIDEST[size])
        text = self._known_load(self.facts[base], insn.off, size, signed)
        if text is None:
            region, offset = self._place(base, insn.off, False, size)
            text = _loaded(region, offset, size, signed)
        if signed:
            text += f" & {MASK64}"
        self._set(dst, text, fact)

    def _known_load(self, fact: Fact, off: int, size: int, signed: bool) -> str | None:
        """A load from a place that is known; None if it is not."""
        place = self._known_place(fact, off, size)
        if place is None:
            return None
        name, offset = place
        view = self._stack_view(name, offset, size)
        if view is not None and not signed:
            return f"{view}[{offset // size}]"
        return _loaded(name, str(offset), size, signed)

    def _known_place(self, fact: Fact, off: int, size: int) -> tuple[str, int] | None:
        """The buffer that is accessed, and where in it; None if that is not known, or may be outside."""
        offset = fact.offset + off
        if fact.base in ("", "const"):
            return None
        if fact.base == "fp":
            offset += STACK_BYTES
            if not 0 <= offset <= STACK_BYTES - size:
                self.use("fp")
                return None
            return self.use("s1"), offset
        if offset < 0:
            return None
        return self.use(fact.base), offset

    def _stack_view(self, name: str, offset: int, size: int) -> str | None:
        """The stack as an array of numbers of this size, if the offset is of one of them."""
        if name != "s1" or offset % size or not (size == 1 or self.writer.native_order):
            return None
        return self.use(f"s{size}")

    def _place(self, base: int, off: int, writable: bool, size: int) -> tuple[str, str]:
        """Python for the region, and for the offset in it, of the address in a register."""
        dicts = "W" if writable else "R"
        name = self._value(base)
        kept = self.regions.get((base, writable))
        if kept is not None and off >= kept[1]:
            region, first = kept
            # The first access was inside, so that nothing from there on is in another region, nor before it.
            return region, f"{region}o + {off - first}" if off > first else f"{region}o"
        address = f"{name} {'-' if off < 0 else '+'} {abs(off)}" if off else name
        if self._is_used_again(base, writable, off):
            region = f"{'w' if writable else 'm'}{base}"
            if off:
                self.line(f"a = {address}")
                address = "a"
            self.line(f"{region} = {dicts}[{address} >> 32]; {region}o = {address} & {MASK32}")
            self.regions[base, writable] = region, off
            return region, f"{region}o"
        if off == 0:
            return f"{dicts}[{name} >> 32]", f"{name} & {MASK32}"
        return f"{dicts}[(a := {address}) >> 32]", f"a & {MASK32}"

    def _is_used_again(self, base: int, writable: bool, off: int) -> bool:
        """Whether the next instructions of the block access memory by the same register, not before `off`."""
        for at in range(self.index, self.last + 1):
            insn = self.code.insns[at]
            kind = insn.code & 7
            if at > self.index and insn.off >= off and insn.code & 0xE0 != op.BPF_ATOMIC:
                if writable and kind in (op.BPF_ST, op.BPF_STX) and insn.dst == base:
                    return True
                if not writable and kind == op.BPF_LDX and insn.src == base:
                    return True
            if insn.code in (CALL, CALLX) or written(self.code, Block(at, at, -1, -1)) >> base & 1:
                return False
        return False

    def _store(self, insn: Insn) -> None:
        size = _SIZES[insn.code & 0x18]
        self._put(insn.dst, insn.off, size, self._stored(insn, size))

    def _stored(self, insn: Insn, size: int) -> str:
        """What a store writes, as Python, in its size."""
        widest = _WIDEST[size]
        if insn.code & 7 == op.BPF_ST:
            return str(insn.imm & widest)
        fact = self.facts[insn.src]
        if fact.base == "const":
            return str(fact.offset & widest)
        text = self._value(insn.src)
        return text if fact.most <= widest else f"{text} & {widest}"

    def _put(self, base: int, off: int, size: int, value: str) -> None:
        """Write `value` to memory."""
        place = self._known_place(self.facts[base], off, size)
        if place is not None and self._is_writable(place[0]):
            name, number = place
            view = self._stack_view(name, number, size)
            if view is not None:
                self.line(f"{view}[{number // size}] = {value}")
                return
            region, offset = name, str(number)
        else:
            region, offset = self._place(base, off, True, size)
        if size == 1:
            self.line(f"{region}[{offset}] = {value}")
        else:
            self.line(f"P{size}({region}, {offset}, {value})")

    def _is_writable(self, name: str) -> bool:
        """Whether a buffer with a known place may be written; of the context that is not known here."""
        if name == "s1":
            return True
        number = next((number for number, one in self.writer.buffers.items() if one == name), None)
        return number is not None and number in self.writer.runtime.memory.writable

    def _atomic(self, insn: Insn) -> None:
        size, operation = _SIZES[insn.code & 0x18], insn.imm
        widest = _WIDEST[size]
        if operation == op.BPF_LOAD_ACQ:
            self._load(insn, insn.src)
            return
        if operation == op.BPF_STORE_REL:
            self._put(insn.dst, insn.off, size, self._stored(insn, size))
            return
        place = self._known_place(self.facts[insn.dst], insn.off, size)
        if place is not None and self._is_writable(place[0]):
            region, offset = place[0], str(place[1])
        else:
            region, offset = self._place(insn.dst, insn.off, True, size)
        self.line(f"m = {region}; o = {offset}; old, = U{size}(m, o)")
        given = self._stored(insn, size)
        if operation == op.BPF_CMPXCHG:
            own = self._operand(0, size == 4)
            self.line(f"if old == {own}: P{size}(m, o, {given})")
            self._set(0, "old", Fact(widest))
            return
        if operation == op.BPF_XCHG:
            new = given
        else:
            sign = _BINARY[operation & 0xF0]
            new = f"old {sign} {given}" if "&" not in given else f"old {sign} ({given})"
            if sign == "+":
                new = f"{new} & {widest}"
        self.line(f"P{size}(m, o, {new})")
        if operation & op.BPF_FETCH:
            self._set(insn.src, "old", Fact(widest))

    # --- calls

    def _call(self, insn: Insn) -> None:
        self.regions.clear()
        arguments = ", ".join([self._value(register) for register in range(1, 6)])
        if insn.code == CALLX:
            self._set(0, f"rt.call_register({self._value(insn.dst)}, ({arguments}), d)")
        elif insn.src == op.BPF_PSEUDO_CALL:
            self.line(f"if d > {MAX_DEPTH - 2}: raise deep()")
            self._set(0, f"f{self.code.targets[self.index]}({arguments}, d + 1)")
        elif insn.imm == MAP_LOOKUP and (text := self._lookup()):
            self._set(0, text)
        else:
            if insn.imm in CALLS_BACK:
                self.line("rt.depth = d")
            self._set(0, f"h{insn.imm}({arguments}) & {MASK64}")

    def _lookup(self) -> str:
        """A lookup in a map that is known, of a key that is on the stack; "" if it is none of these."""
        runtime, fact = self.writer.runtime, self.facts[op.R1]
        table = runtime.maps.get(fact.offset) if fact.base == "const" else None
        if table is None or MAP_LOOKUP in runtime.replaced:
            return ""
        place = self._known_place(self.facts[op.R2], 0, table.key_size)
        if place is None:
            return ""
        name = f"l{fact.offset >> 32}"
        self.writer.names[name] = table.lookup
        self.writer.names["bytes"] = bytes
        region, start = place
        # What comes is an address or 0, and needs no mask.
        return f"{name}(bytes({region}[{start}:{start + table.key_size}]))"


_FOLD: dict[int, Callable[[int, int], int]] = {
    op.BPF_ADD: lambda a, b: a + b,
    op.BPF_SUB: lambda a, b: a - b,
    op.BPF_MUL: lambda a, b: a * b,
    op.BPF_OR: lambda a, b: a | b,
    op.BPF_AND: lambda a, b: a & b,
    op.BPF_XOR: lambda a, b: a ^ b,
}


def _halved(fact: Fact) -> Fact:
    """What is known of the lower half of a register."""
    if fact.base == "const":
        return constant(fact.offset & MASK32)
    return fact if fact.most <= MASK32 else WORD


def _loaded(region: str, offset: str, size: int, signed: bool) -> str:
    """Python that gives the number at an offset of a region."""
    if size == 1 and not signed:
        return f"{region}[{offset}]"
    return f"{'I' if signed else 'U'}{size}({region}, {offset})[0]"


def _signed_comparison(operation: int, left: str, number: int, sign: int) -> tuple[str, str]:
    """A comparison of signed numbers with a constant, on unsigned ones.

    Negative numbers are the upper half of the unsigned: a comparison is a range, or all but a range.
    """
    negative = number >= sign
    greater = operation in (op.BPF_JSGT, op.BPF_JSGE)
    strict = operation in (op.BPF_JSGT, op.BPF_JSLT)
    if not negative:
        # number, or the one behind it, up to the largest positive one
        low = "<" if strict == greater else "<="
        inside, outside = f"{number} {low} {left} < {sign}", f"not {number} {low} {left} < {sign}"
        return (inside, outside) if greater else (outside, inside)
    # the most negative one up to number, or to the one before it
    high = "<" if strict != greater else "<="
    inside, outside = f"{sign} <= {left} {high} {number}", f"not {sign} <= {left} {high} {number}"
    return (outside, inside) if greater else (inside, outside)
