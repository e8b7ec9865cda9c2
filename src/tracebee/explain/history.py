"""Where a register got what it holds: the failing path walked backwards.

The verifier's last words name a register and its type.  Which call, load or branch gave it that type decides
between the causes that share a message, and names the variable and the call to a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.operations import Operation, parse_operation
from tracebee.explain.states import Value
from tracebee.records import Frozen

if TYPE_CHECKING:
    from tracebee.explain.log import Insn, VerifierLog

MAX_DEPTH = 200
"""Steps of a story; a longer one is a loop that was unrolled."""

FRAME_POINTER = 10
MAX_SCAN = 60_000
MAX_WORK = 4_000_000
"""Instructions that are looked at for all questions to one path together; beyond it the answer is "unknown"."""


class Origin(Frozen):
    """The place where a register's value began.

    ========= =======================================================================================
    kind      call, constant, context, argument, load, stack, address, stored, unknown
    position  in the path, or None
    name      of a call: the function; of a load: the kind of memory
    register  that held it there
    offset    in the context, in memory or from the frame pointer
    constant  the number
    steps     positions in the path of what happened on the way, latest first
    base      where the address of a load came from
    changes   operations on the value on the way, latest first
    ========= =======================================================================================
    """

    kind: str
    position: int | None = None
    name: str = ""
    register: int = 0
    offset: int = 0
    constant: int | None = None
    steps: tuple[int, ...] = ()
    base: Origin | None = None
    changes: tuple[Operation, ...] = ()
    slot: int | None = None

    def root(self) -> Origin:
        """The first of the chain of loads."""
        origin = self
        for _ in range(MAX_DEPTH):
            if origin.base is None:
                break
            origin = origin.base
        return origin


class Path:
    """The instructions that led to the last one, in the order of execution."""

    def __init__(self, log: VerifierLog) -> None:
        by_order = {insn.order: insn for insn in log.insns}
        backwards: list[Insn] = []
        insn = log.last()
        while insn is not None and len(backwards) < MAX_SCAN:
            backwards.append(insn)
            insn = by_order.get(insn.origin)
        backwards.reverse()
        self.insns = backwards
        self.complete = bool(backwards) and backwards[0].index == 0 and not log.gap and not log.head_cut
        self.gap = log.gap
        self.work = 0
        self._operations: dict[int, Operation] = {}

    def __len__(self) -> int:
        return len(self.insns)

    def operation(self, position: int) -> Operation:
        """The parts of the instruction at a position."""
        known = self._operations.get(position)
        if known is None:
            insn = self.insns[position]
            known = self._operations[position] = parse_operation(insn.opcode, insn.text)
        return known

    def definition(self, position: int, register: int) -> int | None:
        """The position where the register that `position` reads was written, or None.

        Follows arguments into the caller, and results into the function that returned them.
        """
        frame = self.insns[position].frame
        for at in range(position - 1, -1, -1):
            self.work += 1
            if self.work > MAX_WORK:
                return None
            insn = self.insns[at]
            if insn.frame > frame:
                if register == 0 and insn.opcode == 0x95 and insn.frame == frame + 1:
                    return self.definition(at, 0)
                continue
            if insn.frame < frame:
                if not 1 <= register <= 5 or not insn.text.startswith("call pc"):
                    return None
                frame = insn.frame
                continue
            if self.operation(at).writes(register):
                return at
        return None

    def value(self, position: int, register: int) -> Value | None:
        """What the verifier said of a register before the instruction at `position`, or None.

        What it said is as old as the last line that had the register; an unprinted write makes it unknown.
        """
        if not 0 <= position < len(self.insns):
            return None
        frame = self.insns[position].frame
        for at in range(position, -1, -1):
            self.work += 1
            if self.work > MAX_WORK:
                return None
            insn = self.insns[at]
            if insn.frame != frame:
                if insn.frame < frame:
                    return None
                continue
            known = insn.before().registers.get(register)
            if known is not None:
                return known
            if at == 0:
                return None
            earlier = self.insns[at - 1]
            if earlier.frame == frame:
                state = earlier.after()
                known = state.registers.get(register)
                if known is not None:
                    return known
                if self.operation(at - 1).writes(register):
                    return None
        return None

    def frame_offset(self, position: int, register: int) -> int | None:
        """The distance from the frame pointer, if the register points to the stack, before `position`."""
        added = 0
        for _ in range(MAX_DEPTH):
            if register == FRAME_POINTER:
                return added
            known = self.value(position, register)
            if known is not None:
                return known.const + added if known.kind == "fp" and known.const is not None else None
            at = self.definition(position, register)
            if at is None:
                return None
            operation = self.operation(at)
            if operation.kind == "move" and operation.source is not None:
                register = operation.source
            elif operation.kind == "alu" and operation.constant is not None and operation.operator in "+-":
                added += operation.constant if operation.operator == "+" else -operation.constant
            else:
                return None
            position = at
        return None

    def trace(self, position: int, register: int, depth: int = 0) -> Origin:
        """Where the value came from that the instruction at `position` reads in `register`."""
        steps: list[int] = []
        changes: list[Operation] = []
        for _ in range(MAX_DEPTH):
            at = self.definition(position, register)
            if at is None:
                return self._entry(position, register, steps, changes)
            steps.append(at)
            operation = self.operation(at)
            done = tuple(steps)
            match operation.kind:
                case "move" if operation.source is not None:
                    register = operation.source
                case "constant":
                    return Origin(
                        "constant", at, "", register, 0, operation.constant, done, None, tuple(changes)
                    )
                case "alu":
                    changes.append(operation)
                case "call":
                    name = operation.name or (f"#{operation.number}" if operation.number is not None else "")
                    return Origin("call", at, name, register, 0, None, done, None, tuple(changes))
                case "address":
                    return Origin("address", at, "", register, 0, None, done, None, tuple(changes))
                case "load" if operation.base is not None:
                    slot = self.frame_offset(at, operation.base)
                    if slot is not None:
                        slot += operation.offset
                        stored = self.writer(at, slot, operation.size)
                        if stored is None:
                            return Origin(
                                "stack", at, "", register, slot, None, done, None, tuple(changes), slot
                            )
                        store = self.operation(stored)
                        if (
                            store.kind == "store"
                            and store.source is not None
                            and store.size == operation.size
                        ):
                            steps.append(stored)
                            position, register = stored, store.source
                            continue
                        return Origin(
                            "stored",
                            stored,
                            store.name,
                            register,
                            slot,
                            None,
                            done,
                            None,
                            tuple(changes),
                            slot,
                        )
                    if depth > 20:
                        return Origin("load", at, "", register, operation.offset, None, done)
                    return self._load(at, operation, register, done, tuple(changes), depth)
                case _:
                    return Origin("unknown", at, "", register, 0, None, done, None, tuple(changes))
            position = at
        return Origin("unknown", None, "", register, 0, None, tuple(steps), None, tuple(changes))

    def _load(
        self, at: int, operation: Operation, register: int, steps: tuple[int, ...], changes: tuple[Operation, ...],
        depth: int,
    ) -> Origin:  # fmt: skip
        base = operation.base or 0
        known = self.value(at, base)
        origin = self.trace(at, base, depth + 1)
        kind = known.kind if known is not None else origin.name if origin.kind == "load" else ""
        if kind == "ctx" or (not kind and origin.kind == "context" and origin.name == "pointer"):
            return Origin("context", at, "ctx", register, operation.offset, None, steps, None, changes)
        return Origin("load", at, kind, register, operation.offset, None, steps, origin, changes)

    def _entry(self, position: int, register: int, steps: list[int], changes: list[Operation]) -> Origin:
        first = self.insns[0] if self.insns else None
        known = first.before().registers.get(register) if first is not None else None
        kind = "argument"
        in_main = position < len(self.insns) and self.insns[position].frame == 0
        unsaid = known is None and register == 1 and in_main and first is not None and first.index == 0
        if unsaid or (known is not None and known.kind == "ctx"):
            kind = "context-pointer"
        elif not 1 <= register <= 5 or not self.complete:
            kind = "argument" if known is not None else "unknown"
        if kind == "context-pointer":
            return Origin("context", None, "pointer", register, 0, None, tuple(steps), None, tuple(changes))
        return Origin(kind, None, "", register, 0, None, tuple(steps), None, tuple(changes))

    def writer(self, position: int, slot: int, size: int) -> int | None:
        """The position of the last write to stack bytes before `position`, by a store or a helper, or None."""
        frame = self.insns[position].frame
        for at in range(position - 1, -1, -1):
            self.work += 1
            if self.work > MAX_WORK:
                return None
            insn = self.insns[at]
            if insn.frame != frame:
                if insn.frame < frame:
                    return None
                continue
            operation = self.operation(at)
            if operation.kind in ("store", "atomic") and operation.base is not None:
                start = self.frame_offset(at, operation.base)
                if start is None:
                    continue
                start += operation.offset
                if start < slot + size and slot < start + operation.size:
                    return at
            elif operation.kind == "call" and self.writes_slot(at, slot, size):
                return at
        return None

    def writes_slot(self, position: int, slot: int, size: int) -> bool:
        """Whether the call at `position` gets a pointer to these stack bytes, and may write there."""
        name = self.operation(position).name
        if name.startswith(("bpf_map_", "bpf_trace_", "bpf_ringbuf_output", "bpf_perf_event_output")):
            return False
        for register in range(1, 6):
            start = self.frame_offset(position, register)
            if start is None or start > slot:
                continue
            length = self.constant(position, register + 1) if register < 5 else None
            if length is None and register > 1:
                length = self.constant(position, register - 1)
            # A dynptr has 16 bytes and no size beside it; nothing that a helper fills without a size is larger.
            if slot < start + (length or 16) and start < slot + size:
                return True
        return False

    def constant(self, position: int, register: int) -> int | None:
        """The known number in a register before `position`, or None."""
        known = self.value(position, register)
        if known is not None:
            return known.const if known.kind == "scalar" else None
        at = self.definition(position, register)
        if at is None:
            return None
        operation = self.operation(at)
        return operation.constant if operation.kind == "constant" else None

    def calls_between(self, first: int, last: int) -> list[tuple[int, str]]:
        """Position and name of the calls after `first` and before `last`."""
        found: list[tuple[int, str]] = []
        for at in range(max(first + 1, 0), min(last, len(self.insns))):
            if self.insns[at].opcode == 0x85:
                found.append((at, self.operation(at).name))
        return found
