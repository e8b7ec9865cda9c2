"""What kinds share whose context is a struct pt_regs: uprobes, kprobes, USDT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.language.ir import Address
from tracebee.language.probes.base import ProbeKind, Unit
from tracebee.spec.types import INT64, UINT64, Field, Struct, Type, align_up

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering

MOST_ARGUMENTS = 255


class RegisterKind(ProbeKind):
    """Arguments and return value by the processor's calling convention."""

    program_type = "KPROBE"
    has_registers = True
    returns = False

    def arguments_value(self, arguments: Struct) -> Struct:
        fields, end = [], 0
        for field in arguments.fields:
            end = align_up(end, field.type.align)
            fields.append(Field(field.name, field.type, end))
            end += field.type.size
        origin = (arguments.origin, "value")
        return Struct("struct", arguments.name, align_up(end, 8), 8, origin, lambda: tuple(fields))

    def argument_type(self, number: int) -> Type | None:
        return None if self.returns or number > MOST_ARGUMENTS else INT64

    def return_type(self, unit: Unit) -> Type | None:
        return UINT64 if self.returns else None

    def load_argument(self, low: Lowering, number: int) -> Any:
        """From a register, or from the stack above the return address."""
        from tracebee.language.lower import memory

        arch = low.machine.arch
        registers = arch.function_arguments
        if number < len(registers):
            return low.load_register(registers[number])
        position = number - len(registers) + (1 if arch.name == "x86_64" else 0)
        stack = low.load_register(arch.stack_pointer)
        return memory.read_scalar(low, self.space, Address(stack, 8 * position), 8, False)

    def load_return(self, low: Lowering) -> Operand:
        return low.load_register(low.machine.arch.returned)
