"""The state of lowering one program, and the operations that all the parts share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tracebee.errors import InternalError
from tracebee.language.ir import (
    FRAME,
    Address,
    Alu,
    Argument,
    Atomic,
    Branch,
    Call,
    Convert,
    Function,
    Jump,
    Label,
    Load,
    MapSpot,
    MayGoto,
    Move,
    Negate,
    Operand,
    Reg,
    Return,
    Store,
)
from tracebee.language.lower.build import SCRATCH_MAP, cpu_slots
from tracebee.language.tree import Call as CallNode
from tracebee.language.tree import walk
from tracebee.records import Mutable
from tracebee.spec.objects import GLOBALS_MAP, Globals
from tracebee.spec.types import align_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.language.ir import Op
    from tracebee.language.lower.build import Build
    from tracebee.language.probes.base import Unit
    from tracebee.language.scratch import Scratch
    from tracebee.language.source import Span


class Loop(Mutable):
    """Where ``break`` and ``continue`` of the innermost loop go.

    In the body of a map loop, which is a function of its own, they are returns of 1 and 0 instead.  `rounds`
    is how often the verifier walks through the body.
    """

    break_label: str = ""
    continue_label: str = ""
    is_callback: bool = False
    rounds: int = 1


class Activation:
    """What belongs to one function: the program itself or the body of a map loop."""

    def __init__(self, function: Function, parent: Activation | None) -> None:
        self.function = function
        self.parent = parent
        self.depth = 0
        self.floor = 0
        self.facts: list[dict[str, Operand]] = [{}]
        self.scratch: Reg | None = None
        self.scratch_from = 0
        self.parent_frame: Reg | None = None
        self.parent_slot: Address | None = None
        self.context: Reg | None = None
        self.context_slot: Address | None = None
        self.loops: list[Loop] = []
        self.return_label = ""
        self.level: int = 0 if parent is None else parent.level + 1


class Lowering:
    """Lowers one unit.  Helper modules take it as their first argument."""

    null_label = ""
    """Where to go on when a pointer is null, while an address is computed that a helper must trust.

    Then members are loaded directly, so that the verifier keeps track of what they point to.  Without it a null
    pointer of the context goes on as a number, 0.
    """

    def __init__(self, unit: Unit, build: Build, stack_budget: int) -> None:
        self.unit = unit
        self.build = build
        self.context = build.context
        self.config = build.context.config
        self.machine = build.context.machine
        self.stack_budget = stack_budget
        self.stack_limit = self.config.number("on_stack_limit")
        self.functions: list[Function] = []
        self.scratch_start = build.scratch_bytes
        self.scratch_depth = build.scratch_bytes
        self.scratch_end = build.scratch_bytes
        self.scratch_floor = build.scratch_bytes
        self.variables: dict[Scratch, Reg | Address] = {}
        self.variable_levels: dict[Scratch, int] = {}
        self.return_flag: Address | None = None
        self._mentions: dict[str, int] | None = None
        self._claim: Address | None = None
        self._unclaimed_label = ""
        self.here = self._begin(Function(unit.name), None)
        self.here.context = self.here.function.parameters[0]
        self.here.return_label = self.label("done")

    def _begin(self, function: Function, parent: Activation | None) -> Activation:
        self.functions.append(function)
        return Activation(function, parent)

    def begin_callback(self, function: Function) -> Activation:
        """Start the body of a map loop; the caller makes it the current function."""
        return self._begin(function, self.here)

    # --- operations

    def add(self, op: Op) -> None:
        self.here.function.add(op)

    def reg(self, name: str = "") -> Reg:
        return self.here.function.reg(name)

    def label(self, name: str) -> str:
        return self.here.function.label(name)

    def place_label(self, label: str) -> None:
        self.add(Label(None, label))

    def jump(self, label: str) -> None:
        self.add(Jump(None, label))

    def branch(self, operator: str, left: Operand, right: Operand, label: str) -> None:
        self.add(Branch(None, label, operator, left, right))

    def may_goto(self, label: str) -> None:
        self.add(MayGoto(None, label))

    def move(self, source: Argument, name: str = "") -> Reg:
        """A new register with a value or address."""
        dst = self.reg(name)
        self.add(Move(dst, source))
        return dst

    def set(self, dst: Reg, source: Argument) -> None:
        """Overwrite a register."""
        self.add(Move(dst, source))

    def alu(self, operator: str, left: Operand, right: Operand, name: str = "") -> Operand:
        """left operator right, at once if both are constants."""
        if type(left) is int and type(right) is int:
            from tracebee.language.codegen.optimize import evaluate

            value = evaluate(operator, left, right)
            if value is not None:
                return value
        dst = self.reg(name)
        self.add(Alu(dst, operator, left, right))
        return dst

    def negate(self, source: Operand) -> Operand:
        if isinstance(source, int):
            return -source
        dst = self.reg()
        self.add(Negate(dst, source))
        return dst

    def convert(self, kind: str, source: Operand, bits: int) -> Operand:
        """Extend the low bits with zeros or the sign, or swap bytes."""
        if bits == 64 and kind != "swap":
            return source
        dst = self.reg()
        self.add(Convert(dst, kind, source if type(source) is Reg else self.move(source), bits))
        return dst

    def load(self, address: Address, size: int, signed: bool = False) -> Reg:
        """The value in BPF memory (stack, map, record, context)."""
        dst = self.reg()
        self.add(Load(dst, address, size))
        if signed and size < 8:
            extended = self.reg()
            self.add(Convert(extended, "sign", dst, size * 8))
            return extended
        return dst

    def store(self, address: Address, value: Operand, size: int) -> None:
        self.add(Store(None, address, value, size))

    def atomic(self, operator: str, address: Address, value: Operand, size: int = 8) -> None:
        source = value if type(value) is Reg else self.move(value)
        self.add(Atomic(None, operator, address, source, size))

    def atomic_fetch(self, operator: str, address: Address, value: Operand, size: int = 8) -> Reg:
        """Like atomic; the register with what was there before."""
        dst = self.reg("before")
        source = value if type(value) is Reg else self.move(value)
        self.add(Atomic(dst, operator, address, source, size))
        return dst

    def call(self, helper: str, *arguments: Argument) -> Reg:
        """Call a helper; the register with its result."""
        message, hint = self.machine.why_no_helper(helper)
        if message:
            self.build.context.diagnostics.error(message, self.here.function.span, hint)
        dst = self.reg(helper[:12])
        self.add(Call(dst, helper, list(arguments)))
        return dst

    def register(self, value: Operand) -> Reg:
        return value if type(value) is Reg else self.move(value)

    def address(self, value: Argument) -> Address:
        """An Address for what is in a register or is a symbol."""
        if type(value) is Address:
            return value
        return Address(value if type(value) is Reg else self.move(value), 0)

    def pointer(self, address: Address) -> Reg:
        """A register with the address itself."""
        if address.offset == 0 and type(address.base) is Reg:
            return address.base
        return self.move(address)

    @contextmanager
    def at(self, span: Span) -> Iterator[None]:
        """Operations added inside come from this place in the script."""
        function = self.here.function
        outer, function.span = function.span, span
        try:
            yield
        finally:
            function.span = outer

    # --- control

    def finish_probe(self, value: Operand = 0) -> None:
        """Leave the program from wherever this is; `value` is its result, unless this is in a map loop."""
        here = self.here
        if here.parent is None:
            if value == 0:
                self.jump(here.return_label)
            else:
                self.add(Return(None, value))
            return
        assert self.return_flag is not None
        self.store(self.outer_address(self.return_flag, 0), 1, 8)
        self.add(Return(None, 1))

    def loop_guard(self, leave: str) -> None:
        """At the head of a loop whose end the verifier may not see: leave it after very many rounds."""
        if self.machine.feature("may_goto"):
            self.may_goto(leave)

    # --- facts: asked for once

    def fact(self, name: str, ask: Callable[[], Operand]) -> Operand:
        """A value that does not change while the program runs.

        It is remembered for the rest of the block, and for the whole program if found out at its top.
        """
        for known in reversed(self.here.facts):
            if name in known:
                return known[name]
        value = self.here.facts[-1][name] = ask()
        return value

    @contextmanager
    def branch_scope(self) -> Iterator[None]:
        """Code inside may be jumped over: what it finds out, declares and takes is forgotten at its end."""
        here = self.here
        mark = here.depth, here.floor, self.scratch_depth, self.scratch_floor
        declared = set(self.variables)
        here.facts.append({})
        try:
            yield
        finally:
            here.facts.pop()
            here.depth, here.floor, self.scratch_depth, self.scratch_floor = mark
            for binding in [binding for binding in self.variables if binding not in declared]:
                del self.variables[binding]

    @contextmanager
    def temporaries(self) -> Iterator[None]:
        """Memory taken inside is free again behind it, unless it was kept."""
        here = self.here
        depth, scratch_depth = here.depth, self.scratch_depth
        try:
            yield
        finally:
            here.depth = max(depth, here.floor)
            self.scratch_depth = max(scratch_depth, self.scratch_floor)

    # --- memory

    def memory(self, size: int, on_stack: bool | None = None) -> Address:
        """Fresh bytes, 8-aligned, undefined: in the stack frame if they are few, else in scratch memory."""
        size = align_up(max(size, 1), 8)
        here = self.here
        if on_stack is None:
            on_stack = size <= self.stack_limit and here.depth + size <= self.stack_budget
        if on_stack:
            here.depth += size
            here.function.frame_size = max(here.function.frame_size, here.depth)
            return Address(FRAME, -here.depth)
        offset = self.scratch_depth - self.scratch_start
        self.scratch_depth += size
        self.scratch_end = max(self.scratch_end, self.scratch_depth)
        return Address(self.scratch_base(), offset)

    def kept_memory(self, size: int, on_stack: bool | None = None) -> Address:
        """Fresh bytes that stay taken until the block ends: for variables, and for facts that take memory."""
        address = self.memory(size, on_stack)
        self.here.floor = self.here.depth
        self.scratch_floor = self.scratch_depth
        return address

    def mentions(self, builtin: str) -> int:
        """How often the probe calls a built-in, as written."""
        if self._mentions is None:
            found: dict[str, int] = {}
            for part in (self.unit.probe.predicate, self.unit.probe.body):
                for node in walk(part) if part is not None else ():
                    if isinstance(node, CallNode):
                        found[node.name] = found.get(node.name, 0) + 1
            self._mentions = found
        return self._mentions.get(builtin, 0)

    def load_register(self, name: str) -> Reg:
        """A register of the processor at the probe, from the struct pt_regs that the context starts with."""
        offset = self.machine.arch.registers[name]
        found = self.fact(f"register {name}", lambda: self.load(Address(self.ctx(), offset), 8))
        assert type(found) is Reg
        return found

    def begin_body(self) -> None:
        """The predicate is done: what it did without need not be there before it was found true."""
        here = self.here
        if here.scratch is None:
            here.scratch_from = len(here.function.ops)
            self._unclaimed_label = here.return_label
            here.return_label = self.label("done")

    def scratch_base(self) -> Reg:
        """The register with this CPU's part of the scratch memory; set where all that needs it comes after."""
        if self.here.scratch is None:
            self.here.scratch = self.reg("scratch")
        return self.here.scratch

    # --- context, variables of outer functions

    def ctx(self) -> Reg:
        """The register with the program's context."""
        here = self.here
        if here.context is None:
            root = here
            while root.parent is not None:
                root = root.parent
            if root.context_slot is None:
                raise InternalError("context is not passed to callbacks")
            here.context = self.load(self.outer_address(root.context_slot, 0), 8)
        return here.context

    def outer_address(self, address: Address, level: int) -> Address:
        """An address in the frame of the function at `level`, seen from the current one."""
        if address.base is not FRAME:
            # Scratch memory is found again in every function.
            return Address(self.scratch_base(), address.offset)
        activation = self.here
        if activation.level == level:
            return address
        assert activation.parent_frame is not None
        base = activation.parent_frame
        parent = activation.parent
        assert parent is not None
        while parent.level != level:
            assert parent.parent_slot is not None
            base = self.load(Address(base, parent.parent_slot.offset), 8)
            parent = parent.parent
            assert parent is not None
        return Address(base, address.offset)

    # --- the end

    def complete(self) -> list[Function]:
        """Add what must stand at the top and the end of each function; the functions, program first."""
        here = self.here
        self._plan_claim()
        self.place_label(here.return_label)
        if self._claim is not None:
            self.store(self._claim, 0, 8)
        if self._unclaimed_label:
            self.place_label(self._unclaimed_label)
        self.add(Return(None, 0))
        self.finish_activation(here)
        self.build.scratch_bytes = align_up(self.scratch_end, 64)
        return self.functions

    def _plan_claim(self) -> None:
        """Where two tasks of a CPU can be in the program at once, have the second leave, and count it as lost.

        A word behind the program's scratch memory says that the CPU's part is in use.  It takes an exchange,
        which kernels have as long as the other atomic operations that give the old value.
        """
        used = self.scratch_end > self.scratch_start
        if not (used and self.unit.kind.is_preemptible and self.machine.feature("atomic_fetch")):
            return
        offset = align_up(self.scratch_end - self.scratch_start, 8)
        self.scratch_end = self.scratch_start + offset + 8
        claim = self._claim = Address(self.scratch_base(), offset)
        function = self.here.function
        ops: list[Op] = []
        for op in function.ops:
            if type(op) is Return:
                ops.append(Store(None, claim, 0, 8))
                ops[-1].span = op.span
            ops.append(op)
        function.ops = ops

    def finish_activation(self, activation: Activation) -> None:
        """Set the scratch register of a function, if it has one, before anything that needs it."""
        base = activation.scratch
        if base is None:
            return
        function = activation.function
        at = activation.scratch_from
        body, function.ops = function.ops[at:], function.ops[:at]
        outer, function.span = function.span, self.unit.probe.span
        cpu = function.reg("cpu")
        function.add(Call(cpu, "get_smp_processor_id", []))
        # All CPUs' parts lie in one array slot, CPU by CPU; a part's size is known when all probes are done.
        masked = function.reg()
        function.add(Alu(masked, "&", cpu, cpu_slots(self.machine.possible_cpus) - 1))
        offset = function.reg()
        function.add(Alu(offset, "*", masked, SCRATCH_STRIDE))
        start = function.reg()
        function.add(Move(start, MapSpot(SCRATCH_MAP, self.scratch_start)))
        function.add(Alu(base, "+", start, offset))
        claim = self._claim
        if claim is not None and activation.parent is None:
            busy = self.label("busy")
            before = function.reg()
            one = function.reg()
            function.add(Move(one, 1))
            function.add(Atomic(before, "xchg", claim, one, 8))
            function.add(Branch(None, busy, "!=", before, 0))
        function.ops += body
        if claim is not None and activation.parent is None:
            lost, more = function.reg(), function.reg()
            function.add(Label(None, busy))
            function.add(Move(lost, MapSpot(GLOBALS_MAP, Globals.LOST)))
            function.add(Move(more, 1))
            function.add(Atomic(None, "+", Address(lost, 0), more, 8))
            function.add(Return(None, 0))
        function.span = outer


SCRATCH_STRIDE = 0x7A7A_0000
"""Stands for the bytes of scratch memory a CPU has until that is known; see `settle_stride`."""


def settle_stride(function: Function, stride: int) -> None:
    """Put the real size in place of SCRATCH_STRIDE."""
    for op in function.ops:
        if type(op) is Alu and op.right == SCRATCH_STRIDE:
            op.right = stride
