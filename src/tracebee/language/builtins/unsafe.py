"""Built-ins that change what they observe; they need --unsafe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import VOID, Builtin, address_argument, integer_argument
from tracebee.language.rules import is_integer
from tracebee.spec.types import Pointer, Str, Type

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference


class Unsafe(Builtin):
    unsafe = True
    has_effect = True


class Signal(Unsafe):
    name = "signal"
    forms = ("signal(number)", 'signal("NAME")')
    description = "send a signal to the process"
    minimum = maximum = 1
    helper = "send_signal"

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        argument = call.arguments[0]
        type_ = infer.visit(argument)
        if isinstance(argument, tree.Text):
            if self._number(argument.text) is None:
                infer.error(f"{argument.text} is not a valid signal", call.span)
        elif not is_integer(type_):
            infer.error(f"{self.name}() expects a number or the name of a signal", call.span)
        elif isinstance(argument, tree.Number) and not 1 <= argument.value <= 64:
            infer.error(f"{argument.value} is not a valid signal, allowed range: [1,64]", call.span)
        return VOID

    @staticmethod
    def _number(name: str) -> int | None:
        import signal

        full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
        found = getattr(signal.Signals, full, None)
        return None if found is None else int(found)

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import expressions, memory

        argument = call.arguments[0]
        number: Operand | None
        if isinstance(argument, tree.Text):
            number = self._number(argument.text)
            assert number is not None
        else:
            number = expressions.number(low, argument)
        memory.warn_if_failed(low, self.helper, low.call(self.helper, number))


class SignalThread(Signal):
    name = "signal_thread"
    forms = ("signal_thread(number)", 'signal_thread("NAME")')
    description = "send a signal to the thread"
    helper = "send_signal_thread"


class Override(Unsafe):
    name = "override"
    forms = ("override(value)",)
    description = "make the probed kernel function return a value without running it; kprobes only"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        integer_argument(infer, call, 0)
        unit = infer.unit
        assert unit is not None
        if unit.kind.name != "kprobe":
            infer.error(f'override can not be used with "{unit.kind.name}" probes', call.span)
        elif not infer.context.machine.feature("override_return"):
            infer.error(
                "override() needs a kernel built with CONFIG_BPF_KPROBE_OVERRIDE: this one has no helper "
                "override_return",
                call.span,
            )
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import expressions

        low.call("override_return", low.ctx(), expressions.number(low, call.arguments[0]))


class WriteUser(Unsafe):
    name = "write_user"
    forms = ("write_user(address, value)", "write_user(address, string, length)")
    description = "overwrite memory of the process"
    minimum = 2
    maximum = 3

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        address_argument(infer, call, 0)
        infer.visit(call.arguments[1])
        if len(call.arguments) == 3:
            integer_argument(infer, call, 2)
            if not isinstance(call.arguments[2], tree.Number):
                infer.error("write_user() expects a literal number of bytes", call.span)
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import expressions, memory, places

        target, value = call.arguments[0], call.arguments[1]
        assert isinstance(target.type, Pointer) or is_integer(target.type)
        size = value.type.size
        if len(call.arguments) == 3:
            length = call.arguments[2]
            assert isinstance(length, tree.Number)
            size = min(size, length.value)
        elif isinstance(value, tree.Text) and isinstance(value.type, Str):
            size = len(value.value)
        with low.temporaries():
            address = expressions.number(low, target)
            place = places.local(low, places.any_place(low, value))
            result = low.call("probe_write_user", address, low.pointer(place.address), size)
            memory.warn_if_failed(low, "probe_write_user", result)
