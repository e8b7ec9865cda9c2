"""Tracepoints, with arguments from the kernel's format files."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tracebee.language.ir import Address
from tracebee.language.probes.base import Expansion, Point, ProbeKind, Unit, Uses, no_match
from tracebee.language.typetable import c_integer
from tracebee.spec.objects import ProbeSpec, RawTracepoint, Tracepoint
from tracebee.spec.types import (
    INT8,
    UINT64,
    Array,
    Field,
    Int,
    Pointer,
    Str,
    Struct,
    Type,
    Void,
    align_up,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.ir import Operand, Reg
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.machine import EventField, EventFormat
    from tracebee.language.source import Span
    from tracebee.language.typetable import TypeTable

FEW = 2
"""Up to so many system call tracepoints of a script are attached as what they are; see `lower_syscalls`."""

MANY = 64
"""The same where raw tracepoints of system calls can be preempted, see `few_syscalls`."""


def few_syscalls(context: Expansion) -> int:
    """How many tracepoints of system calls stay what they are; more of them become one raw tracepoint.

    With Linux 7 their raw tracepoints run preemptible, guarded by SRCU: while one task is preempted in the program,
    its runs for other tasks on that CPU are skipped.  Losing events is worse than a slow end, so many stay plain.
    """
    from tracebee.btf.types import Struct, Var

    btf = context.types.btf
    if btf is None or btf.find("tracepoint_ext", (Struct,)) is None:
        return FEW
    # Older kernels have such a variable for tracepoints in idle tasks; the structure came after those had gone.
    return MANY if btf.find("tracepoint_srcu_srcu_data", (Var,)) is not None else FEW


class TracepointKind(ProbeKind):
    name = "tracepoint"
    aliases = ("t",)
    forms = ("tracepoint:category:event",)
    filters_by_program = True
    is_exclusive = True
    program_type = "TRACEPOINT"
    space = "kernel"

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        if len(parts) != 2 or not all(parts):
            context.diagnostics.error(
                f"{self.name} probe type requires 2 arguments, found {len(parts)}",
                span,
                f"write {self.forms[0]}",
            )
            return []
        category, event = parts
        if is_pattern(category) or is_pattern(event):
            found = [
                (one, other)
                for one, other in sorted(context.machine.tracepoints())
                if fnmatchcase(one, category) and fnmatchcase(other, event)
            ]
        else:
            exists = context.machine.has_tracepoint(category, event)
            found = [(category, event)] if exists else []
        if not found:
            no_match(self, f"{category}:{event}", span, context)
        return [
            Point(f"tracepoint:{one}:{other}", Tracepoint(one, other), facts=(one, other))
            for one, other in found
        ]

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        for category, event in context.machine.tracepoints():
            name = f"tracepoint:{category}:{event}"
            if fnmatchcase(name, pattern):
                yield name

    def describe_arguments(self, name: str, context: Expansion) -> Iterable[tuple[str, str]]:
        _, category, event = name.split(":", 2)
        found = context.machine.tracepoint_format(category, event)
        for field in found.fields if found is not None else ():
            if field.is_common:
                continue
            suffix = f"[{field.count}]" if field.count else "[]" if field.is_array else ""
            if field.data_loc:
                yield f"__{field.data_loc} {field.c_type}[]", field.name
            else:
                yield field.c_type, f"{field.name}{suffix}"

    # --- sharing programs

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        if not uses.arguments:
            return ()
        type_ = self.arguments(point, context)
        if uses.members is None or type_ is None:
            return point.name
        members = []
        for name in sorted(uses.members):
            field = type_.find(name)
            members.append((name, None if field is None else (field.offset, field.type)))
        return tuple(members)

    def tells_points_apart(self, context: Expansion) -> bool:
        return context.machine.feature("get_attach_cookie") and context.machine.feature("perf_link")

    # --- arguments

    def arguments(self, point: Point, context: Expansion) -> Struct | None:
        category, event = point.facts
        found = context.machine.tracepoint_format(category, event)
        if found is None:
            return None
        return args_struct(f"{category}:{event}", found, context.types, category == "syscalls")

    def arguments_value(self, arguments: Struct) -> Struct:
        """The record's layout; data that lie elsewhere get a pointer behind it, as eight bytes are not there."""
        if not any(field.bits == DATA_LOC for field in arguments.fields):
            return arguments
        fields, end = [], align_up(arguments.size, 8)
        for field in arguments.fields:
            if field.bits == DATA_LOC:
                fields.append(Field(field.name, field.type, end))
                end += field.type.size
            else:
                fields.append(field)
        return Struct("struct", arguments.name, end, 8, (arguments.origin, "value"), lambda: tuple(fields))

    def no_member_reason(self, unit: Unit, name: str) -> str:
        if name.startswith("common_"):
            return "BPF does not support accessing common tracepoint fields"
        return ""

    def load_member(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.places import Place

        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        if isinstance(field.type, Pointer) and field.bits == DATA_LOC:
            return self._data_loc(low, field)
        return Place(Address(low.ctx(), field.offset), field.type)

    def _data_loc(self, low: Lowering, field: Field) -> Any:
        """The address of data whose place in the record is in the lower 16 bits of a u32."""
        from tracebee.language.lower.places import Place

        where = low.load(Address(low.ctx(), field.offset), 4)
        offset = low.alu("&", where, 0xFFFF)
        base: Operand = low.ctx()
        if field.bit_offset:
            base = low.alu("+", base, field.offset + 4)  # rel_loc counts from the end of the field
        address = low.alu("+", base, offset)
        slot = low.memory(8, on_stack=True)
        low.store(slot, address, 8)
        return Place(slot, field.type)

    def load_probe_id(self, low: Lowering) -> Any:
        if len(low.unit.points) == 1:
            return 0
        return low.fact("cookie", lambda: low.call("get_attach_cookie", low.ctx()))


DATA_LOC = -1
"""`Field.bits` of a field that is a __data_loc; `bit_offset` is then 1 for a __rel_loc."""


def is_pattern(text: str) -> bool:
    return any(char in text for char in "*?[")


def args_struct(name: str, event: EventFormat, types: TypeTable, is_syscall: bool) -> Struct:
    """The type of `args` for a tracepoint: without the common fields, which a program may not read."""
    fields = []
    for field in event.fields:
        if field.is_common:
            continue
        type_ = field_type(field, types, is_syscall)
        if field.data_loc:
            fields.append(Field(field.name, type_, field.offset, DATA_LOC, int(field.data_loc == "rel_loc")))
        else:
            fields.append(Field(field.name, type_, field.offset))
    size = max((field.offset + field.size for field in event.fields), default=0)
    return Struct("struct", f"args of {name}", size, 8, ("tracepoint", name), lambda: tuple(fields))


def field_type(field: EventField, types: TypeTable, is_syscall: bool) -> Type:
    """The type of a field of a record.

    The width is what the C type says where the kernel gives the field more room: all arguments of a system
    call take eight bytes, and an ``int`` counts with its four.
    """
    c_type = " ".join(word for word in field.c_type.split() if word not in ("const", "volatile", "struct_"))
    if field.data_loc:
        return Pointer(INT8, "kernel")
    if c_type.endswith("*"):
        return Pointer(pointee(c_type[:-1].strip(), types), "user" if is_syscall else "kernel")
    if field.count or field.is_array:
        element_size = field.size // field.count if field.count else 1
        if c_type == "char" and field.count:
            return Str(field.count)
        element = named_type(c_type, types)
        if element is None or element.size != element_size:
            element = Int(element_size, field.signed) if element_size in (1, 2, 4, 8) else INT8
        return Array(element, field.count)
    found = named_type(c_type, types)
    if found is not None and isinstance(found, Struct) and found.size == field.size:
        return found
    if found is not None and found.is_scalar and 0 < found.size <= field.size:
        if isinstance(found, Int) and found.size < field.size and not is_syscall:
            return Int(field.size, field.signed) if field.size in (1, 2, 4, 8) else found
        return found
    if field.size in (1, 2, 4, 8):
        return Int(field.size, field.signed)
    return Array(Int(1, False), field.size)


def pointee(text: str, types: TypeTable) -> Type:
    """What a pointer written in C points to; void where that is not known."""
    text = text.removesuffix("const").strip()
    if text.endswith("*"):
        return Pointer(pointee(text[:-1].strip(), types), "")
    if text == "char":
        return INT8
    found = named_type(text, types)
    return Void() if found is None else found


def named_type(text: str, types: TypeTable) -> Type | None:
    """A C type by its spelling."""
    integer = c_integer(text)
    if integer is not None:
        return integer
    return types.find(text)


# --- system calls


def syscall_number(event: str, numbers: dict[str, int]) -> int | None:
    """The number of the system call that a tracepoint of category syscalls is about."""
    return numbers.get(event.removeprefix("sys_enter_").removeprefix("sys_exit_"))


def lower_syscalls(
    points: list[tuple[ProbeKind, Point]], context: Expansion
) -> list[tuple[ProbeKind, Point]]:
    """Put raw tracepoints in place of tracepoints of system calls.

    Opening a tracepoint of a system call is quick, closing it takes the kernel tens of milliseconds, one by
    one: for all of them half a minute.  One program on raw_syscalls' sys_enter that looks at the number does
    the same.  A point whose number is not known stays as it is.
    """
    numbers = context.machine.syscall_numbers()
    typed = context.machine.feature("tp_btf")
    enter_kind = TypedSyscallEnter() if typed else SyscallEnter()
    exit_kind = TypedSyscallExit() if typed else SyscallExit()
    changed: list[tuple[ProbeKind, Point]] = []
    for kind, point in points:
        place = point.attach
        if isinstance(place, Tracepoint) and is_syscall_event(place):
            number = syscall_number(place.event, numbers)
            if number is not None:
                enters = place.event.startswith("sys_enter_")
                lowered = enter_kind if enters else exit_kind
                attach = RawTracepoint("sys_enter" if enters else "sys_exit")
                changed.append((lowered, Point(point.name, attach, "", (*point.facts, number))))
                continue
        changed.append((kind, point))
    return changed


def is_syscall_event(place: Tracepoint) -> bool:
    return place.category == "syscalls" and place.event.startswith(("sys_enter_", "sys_exit_"))


class SyscallKind(TracepointKind):
    """System call tracepoints by one raw tracepoint and a look at the number."""

    program_type = "RAW_TRACEPOINT"
    is_exclusive = False
    event = ""
    table_from = 6
    """With more numbers than this, a table is quicker than comparing with each."""

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        if not uses.arguments:
            return ()
        type_ = self.arguments(point, context)
        if uses.members is None or type_ is None:
            return point.name
        found = [(name, type_.find(name)) for name in sorted(uses.members)]
        return tuple((name, field and (field.offset, field.type)) for name, field in found)

    def tells_points_apart(self, context: Expansion) -> bool:
        return True

    def arguments(self, point: Point, context: Expansion) -> Struct | None:
        category, event, _ = point.facts
        found = context.machine.tracepoint_format(category, event)
        if found is None:
            return None
        # Newer kernels copy what the arguments point to behind them; that is not in the registers.
        plain = [field for field in found.fields if not field.is_common and not field.data_loc]
        # The offset is the position among the arguments: 0 is the number, then what the call takes.
        fields = tuple(
            Field(field.name, field_type(field, context.types, True), position)
            for position, field in enumerate(plain)
        )
        return Struct("struct", f"args of {event}", 8 * len(fields), 8, ("syscall", event), lambda: fields)

    def arguments_value(self, arguments: Struct) -> Struct:
        """As in the tracepoint's record: eight bytes each, behind the common fields."""
        fields = tuple(Field(field.name, field.type, 8 + 8 * field.offset) for field in arguments.fields)
        size = 8 + 8 * len(fields)
        return Struct("struct", arguments.name, size, 8, (arguments.origin, "value"), lambda: fields)

    # --- code

    def prologue(self, low: Lowering) -> None:
        """Leave unless the number is one of the unit's."""
        done = low.here.return_label
        number = self.number(low)
        self._leave_compat(low, done)
        numbers = [point.facts[2] for point in low.unit.points]
        if len(numbers) == 1:
            low.branch("!=", number, numbers[0], done)
            return
        if len(numbers) <= self.table_from:
            index = low.move(0, "probe")
            matched = low.label("matched")
            for position, wanted in enumerate(numbers):
                low.set(index, position)
                low.branch("==", number, wanted, matched)
            low.jump(done)
            low.place_label(matched)
            low.fact("probe index", lambda: index)
            return
        self._look_up(low, number, numbers, done)

    def _look_up(self, low: Lowering, number: Operand, numbers: list[int], done: str) -> None:
        """A table of u16 by number: 0 for the calls of others, else the position plus one."""
        from tracebee.language.ir import MapSpot
        from tracebee.language.lower.build import RODATA_MAP

        table = bytearray(2 * (max(numbers) + 1))
        for position, wanted in enumerate(numbers):
            table[2 * wanted : 2 * wanted + 2] = (position + 1).to_bytes(2, "little")
        offset = low.build.constant(bytes(table))
        low.branch(">", number, max(numbers), done)
        spot = low.move(MapSpot(RODATA_MAP, offset))
        place = low.address(low.alu("+", spot, low.alu("<<", number, 1)))
        entry = low.load(place, 2)
        low.branch("==", entry, 0, done)
        index = low.alu("-", entry, 1)
        low.fact("probe index", lambda: index)

    def _leave_compat(self, low: Lowering, done: str) -> None:
        """Calls of 32-bit programs have other numbers; the tracepoints leave them out as well."""
        arch = low.machine.arch
        if arch.name == "x86_64":
            # __USER32_CS, arch/x86/include/asm/segment.h
            low.branch("==", self.register(low, "cs"), 0x23, done)
        elif arch.name == "aarch64":
            # PSR_MODE32_BIT
            low.branch("&", self.register(low, "pstate"), 0x10, done)

    def register(self, low: Lowering, name: str) -> Operand:
        """A register of the system call, from the struct pt_regs that the first argument points to."""
        from tracebee.language.lower import memory

        offset = low.machine.arch.registers[name]
        if low.unit.kind.program_type == "TRACING":
            return low.fact(f"register {name}", lambda: low.load(Address(self._regs(low), offset), 8))
        return low.fact(
            f"register {name}",
            lambda: memory.read_scalar(low, "kernel", Address(self._regs(low), offset), 8, False),
        )

    def _regs(self, low: Lowering) -> Reg:
        found = low.fact("pt_regs", lambda: low.load(Address(low.ctx(), 0), 8))
        assert not isinstance(found, int)
        return found

    def number(self, low: Lowering) -> Operand:
        """The number of the system call."""
        raise NotImplementedError

    def load_member(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.expressions import narrowed
        from tracebee.language.lower.places import Place

        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        value = self.number(low) if field.offset == 0 else self.argument(low, field.offset - 1)
        slot = low.memory(8, on_stack=True)
        low.store(slot, narrowed(low, value, UINT64, field.type), 8)
        return Place(slot, field.type)

    def member_value(self, low: Lowering, member: str) -> Operand:
        """The number that a member of `args` is."""
        from tracebee.language.lower.expressions import narrowed

        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        value = self.number(low) if field.offset == 0 else self.argument(low, field.offset - 1)
        return narrowed(low, value, UINT64, field.type)

    def argument(self, low: Lowering, position: int) -> Operand:
        """The argument at a position, from 0, or what the call returns."""
        raise NotImplementedError

    def load_probe_id(self, low: Lowering) -> Any:
        if len(low.unit.points) == 1:
            return 0
        return low.fact("probe index", lambda: 0)

    def probes(self, unit: Unit) -> list[ProbeSpec]:
        first = unit.points[0]
        return [ProbeSpec(first.name, unit.name, first.attach, covers=len(unit.points))]

    def attach_to(self, unit: Unit) -> str:
        return f"btf_trace_{self.event}" if self.program_type == "TRACING" else ""


class SyscallEnter(SyscallKind):
    event = "sys_enter"

    def number(self, low: Lowering) -> Operand:
        return low.fact("syscall", lambda: low.load(Address(low.ctx(), 8), 8))

    def argument(self, low: Lowering, position: int) -> Operand:
        return self.register(low, low.machine.arch.syscall_arguments[position])


class SyscallExit(SyscallKind):
    event = "sys_exit"

    def number(self, low: Lowering) -> Operand:
        return self.register(low, low.machine.arch.syscall_number)

    def argument(self, low: Lowering, position: int) -> Operand:
        return low.fact("returned", lambda: low.load(Address(low.ctx(), 8), 8))


class TypedSyscallEnter(SyscallEnter):
    """The same with typed arguments, whose memory is read without a helper (BPF_TRACE_RAW_TP, Linux 5.5)."""

    program_type = "TRACING"
    expected_attach_type = "TRACE_RAW_TP"


class TypedSyscallExit(SyscallExit):
    program_type = "TRACING"
    expected_attach_type = "TRACE_RAW_TP"
