"""The native path: programs become machine code, by LLVM as llvmlite brings it (``pip install tracebee[jit]``).

Every access to memory is checked.  The regions of tracebee.engine.memory are in a table that machine code
reads, an entry each, found by the lower bits of the region's number:

    u64 number, or all ones    u64 address in this process    u64 size    u64 size for writing, 0 if read-only

A function keeps the region that a register pointed to last, so that the next access by that register is one
comparison; what it keeps is void after every call, as regions may have gone.  Only the stack is reached without
a check, where r10 and a constant say that it is inside.

What stops a program is left in the state of the machine, and every function returns at once; Python makes
the exception of it.  The state, with addresses that are put into the code as constants:

    0 table   8 its entries - 1   16 budget   24 kind of stop   32 place   40 address   48 depth of a call
    64 addresses of the stacks in this process, by depth        128 addresses of their ends for programs
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from tracebee.engine.check import CALLX, EXIT, is_conditional, is_jump
from tracebee.engine.faults import BudgetSpent, ProgramFault, Stop, TailCall
from tracebee.engine.flow import flow_of
from tracebee.engine.memory import MASK32
from tracebee.engine.runtime import MASK64, MAX_DEPTH, MAY_GOTO_ROUNDS, STACK_BYTES
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, LDDW, PSEUDO_JUMP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.engine.check import Code
    from tracebee.engine.memory import Data
    from tracebee.engine.runtime import Function, Helper, Linked, Runtime
    from tracebee.insn import Insn

    class Pin(Protocol):
        """A buffer that does not move."""

        address: int

        def release(self) -> None: ...

    class NativeDoor(Protocol):
        """How machine code is called and calls back; tracebee.syscalls.nativecode has one."""

        def compile(self, text: str) -> Callable[[str], int]: ...

        def symbol(self, name: str) -> int: ...

        def pin(self, data: bytes | bytearray | memoryview) -> Pin: ...

        def function(self, address: int, arguments: int) -> Callable[..., int]: ...

        def callback(self, function: Callable[..., int], arguments: int) -> int: ...


LONGEST = 8192
"""Instructions of a program that is compiled."""

MOST_CALLS = 512
"""Calls and functions in it, which cost the compiler more.  What passes a limit goes the fast path: to
compile it would take seconds."""

_STATE_BYTES = 192
TABLE, MASK, BUDGET, KIND, PLACE, ADDRESS, DEPTH, STACKS, FRAMES = 0, 8, 16, 24, 32, 40, 48, 64, 128

# Kinds of stop.
RUNNING, _MEMORY, _TAIL, _RAISED, _SPENT, _DEEP = range(6)

ENTRY = struct.Struct("<QQQQ")
FREE = ENTRY.pack(MASK64, 0, 0, 0)
_WORD = struct.Struct("<Q")
_FIRST_ENTRIES = 256

_SIZES = {op.BPF_B: 1, op.BPF_H: 2, op.BPF_W: 4, op.BPF_DW: 8}

TAIL_CALL = 12
MAP_LOOKUP = 1
LARGEST_INDEX = 1 << 16
"""Entries of an array map whose values are found without calling Python."""


def compiled(programs: Sequence[Linked], runtime: Runtime, door: NativeDoor) -> list[dict[int, Function]]:
    """The functions of programs by the index of their first instruction.

    Raises NotSupportedError if llvmlite is not there.
    """
    engine = NativeEngine(runtime, door)
    short = [one for one in programs if _is_short(one.code)]
    made = dict(zip(map(id, short), engine.compile(short), strict=True))
    result = []
    for one in programs:
        if id(one) in made:
            result.append(made[id(one)])
        else:
            from tracebee.engine.translate import translated

            result.append(translated(one, runtime))
    return result


def _is_short(code: Code) -> bool:
    """Whether all functions together are."""
    return are_short([code])


def are_short(codes: Sequence[Code]) -> bool:
    """Whether programs together are short; functions may share code, which is compiled once for each of them."""
    insns = sum([len(code.insns) for code in codes])
    calls = sum([insn.code in (CALL, CALLX) for code in codes for insn in code.insns])
    if insns > LONGEST or calls + sum([len(code.functions) for code in codes]) > MOST_CALLS:
        return False
    length = 0
    for code in codes:
        for entry in code.functions:
            length += sum([block.last - block.first + 1 for block in flow_of(code, entry, 1).blocks])
    return length <= LONGEST


def assembly(programs: Sequence[Linked], runtime: Runtime, door: NativeDoor) -> str:
    """LLVM's text for programs, before optimization, to be looked at."""
    return NativeModule(programs, NativeEngine(runtime, door)).text()


class NativeEngine:
    """The state that machine code works on, and the way between it and Python."""

    state_bytes = _STATE_BYTES

    def __init__(self, runtime: Runtime, door: NativeDoor) -> None:
        self.runtime = runtime
        self.door = door
        self.state = bytearray(self.state_bytes)
        self._state_pin = door.pin(self.state)
        self.address = self._state_pin.address
        self.table = bytearray(FREE * _FIRST_ENTRIES)
        self._table_pin = door.pin(self.table)
        self._pins: dict[int, Pin] = {}
        self.raised: BaseException | None = None
        self.programs: Sequence[Linked] = ()
        self._kept: list[object] = []
        self._callbacks: dict[object, int] = {}
        self.indexes: dict[int, tuple[int, int]] = {}
        self._point_to_table()
        runtime.beginning = self._begin
        memory = runtime.memory
        for number, data in memory.readable.items():
            self._watch(number, data, number in memory.writable)
        memory.watcher = self._watch
        for depth, frame in enumerate(runtime.frames):
            number = frame - STACK_BYTES >> 32
            self._put(STACKS + 8 * depth, self._pins[number].address)
            self._put(FRAMES + 8 * depth, frame)

    def close(self) -> None:
        """Let go of the machine, whose programs go on in Python as if nothing had been."""
        self.runtime.beginning = None
        self.runtime.memory.watcher = None
        for pin in self._pins.values():
            pin.release()
        self._pins.clear()

    # --- memory

    def _put(self, offset: int, value: int) -> None:
        _WORD.pack_into(self.state, offset, value)

    def _get(self, offset: int) -> int:
        value: int = _WORD.unpack_from(self.state, offset)[0]
        return value

    def _point_to_table(self) -> None:
        self._put(TABLE, self._table_pin.address)
        self._put(MASK, len(self.table) // ENTRY.size - 1)

    def _watch(self, number: int, data: Data | None, writable: bool) -> None:
        """A region has come or gone."""
        index = number & 0xFF_FFFF
        place = index * ENTRY.size
        if data is None:
            self.table[place : place + ENTRY.size] = FREE
            self._pins.pop(number).release()
            return
        if place >= len(self.table):
            larger = bytearray(self.table)
            while place >= len(larger):
                larger += FREE * (len(larger) // ENTRY.size)
            self._table_pin.release()
            self.table = larger
            self._table_pin = self.door.pin(larger)
            self._point_to_table()
        pin = self._pins[number] = self.door.pin(data)
        ENTRY.pack_into(self.table, place, number, pin.address, len(data), len(data) if writable else 0)

    # --- from machine code to Python

    def callback(self, key: object, function: Callable[..., int], arguments: int) -> int:
        """The address of a function that machine code calls; made once for each `key`."""
        found = self._callbacks.get(key)
        if found is None:
            found = self._callbacks[key] = self.door.callback(self._guarded(function), arguments)
        return found

    def _guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        """The same, but what it raises is kept until machine code has returned."""

        def call(*arguments: int) -> int:
            self.runtime.depth = self._get(DEPTH)
            place = self._get(PLACE)
            try:
                return function(*arguments) & MASK64
            except TailCall as tail:
                self.raised = tail
                self._put(KIND, _TAIL)
            except BaseException as error:
                # An interrupt, too: ctypes would print it and go on.
                self.raised = error
                self._put(KIND, _RAISED)
            self._put(PLACE, place)
            return 0

        return call

    @property
    def prelude(self) -> str:
        """What the text of a module has besides, at its beginning."""
        return ""

    def helper(self, number: int, helper: Helper) -> int:
        return self.callback(number, helper, 5)

    def inline(self, function: NativeFunction, number: int) -> bool:
        """Write code in place of a call of a helper function; whether that was done."""
        return False

    def call_register(self, value: int, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        return self.runtime.call_register(value, (r1, r2, r3, r4, r5), self._get(DEPTH))

    def enter(self, depth: int) -> int:
        """Go on with the program of the tail call that has been raised."""
        tail = self.raised
        assert isinstance(tail, TailCall)
        self.raised = None
        self._put(KIND, RUNNING)
        return self.runtime.enter(tail, depth)

    def index_of(self, handle: int, entries: int) -> int:
        """The address of the table of an array map's values: the address for programs of each, or 0."""
        found = self.indexes.get(handle)
        if found is None:
            data = bytearray(8 * entries)
            pin = self.door.pin(data)
            self._kept += [data, pin]
            found = self.indexes[handle] = pin.address, entries
        return found[0]

    # --- from Python to machine code

    def compile(self, programs: Sequence[Linked]) -> list[dict[int, Function]]:
        """Make machine code of programs."""
        self.programs = programs
        address_of = self.door.compile(NativeModule(programs, self).text())
        return [
            {
                entry: self._wrapped(self.door.function(address_of(f"f{number}_{entry}"), 6))
                for entry in one.code.functions
            }
            for number, one in enumerate(programs)
        ]

    def _wrapped(self, call: Callable[..., int]) -> Function:
        """A function for Python, which raises what has stopped it."""
        state = self.state
        get, put = _WORD.unpack_from, _WORD.pack_into

        def function(r1: int, r2: int, r3: int, r4: int, r5: int, depth: int) -> int:
            result = call(r1, r2, r3, r4, r5, depth)
            kind = get(state, KIND)[0]
            if kind == RUNNING:
                return result
            put(state, KIND, RUNNING)
            raise self._stop(kind)

        return function

    def _begin(self) -> None:
        """A run starts."""
        self._put(BUDGET, self.runtime.budget)
        self._put(KIND, RUNNING)

    def _stop(self, kind: int) -> BaseException:
        """The exception for a stop."""
        place = self._get(PLACE)
        linked = self.programs[place >> 32]
        index = place & MASK32
        stop: BaseException
        if kind == _MEMORY:
            insn = linked.code.insns[index]
            is_atomic = insn.code & 0xE7 == op.BPF_STX | op.BPF_ATOMIC
            is_load = insn.code & 7 == op.BPF_LDX or (is_atomic and insn.imm == op.BPF_LOAD_ACQ)
            size = _SIZES[insn.code & 0x18]
            action = "read" if is_load else "write"
            stop = self.runtime.memory.fault(action, self._get(ADDRESS), size)
        elif kind == _RAISED:
            assert self.raised is not None
            stop, self.raised = self.raised, None
        elif kind == _SPENT:
            stop = BudgetSpent(self.runtime.budget)
        else:
            stop = ProgramFault(f"more than {MAX_DEPTH} functions call each other")
        if isinstance(stop, Stop) and stop.place is None:
            stop.place = linked, index
        return stop


# --- LLVM's text


_HEAD = """\
define internal ptr @resolve(i64 %address) noinline cold {{
  %number = lshr i64 %address, 32
  %mask = load i64, ptr inttoptr (i64 {mask} to ptr)
  %index = and i64 %number, %mask
  %offset = shl i64 %index, 5
  %table = load i64, ptr inttoptr (i64 {table} to ptr)
  %place = add i64 %table, %offset
  %entry = inttoptr i64 %place to ptr
  %found = load i64, ptr %entry
  %same = icmp eq i64 %found, %number
  %result = select i1 %same, ptr %entry, ptr null
  ret ptr %result
}}
declare i64 @llvm.usub.sat.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare i16 @llvm.bswap.i16(i16)
declare i32 @llvm.bswap.i32(i32)
declare i64 @llvm.bswap.i64(i64)
!0 = !{{!"branch_weights", i32 1000, i32 1}}
"""

_ARITHMETIC = {
    op.BPF_ADD: "add",
    op.BPF_SUB: "sub",
    op.BPF_MUL: "mul",
    op.BPF_OR: "or",
    op.BPF_AND: "and",
    op.BPF_XOR: "xor",
}
_SHIFTS = {op.BPF_LSH: "shl", op.BPF_RSH: "lshr", op.BPF_ARSH: "ashr"}
_COMPARISONS = {
    op.BPF_JEQ: "eq",
    op.BPF_JNE: "ne",
    op.BPF_JGT: "ugt",
    op.BPF_JGE: "uge",
    op.BPF_JLT: "ult",
    op.BPF_JLE: "ule",
    op.BPF_JSGT: "sgt",
    op.BPF_JSGE: "sge",
    op.BPF_JSLT: "slt",
    op.BPF_JSLE: "sle",
}


class NativeModule:
    """The functions of all programs as one module."""

    def __init__(self, programs: Sequence[Linked], engine: NativeEngine) -> None:
        self.programs = programs
        self.engine = engine

    def text(self) -> str:
        address = self.engine.address
        parts = [_HEAD.format(mask=address + MASK, table=address + TABLE), self.engine.prelude]
        for number, linked in enumerate(self.programs):
            code = linked.code
            called = {
                target for at, target in code.targets.items() if code.insns[at].code in (CALL, LDDW)
            } | set(linked.addresses)
            for entry in code.functions:
                parts.append(NativeFunction(self.engine, linked, number, entry, entry in called).text())
        return "\n".join(parts)


class NativeFunction:
    """A function in the making.  Registers are variables on the stack, which LLVM makes registers of."""

    def __init__(
        self, engine: NativeEngine, linked: Linked, number: int, entry: int, is_called: bool
    ) -> None:
        self.engine = engine
        self.linked = linked
        self.code: Code = linked.code
        self.number = number
        self.entry = entry
        self.is_called = is_called
        self.flow = flow_of(self.code, entry, 8)
        self.lines: list[str] = []
        self.count = 0
        self.index = entry
        # The regions that registers have pointed to, with the sizes of accesses.
        self.caches: dict[tuple[int, bool], set[int]] = {}
        self.constants: dict[int, int] = {}

    # --- pieces

    def emit(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def name(self) -> str:
        self.count += 1
        return f"%t{self.count}"

    def label(self) -> str:
        self.count += 1
        return f"l{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def let(self, text: str) -> str:
        name = self.name()
        self.emit(f"{name} = {text}")
        return name

    def state(self, offset: int) -> str:
        return f"ptr inttoptr (i64 {self.engine.address + offset} to ptr)"

    def get(self, register: int, bits: int = 64) -> str:
        value = self.let(f"load i64, ptr %r{register}")
        return value if bits == 64 else self.let(f"trunc i64 {value} to i{bits}")

    def set(self, register: int, value: str, bits: int = 64, signed: bool = False) -> None:
        if bits < 64:
            value = self.let(f"{'sext' if signed else 'zext'} i{bits} {value} to i64")
        self.emit(f"store i64 {value}, ptr %r{register}")
        self.constants.pop(register, None)

    def branch(self, condition: str, likely: str, unlikely: str) -> None:
        self.emit(f"br i1 {condition}, label %{likely}, label %{unlikely}, !prof !0")

    def stop(self, kind: int, address: str = "") -> None:
        """Leave the function, and say why."""
        if address:
            self.emit(f"store i64 {address}, {self.state(ADDRESS)}")
        self.emit(f"store i64 {self.number << 32 | self.index}, {self.state(PLACE)}")
        self.emit(f"store i64 {kind}, {self.state(KIND)}")
        self.emit("ret i64 0")

    # --- the function

    def text(self) -> str:
        self._find_caches()
        for number, block in enumerate(self.flow.blocks):
            self.start(f"b{number}")
            self.constants.clear()
            for index in range(block.first, block.last + 1):
                self.index = index
                self._instruction(self.code.insns[index], number)
            last = self.code.insns[block.last]
            if last.code != EXIT and not is_jump(last):
                self.emit(f"br label %b{block.following}")
        body = self.lines
        self.lines = []
        self._prologue()
        head = f"define i64 @f{self.number}_{self.entry}(i64 %a1, i64 %a2, i64 %a3, i64 %a4, i64 %a5, i64 %depth) {{"
        return "\n".join([head, *self.lines, *body, "}"])

    def _find_caches(self) -> None:
        for block in self.flow.blocks:
            for index in range(block.first, block.last + 1):
                access = _access(self.code.insns[index])
                if access is not None:
                    base, writable, size = access
                    self.caches.setdefault((base, writable), set()).add(size)

    def _prologue(self) -> None:
        self.index = self.entry
        for register in range(11):
            self.emit(f"%r{register} = alloca i64")
            self.emit(f"store i64 {f'%a{register}' if 1 <= register <= 5 else '0'}, ptr %r{register}")
        for base, writable in self.caches:
            suffix = _suffix(base, writable)
            for part in ("start", "delta", "lim1", "lim2", "lim4", "lim8"):
                self.emit(f"%{part}{suffix} = alloca i64")
                self.emit(f"store i64 0, ptr %{part}{suffix}")
        self.emit("%budget = alloca i64")
        self.emit("%rounds = alloca i64")
        self.emit(f"store i64 {MAY_GOTO_ROUNDS}, ptr %rounds")
        self._load_budget()
        offset = self.let("shl i64 %depth, 3")
        for name, table in (("stack", STACKS), ("frame", FRAMES)):
            place = self.let(f"add i64 {offset}, {self.engine.address + table}")
            pointer = self.let(f"inttoptr i64 {place} to ptr")
            self.emit(f"%{name} = load i64, ptr {pointer}")
        self.emit("store i64 %frame, ptr %r10")
        if self._uses_stack():
            self.emit("%fresh = inttoptr i64 %stack to ptr")
            self.emit(f"call void @llvm.memset.p0.i64(ptr %fresh, i8 0, i64 {STACK_BYTES}, i1 false)")
        if self.is_called:
            self._charge(sum(block.last - block.first + 1 for block in self.flow.blocks))
        self.emit(f"br label %b{self.flow.entry}")

    def _uses_stack(self) -> bool:
        return any(
            op.R10 in (insn.dst, insn.src)
            for block in self.flow.blocks
            for insn in self.code.insns[block.first : block.last + 1]
        )

    def _load_budget(self) -> None:
        value = self.let(f"load i64, {self.state(BUDGET)}")
        self.emit(f"store i64 {value}, ptr %budget")

    def _keep_budget(self) -> None:
        value = self.let("load i64, ptr %budget")
        self.emit(f"store i64 {value}, {self.state(BUDGET)}")

    def _charge(self, insns: int) -> None:
        """Take instructions from the budget, and stop if it is spent."""
        value = self.let("load i64, ptr %budget")
        left = self.let(f"sub i64 {value}, {insns}")
        self.emit(f"store i64 {left}, ptr %budget")
        enough = self.let(f"icmp sge i64 {left}, 0")
        go_on, spent = self.label(), self.label()
        self.branch(enough, go_on, spent)
        self.start(spent)
        self.stop(_SPENT)
        self.start(go_on)

    # --- instructions

    def _instruction(self, insn: Insn, block: int) -> None:
        kind = insn.code & 7
        if kind in (op.BPF_ALU, op.BPF_ALU64):
            self._arithmetic(insn)
        elif insn.code == LDDW:
            value = self.linked.values[self.index]
            self.set(insn.dst, str(value))
            self.constants[insn.dst] = value
        elif insn.code == EXIT:
            self._keep_budget()
            self.emit(f"ret i64 {self.get(0)}")
        elif is_jump(insn):
            self._jump(insn, block)
        elif insn.code in (CALL, CALLX):
            self._call(insn)
        elif kind == op.BPF_LDX:
            self._load(insn, insn.src, signed=insn.code & 0xE0 == op.BPF_MEMSX)
        elif insn.code & 0xE0 == op.BPF_ATOMIC:
            self._atomic(insn)
        else:
            self._store(insn)

    def _operand(self, insn: Insn, bits: int) -> str:
        if insn.code & op.BPF_X:
            return self.get(insn.src, bits)
        return str(insn.imm)

    def _arithmetic(self, insn: Insn) -> None:
        code, dst, off = insn.code, insn.dst, insn.off
        operation, bits = code & 0xF0, 64 if code & 7 == op.BPF_ALU64 else 32
        kind = f"i{bits}"
        if operation == op.BPF_END:
            self._swap(insn)
            return
        if operation == op.BPF_NEG:
            self.set(dst, self.let(f"sub {kind} 0, {self.get(dst, bits)}"), bits)
            return
        if operation == op.BPF_MOV:
            if not off:
                self.set(dst, self._operand(insn, bits) if bits == 64 else self._narrow(insn), bits)
                return
            low = self.get(insn.src, off)
            if bits == 32:
                low = self.let(f"sext i{off} {low} to i32")
                self.set(dst, low, 32)
            else:
                self.set(dst, low, off, signed=True)
            return
        right = self._operand(insn, bits)
        left = self.get(dst, bits)
        if operation in _ARITHMETIC:
            result = self.let(f"{_ARITHMETIC[operation]} {kind} {left}, {right}")
        elif operation in _SHIFTS:
            if code & op.BPF_X:
                right = self.let(f"and {kind} {right}, {bits - 1}")
            else:
                right = str(insn.imm & bits - 1)
            result = self.let(f"{_SHIFTS[operation]} {kind} {left}, {right}")
        else:
            result = self._divide(operation, left, right, bits, signed=bool(off))
        self.set(dst, result, bits)

    def _narrow(self, insn: Insn) -> str:
        return self.get(insn.src, 32) if insn.code & op.BPF_X else str(insn.imm)

    def _divide(self, operation: int, left: str, right: str, bits: int, signed: bool) -> str:
        """A division that is defined for 0 and, if signed, for the most negative number by -1."""
        kind, letter = f"i{bits}", "s" if signed else "u"
        by_zero = self.let(f"icmp eq {kind} {right}, 0")
        safe = self.let(f"select i1 {by_zero}, {kind} 1, {kind} {right}")
        by_minus = ""
        if signed:
            by_minus = self.let(f"icmp eq {kind} {right}, -1")
            safe = self.let(f"select i1 {by_minus}, {kind} 1, {kind} {safe}")
        if operation == op.BPF_DIV:
            result = self.let(f"{letter}div {kind} {left}, {safe}")
            if signed:
                negated = self.let(f"sub {kind} 0, {left}")
                result = self.let(f"select i1 {by_minus}, {kind} {negated}, {kind} {result}")
            return self.let(f"select i1 {by_zero}, {kind} 0, {kind} {result}")
        result = self.let(f"{letter}rem {kind} {left}, {safe}")
        return self.let(f"select i1 {by_zero}, {kind} {left}, {kind} {result}")

    def _swap(self, insn: Insn) -> None:
        bits = insn.imm
        low = self.get(insn.dst, bits)
        if insn.code != op.BPF_ALU | op.BPF_END | op.BPF_TO_LE:
            low = self.let(f"call i{bits} @llvm.bswap.i{bits}(i{bits} {low})")
        self.set(insn.dst, low, bits)

    # --- jumps and calls

    def _jump(self, insn: Insn, number: int) -> None:
        block = self.flow.blocks[number]
        goal = f"b{block.target}"
        if insn.code == PSEUDO_JUMP:
            rounds = self.let("load i64, ptr %rounds")
            over = self.let(f"icmp eq i64 {rounds}, 0")
            go_on = self.label()
            self.emit(f"br i1 {over}, label %{self._backwards(number, goal)}, label %{go_on}")
            self._write_backwards()
            self.start(go_on)
            left = self.let(f"sub i64 {rounds}, 1")
            self.emit(f"store i64 {left}, ptr %rounds")
            self.emit(f"br label %b{block.following}")
            return
        if not is_conditional(insn):
            if block.target <= number:
                self._charge(self._length(number))
            self.emit(f"br label %{goal}")
            return
        bits = 64 if insn.code & 7 == op.BPF_JMP else 32
        left, right = self.get(insn.dst, bits), self._operand(insn, bits)
        operation = insn.code & 0xF0
        if operation == op.BPF_JSET:
            both = self.let(f"and i{bits} {left}, {right}")
            holds = self.let(f"icmp ne i{bits} {both}, 0")
        else:
            holds = self.let(f"icmp {_COMPARISONS[operation]} i{bits} {left}, {right}")
        self.emit(f"br i1 {holds}, label %{self._backwards(number, goal)}, label %b{block.following}")
        self._write_backwards()

    def _length(self, number: int) -> int:
        """Instructions of a round that a jump backwards ends."""
        block = self.flow.blocks[number]
        return block.last - self.flow.blocks[block.target].first + 1

    def _backwards(self, number: int, goal: str) -> str:
        """The label to jump to: the goal, or a place on the way to it where the budget is charged."""
        self._pending: tuple[str, str, int] | None = None
        if self.flow.blocks[number].target > number:
            return goal
        label = self.label()
        self._pending = label, goal, self._length(number)
        return label

    def _write_backwards(self) -> None:
        if self._pending is None:
            return
        label, goal, length = self._pending
        self.start(label)
        self._charge(length)
        self.emit(f"br label %{goal}")

    def _call(self, insn: Insn) -> None:
        if insn.code == CALL and insn.src == op.BPF_PSEUDO_CALL:
            self._call_local(insn)
            return
        arguments = [f"i64 {self.get(register)}" for register in range(1, 6)]
        done = ""
        if insn.code == CALL and self.engine.inline(self, insn.imm):
            for register in range(1, 6):
                self.constants.pop(register, None)
            return
        if insn.code == CALLX:
            arguments.insert(0, f"i64 {self.get(insn.dst)}")
            address = self.engine.callback("callx", self.engine.call_register, 6)
        else:
            if insn.imm == MAP_LOOKUP:
                done = self._indexed_lookup()
            address = self.engine.helper(insn.imm, self.linked.helpers[insn.imm])
        result = self._call_python(address, arguments, may_leave=insn.code == CALLX or insn.imm == TAIL_CALL)
        if done:
            self._fill_index(result)
        self.set(0, result)
        if done:
            self.emit(f"br label %{done}")
            self.start(done)
        for register in range(1, 6):
            self.constants.pop(register, None)

    def call_helper(self, number: int) -> None:
        """Call a helper function that is Python, with what the registers hold."""
        arguments = [f"i64 {self.get(register)}" for register in range(1, 6)]
        address = self.engine.helper(number, self.linked.helpers[number])
        self.set(0, self._call_python(address, arguments, may_leave=False))

    def _call_python(self, address: int, arguments: Sequence[str], may_leave: bool) -> str:
        self._keep_budget()
        self.emit(f"store i64 %depth, {self.state(DEPTH)}")
        self.emit(f"store i64 {self.number << 32 | self.index}, {self.state(PLACE)}")
        result = self.let(f"call i64 inttoptr (i64 {address} to ptr)({', '.join(arguments)})")
        self._after_call(may_leave)
        return result

    def _call_local(self, insn: Insn) -> None:
        enough = self.let(f"icmp ult i64 %depth, {MAX_DEPTH - 1}")
        go_on, deep = self.label(), self.label()
        self.branch(enough, go_on, deep)
        self.start(deep)
        self.stop(_DEEP)
        self.start(go_on)
        self._keep_budget()
        arguments = ", ".join([f"i64 {self.get(register)}" for register in range(1, 6)])
        depth = self.let("add i64 %depth, 1")
        target = self.code.targets[self.index]
        result = self.let(f"call i64 @f{self.number}_{target}({arguments}, i64 {depth})")
        self._after_call(may_leave=False)
        self.set(0, result)

    def _after_call(self, may_leave: bool) -> None:
        """Whether the call has stopped the program; what was kept of regions is void."""
        kind = self.let(f"load i64, {self.state(KIND)}")
        running = self.let(f"icmp eq i64 {kind}, {RUNNING}")
        go_on, stopped = self.label(), self.label()
        self.branch(running, go_on, stopped)
        self.start(stopped)
        if may_leave:
            is_tail = self.let(f"icmp eq i64 {kind}, {_TAIL}")
            leave, end = self.label(), self.label()
            self.emit(f"br i1 {is_tail}, label %{leave}, label %{end}")
            self.start(leave)
            address = self.engine.callback("enter", self.engine.enter, 1)
            self.emit(f"store i64 %depth, {self.state(DEPTH)}")
            result = self.let(f"call i64 inttoptr (i64 {address} to ptr)(i64 %depth)")
            self.emit(f"ret i64 {result}")
            self.start(end)
        self.emit("ret i64 0")
        self.start(go_on)
        self._load_budget()
        self.forget_regions()

    def forget_regions(self) -> None:
        """What was kept of regions is void."""
        for base, writable in self.caches:
            for size in (1, 2, 4, 8):
                self.emit(f"store i64 0, ptr %lim{size}{_suffix(base, writable)}")

    # --- array maps without calls

    def _indexed_lookup(self) -> str:
        """Look in the table of an array map's values first; the label behind the call, or nothing."""
        handle = self.constants.get(op.R1)
        table = self.engine.runtime.maps.get(handle or 0)
        if table is None or table.spec.type != "ARRAY" or table.max_entries > LARGEST_INDEX:
            return ""
        index = self.engine.index_of(table.handle, table.max_entries)
        done, call, look, found = self.label(), self.label(), self.label(), self.label()
        pointer = self._pointer(op.R2, 0, 4, False, otherwise=call)
        key = self.let(f"load i32, ptr {pointer}, align 1")
        wide = self.let(f"zext i32 {key} to i64")
        inside = self.let(f"icmp ult i64 {wide}, {table.max_entries}")
        self.branch(inside, look, call)
        self.start(look)
        offset = self.let(f"shl i64 {wide}, 3")
        place = self.let(f"add i64 {offset}, {index}")
        slot = self.let(f"inttoptr i64 {place} to ptr")
        value = self.let(f"load i64, ptr {slot}")
        known = self.let(f"icmp ne i64 {value}, 0")
        self.branch(known, found, call)
        self.start(found)
        self.emit(f"store i64 {value}, ptr %r0")
        self.emit(f"br label %{done}")
        self.start(call)
        self._index = index, table.max_entries
        return done

    def _fill_index(self, result: str) -> None:
        """Keep the address that a call has given, for the next time."""
        index, entries = self._index
        fill, inside_label, on = self.label(), self.label(), self.label()
        known = self.let(f"icmp ne i64 {result}, 0")
        self.emit(f"br i1 {known}, label %{fill}, label %{on}")
        self.start(fill)
        pointer = self._pointer(op.R2, 0, 4, False, otherwise=on)
        key = self.let(f"load i32, ptr {pointer}, align 1")
        wide = self.let(f"zext i32 {key} to i64")
        inside = self.let(f"icmp ult i64 {wide}, {entries}")
        self.emit(f"br i1 {inside}, label %{inside_label}, label %{on}")
        self.start(inside_label)
        offset = self.let(f"shl i64 {wide}, 3")
        place = self.let(f"add i64 {offset}, {index}")
        slot = self.let(f"inttoptr i64 {place} to ptr")
        self.emit(f"store i64 {result}, ptr {slot}")
        self.emit(f"br label %{on}")
        self.start(on)

    # --- memory

    def _pointer(self, base: int, off: int, size: int, writable: bool, otherwise: str = "") -> str:
        """A pointer to memory that may be accessed; else the program stops, or goes `otherwise`."""
        if base == op.R10 and -STACK_BYTES <= off <= -size:
            place = self.let(f"add i64 %stack, {STACK_BYTES + off}")
            return self.let(f"inttoptr i64 {place} to ptr")
        suffix = _suffix(base, writable)
        address = self.let(f"add i64 {self.get(base)}, {off}")
        fine, miss, resolved, bad = self.label(), self.label(), self.label(), self.label()
        start = self.let(f"load i64, ptr %start{suffix}")
        distance = self.let(f"sub i64 {address}, {start}")
        limit = self.let(f"load i64, ptr %lim{size}{suffix}")
        hit = self.let(f"icmp ult i64 {distance}, {limit}")
        self.branch(hit, fine, miss)
        self.start(miss)
        entry = self.let(f"call ptr @resolve(i64 {address})")
        nothing = self.let(f"icmp ne ptr {entry}, null")
        self.branch(nothing, resolved, otherwise or bad)
        self.start(resolved)
        host = self.let(f"getelementptr i8, ptr {entry}, i64 8")
        host = self.let(f"load i64, ptr {host}")
        room = self.let(f"getelementptr i8, ptr {entry}, i64 {24 if writable else 16}")
        room = self.let(f"load i64, ptr {room}")
        more = self.let(f"add i64 {room}, 1")
        low = self.let(f"and i64 {address}, {MASK32}")
        first = self.let(f"sub i64 {address}, {low}")
        self.emit(f"store i64 {first}, ptr %start{suffix}")
        delta = self.let(f"sub i64 {host}, {first}")
        self.emit(f"store i64 {delta}, ptr %delta{suffix}")
        limit = ""
        for one in sorted(self.caches[base, writable]):
            fits = self.let(f"call i64 @llvm.usub.sat.i64(i64 {more}, i64 {one})")
            self.emit(f"store i64 {fits}, ptr %lim{one}{suffix}")
            if one == size:
                limit = fits
        inside = self.let(f"icmp ult i64 {low}, {limit}")
        self.branch(inside, fine, otherwise or bad)
        if not otherwise:
            self.start(bad)
            self.stop(_MEMORY, address)
        self.start(fine)
        delta = self.let(f"load i64, ptr %delta{suffix}")
        place = self.let(f"add i64 {address}, {delta}")
        return self.let(f"inttoptr i64 {place} to ptr")

    def _load(self, insn: Insn, base: int, signed: bool = False) -> None:
        size = _SIZES[insn.code & 0x18]
        pointer = self._pointer(base, insn.off, size, False)
        value = self.let(f"load i{size * 8}, ptr {pointer}, align 1")
        self.set(insn.dst, value, size * 8, signed=signed)

    def _stored(self, insn: Insn, size: int) -> str:
        """What a store writes, in its size."""
        if insn.code & 7 == op.BPF_ST:
            bits = size * 8
            return str(insn.imm if bits >= 32 else (insn.imm & (1 << bits) - 1))
        return self.get(insn.src, size * 8)

    def _store(self, insn: Insn) -> None:
        size = _SIZES[insn.code & 0x18]
        value = self._stored(insn, size)
        pointer = self._pointer(insn.dst, insn.off, size, True)
        self.emit(f"store i{size * 8} {value}, ptr {pointer}, align 1")

    def _atomic(self, insn: Insn) -> None:
        """No other thread is there: what is one instruction is not divided."""
        size, operation = _SIZES[insn.code & 0x18], insn.imm
        kind, bits = f"i{size * 8}", size * 8
        if operation == op.BPF_LOAD_ACQ:
            self._load(insn, insn.src)
            return
        if operation == op.BPF_STORE_REL:
            self._store(insn)
            return
        pointer = self._pointer(insn.dst, insn.off, size, True)
        old = self.let(f"load {kind}, ptr {pointer}, align 1")
        given = self.get(insn.src, bits)
        if operation == op.BPF_CMPXCHG:
            expected = self.get(0, bits)
            same = self.let(f"icmp eq {kind} {old}, {expected}")
            new = self.let(f"select i1 {same}, {kind} {given}, {kind} {old}")
        elif operation == op.BPF_XCHG:
            new = given
        else:
            new = self.let(f"{_ARITHMETIC[operation & 0xF0]} {kind} {old}, {given}")
        self.emit(f"store {kind} {new}, ptr {pointer}, align 1")
        if operation == op.BPF_CMPXCHG:
            self.set(0, old, bits)
        elif operation & op.BPF_FETCH:
            self.set(insn.src, old, bits)


def _suffix(base: int, writable: bool) -> str:
    return f"_{base}{'w' if writable else 'r'}"


def _access(insn: Insn) -> tuple[int, bool, int] | None:
    """The register by which an instruction reaches memory, whether it writes, and how many bytes."""
    kind = insn.code & 7
    if insn.code == CALL and insn.src == 0 and insn.imm == MAP_LOOKUP:
        return op.R2, False, 4
    if kind not in (op.BPF_LDX, op.BPF_ST, op.BPF_STX):
        return None
    size = _SIZES[insn.code & 0x18]
    is_atomic = kind == op.BPF_STX and insn.code & 0xE0 == op.BPF_ATOMIC
    if kind == op.BPF_LDX or (is_atomic and insn.imm == op.BPF_LOAD_ACQ):
        return insn.src, False, size
    return insn.dst, True, size
