"""A machine in user space: the programs and maps of an ObjectSpec, ready to be run.

    machine = Machine(spec, world)
    result = machine.programs["count_reads"].run(context)
    for key, value in machine.maps["counts"].items(): ...

There are three ways ("paths") to run programs, which give the same results: "fast" translates them to Python
source, "native" to machine code, where a machine says how to run that, and "reference" takes them one
instruction at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.engine.check import check
from tracebee.engine.faults import ProgramFault, Stop
from tracebee.engine.maps import Shared, make_maps
from tracebee.engine.maps.ring import RingMap
from tracebee.engine.memory import Memory, MemoryFault
from tracebee.engine.runtime import Linked, Runtime
from tracebee.errors import EngineFault, InternalError, UsageError
from tracebee.insn import opcodes as op
from tracebee.insn.codec import LDDW, MapFd, MapValue
from tracebee.spec.objects import RING_MAP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.engine.check import Code
    from tracebee.engine.maps.base import EngineMap
    from tracebee.engine.native import NativeDoor
    from tracebee.engine.runtime import Function, Helper
    from tracebee.engine.world import World
    from tracebee.spec.objects import ObjectSpec, ProgramSpec

PATHS = ("fast", "reference", "native")

BUDGET = 1 << 28
"""Instructions that a run may take: some seconds on the fast path."""


class EngineProgram:
    """A program that can be run.  `number` is its name in arrays of programs."""

    def __init__(self, machine: Machine, spec: ProgramSpec, number: int, code: Code) -> None:
        self.machine = machine
        self.runtime = machine.runtime
        self.spec = spec
        self.number = number
        self.code = code
        self.function: Function = _not_linked

    @property
    def log(self) -> str:
        """What there is to say about its translation; the same attribute as a program in the kernel has."""
        return ""

    def run(self, context: bytes | bytearray) -> int:
        """r0 of a run, 64 bits; r1 is the address of `context`, r2 its size.

        A bytearray can be changed by the program.  Raises EngineFault.
        """
        runtime, memory, shared = self.runtime, self.runtime.memory, self.runtime.shared
        runtime.begin()
        if shared.cpus > 1:
            shared.cpu = runtime.world.cpu() % shared.cpus
        address = runtime.context
        memory.replace(address, context)
        try:
            return self.function(address, len(context), 0, 0, 0, 0)
        except Exception as error:
            raise self.machine.explain(error) from error
        finally:
            if memory.watcher is not None:
                # Native code holds it fast where it is.
                memory.replace(address, b"")
            if shared.retired or shared.records:
                shared.settle()


class Machine:
    """The programs of `spec` with their maps, by name; each machine has its own.

    `cpus` is how many values a per-CPU map has of each key, `budget` how many instructions a run may take.
    `helpers` are functions besides those of `tracebee.engine.calls`, by number.  `native` is the door to machine
    code that the path of this name needs: see tracebee.engine.native.

    Raises EngineFault for a program that is none, NotSupportedError for a kind of map that only the kernel
    has, and UsageError for one that nobody has.
    """

    def __init__(
        self,
        spec: ObjectSpec,
        world: World,
        *,
        path: str = "fast",
        budget: int = BUDGET,
        cpus: int = 1,
        helpers: Mapping[int, Helper] | None = None,
        native: NativeDoor | None = None,
    ) -> None:
        if path not in PATHS:
            raise UsageError(f"there is no path {path!r}", f"paths are {', '.join(PATHS)}")
        self.spec = spec
        self.world = world
        self.path = path
        self.memory = Memory()
        self.shared = Shared(self.memory, cpus)
        self.runtime = Runtime(self.memory, world, self.shared, budget)
        self.runtime.helper = self._helper
        self._own = dict(helpers or {})
        self.runtime.replaced = frozenset(self._own)
        self._made: dict[int, Helper] = {}
        numbers = {program.name: number for number, program in enumerate(spec.programs, 1)}
        self.maps: dict[str, EngineMap] = make_maps(spec.maps, self.shared, numbers)
        self.programs: dict[str, EngineProgram] = {}
        known = self._known()
        for program in spec.programs:
            code = check(program.insns, known, program=program.name)
            self.programs[program.name] = EngineProgram(self, program, numbers[program.name], code)
        self.linked = [self._link(program) for program in self.programs.values()]
        self._translate(self.linked, native)

    @property
    def ring(self) -> RingMap | None:
        """The ring buffer that carries the records of a script."""
        ring = self.maps.get(RING_MAP)
        return ring if isinstance(ring, RingMap) else None

    def explain(self, error: Exception) -> Exception:
        """What to raise for an exception that has ended a run."""
        if self.path != "reference":
            from tracebee.engine.translate import found_in

            error = found_in(error, self.memory)
        if not isinstance(error, Stop) or error.place is None:
            if isinstance(error, Stop | RecursionError | MemoryError):
                return EngineFault(str(error) or type(error).__name__, 0)
            return InternalError(f"{type(error).__name__} in the engine: {error}")
        linked, index = error.place
        slot = linked.code.slots[index]
        line = self._source_line(linked.name, slot)
        if isinstance(error, MemoryFault):
            reason = f"{error.action} of {error.size} byte{'s' * (error.size != 1)}"
            region = self.memory.find(error.address)
            if region is not None and error.address + error.size <= region.address + (region.size or 0):
                reason += " that cannot be written"
            else:
                reason += " outside of the program's memory"
            return EngineFault(reason, slot, error.address, linked.name, line, error.where)
        if isinstance(error, ProgramFault):
            return EngineFault(error.reason, slot, error.address, linked.name, line)
        return EngineFault(str(error), slot, None, linked.name, line)

    def _known(self) -> set[int]:
        """The numbers of the helper functions."""
        from tracebee.engine.calls import CALLS

        return {*CALLS, *self._own}

    def _helper(self, number: int) -> Helper | None:
        """The helper function with this number, made when a program first needs it."""
        made = self._made.get(number)
        if made is None:
            made = self._own.get(number)
            if made is None:
                from tracebee.engine.calls import CALLS

                call = CALLS.get(number)
                if call is None:
                    return None
                made = call.make(self.runtime)
            self._made[number] = made
        return made

    def _link(self, program: EngineProgram) -> Linked:
        """A program with numbers for what it names."""
        code, name = program.code, program.spec.name
        values: dict[int, int] = {}
        pinned: set[int] = set()
        addresses: dict[int, int] = {}
        helpers: dict[int, Helper] = {}
        for index, insn in enumerate(code.insns):
            if insn.code == LDDW:
                if insn.src == op.BPF_PSEUDO_FUNC:
                    entry = code.targets[index]
                    if entry not in addresses:
                        addresses[entry] = self.memory.handle(
                            f"the function at {code.slots[entry]} of {name}"
                        )
                    values[index] = addresses[entry]
                else:
                    values[index] = self._constant(program, index, pinned)
            elif insn.code == op.BPF_JMP | op.BPF_CALL and insn.src == 0:
                helper = self._helper(insn.imm)
                assert helper is not None, "the check has seen to it"
                helpers[insn.imm] = helper
        return Linked(name, code, values, frozenset(pinned), helpers, addresses)

    def _constant(self, program: EngineProgram, index: int, pinned: set[int]) -> int:
        """What a 64-bit immediate load gives that is not of a function."""
        insn = program.code.insns[index]
        slot, name = program.code.slots[index], program.spec.name
        if insn.src == 0:
            return insn.imm
        table, offset = None, insn.imm >> 32
        if isinstance(insn.ref, MapFd | MapValue):
            table = self.maps.get(insn.ref.name)
            offset = insn.ref.offset if isinstance(insn.ref, MapValue) else 0
            if table is None:
                raise EngineFault(f"there is no map {insn.ref.name}", slot, program=name)
        elif insn.src in (op.BPF_PSEUDO_MAP_IDX, op.BPF_PSEUDO_MAP_IDX_VALUE):
            tables = list(self.maps.values())
            number = insn.imm & 0xFFFF_FFFF
            if number >= len(tables):
                raise EngineFault(f"there is no map number {number}", slot, program=name)
            table = tables[number]
        if table is None:
            raise EngineFault("a map by its descriptor, which only the kernel has", slot, program=name)
        if insn.src in (op.BPF_PSEUDO_MAP_FD, op.BPF_PSEUDO_MAP_IDX):
            return table.handle
        address = table.lookup(bytes(table.key_size)) if table.spec.type == "ARRAY" else 0
        if not address or offset >= table.value_size:
            raise EngineFault(
                f"map {table.spec.name} has no value with a fixed address at offset {offset}",
                slot,
                program=name,
            )
        pinned.add(index)
        return address + offset

    def _translate(self, linked: list[Linked], native: NativeDoor | None) -> None:
        """Make functions of the programs, by the path of the machine."""
        runtime = self.runtime
        if self.path == "native":
            from tracebee.engine.native import compiled

            if native is None:
                raise UsageError("the native path needs a door to machine code")
            all_functions = compiled(linked, runtime, native)
        elif self.path == "fast":
            from tracebee.engine.translate import translated

            all_functions = [translated(one, runtime) for one in linked]
        else:
            from tracebee.engine.interpreter import interpreted

            all_functions = [interpreted(one, runtime) for one in linked]
        for program, one, functions in zip(self.programs.values(), linked, all_functions, strict=True):
            program.function = runtime.programs[program.number] = functions[0]
            for entry, address in one.addresses.items():
                runtime.functions[address] = functions[entry]

    def _source_line(self, program: str, slot: int) -> str:
        """Where the instruction at `slot` comes from, as ``file:line: text``; empty if that is not known."""
        lines = [line for line in self.programs[program].spec.line_info if line.insn_offset <= slot]
        if not lines or not self.spec.btf:
            return ""
        from tracebee.btf.reader import Btf
        from tracebee.errors import FormatError

        line = max(lines, key=lambda one: one.insn_offset)
        try:
            btf = Btf.from_bytes(self.spec.btf)
            return f"{btf.string(line.file)}:{line.line}: {btf.string(line.text).strip()}"
        except FormatError:
            return ""


def _not_linked(r1: int, r2: int, r3: int, r4: int, r5: int, depth: int) -> int:
    raise InternalError("a program was run before its machine was complete")
