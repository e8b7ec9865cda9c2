"""Built-ins that turn names into addresses, and addresses into names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import Builtin, address_argument, literal_text
from tracebee.language.diagnostics import nearest
from tracebee.language.rules import is_integer
from tracebee.spec.types import INT8, UINT64, KSym, Pointer, Type, USym, Void

if TYPE_CHECKING:
    from tracebee.language.ir import Address, Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference


class Ksym(Builtin):
    name = "ksym"
    forms = ("ksym(address)",)
    description = "the kernel symbol at an address; looked up when it is printed"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        address_argument(infer, call, 0)
        return KSym()

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import expressions

        low.store(to, expressions.number(low, call.arguments[0]), 8)


class Usym(Builtin):
    name = "usym"
    forms = ("usym(address)",)
    description = "the symbol at an address of the running process; looked up when it is printed"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        address_argument(infer, call, 0)
        infer.context.uses_user_symbols = True
        return USym()

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import expressions

        low.store(to, expressions.number(low, call.arguments[0]), 8)
        both = low.fact("pid_tgid", lambda: low.call("get_current_pid_tgid"))
        low.store(to.plus(8), low.fact("tgid", lambda: low.alu(">>", both, 32)), 4)
        low.store(to.plus(12), 0, 4)


class Kaddr(Builtin):
    name = "kaddr"
    forms = ('kaddr("symbol")',)
    description = "the address of a kernel symbol"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        name = literal_text(infer, call, 0)
        if name is not None and infer.final and infer.context.machine.kernel_address(name) is None:
            infer.error(f"Failed to resolve kernel symbol: {name}", call.span)
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        assert isinstance(call.arguments[0], tree.Text)
        address = low.machine.kernel_address(call.arguments[0].text)
        assert address is not None
        return address


class PercpuKaddr(Builtin):
    name = "percpu_kaddr"
    forms = ('percpu_kaddr("variable"[, cpu])',)
    description = "the address of a per-CPU variable of the kernel; 0 if there is no such CPU"
    minimum = 1
    maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        name = literal_text(infer, call, 0)
        if len(call.arguments) == 2:
            infer.number(call.arguments[1])
        if name is None:
            return UINT64
        btf = infer.types.btf
        from tracebee.btf.types import Var

        variable = None if btf is None else btf.find(name, Var)
        if btf is None or variable is None:
            infer.error(f'Could not resolve variable "{name}" from BTF', call.span)
            return UINT64
        found = btf.type(variable)
        assert isinstance(found, Var)
        target = infer.types.from_btf(found.type_id)
        return Pointer(target, "kernel")

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.ir import KernelVariable
        from tracebee.language.lower import expressions

        assert isinstance(call.arguments[0], tree.Text)
        spot = low.move(KernelVariable(call.arguments[0].text))
        if len(call.arguments) == 2:
            return low.call("per_cpu_ptr", spot, expressions.number(low, call.arguments[1]))
        return low.call("this_cpu_ptr", spot)


class Uaddr(Builtin):
    name = "uaddr"
    forms = ('uaddr("symbol")',)
    description = "the address of a variable of the traced program"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        name = literal_text(infer, call, 0)
        unit = infer.unit
        assert unit is not None
        if name is None:
            return UINT64
        width = unit.kind.user_symbol_size(unit, name, infer.context)
        if width is None:
            infer.error(f"uaddr(\"{name}\") can not be used with '{unit.kind.name}' probes", call.span)
            return UINT64
        if width < 0:
            infer.error(f"Could not resolve symbol: {name}", call.span)
            return UINT64
        from tracebee.spec.types import Int

        return Pointer(Int(width if width in (1, 2, 4, 8) else 8, False), "user")

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        assert isinstance(call.arguments[0], tree.Text)
        result: Operand = low.unit.kind.load_user_symbol(low, call.arguments[0].text)
        return result


class _Space(Builtin):
    """Says in which address space a pointer points."""

    minimum = maximum = 1
    space = ""

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        type_ = infer.number(call.arguments[0])
        if isinstance(type_, Pointer):
            return Pointer(type_.target, self.space)
        if not is_integer(type_) and not isinstance(type_, Void):
            infer.error(f"{self.name}() only supports integer or pointer arguments", call.span)
            return UINT64
        return Pointer(INT8, self.space)

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import expressions

        return expressions.number(low, call.arguments[0])


class Kptr(_Space):
    name = "kptr"
    forms = ("kptr(address)",)
    description = "the same address, taken to be the kernel's"
    space = "kernel"


class Uptr(_Space):
    name = "uptr"
    forms = ("uptr(address)",)
    description = "the same address, taken to be the process's"
    space = "user"


class Reg(Builtin):
    name = "reg"
    forms = ('reg("name")',)
    description = "a register of the processor at the probe"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        name = literal_text(infer, call, 0)
        unit = infer.unit
        assert unit is not None
        if not unit.kind.has_registers:
            infer.error(f'reg can not be used with "{unit.kind.name}" probes', call.span)
        registers = infer.context.machine.arch.registers
        if name is not None and name not in registers:
            infer.error(
                f"'{name}' is not a valid register on this architecture ({infer.context.machine.arch.name})",
                call.span,
                nearest(name, registers),
            )
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        assert isinstance(call.arguments[0], tree.Text)
        return low.load_register(call.arguments[0].text)
