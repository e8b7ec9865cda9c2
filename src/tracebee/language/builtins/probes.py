"""Built-ins about the probe itself: its name, its arguments, its return value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import VOID, Builtin
from tracebee.language.config import OPTIONS
from tracebee.spec.types import UINT64, Bool, Named, Record, Str, Type

if TYPE_CHECKING:
    from tracebee.language.ir import Address, Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference


class Probe(Builtin):
    name = "probe"
    description = "the attach point that fired, in full"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        points = infer.unit.points if infer.unit else []
        return Named("probe", max((len(point.name.encode()) + 1 for point in points), default=1))

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        number = low.unit.kind.load_probe_id(low)
        low.store(to, low.alu("+", number, low.unit.first_probe_id), 8)


class Probetype(Builtin):
    name = "probetype"
    pads_text = True
    description = "the kind of the probe"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        return Str(len(self._text(infer.unit.kind.name if infer.unit else "")) + 1)

    @staticmethod
    def _text(name: str) -> str:
        return "special" if name in ("begin", "end", "self", "test", "bench") else name

    def text(self, low: Lowering, call: tree.Call, to: Address, room: int) -> Operand:
        from tracebee.language.lower import memory

        data = self._text(low.unit.kind.name).encode() + b"\0"
        memory.store_bytes(low, to, data)
        return len(data) - 1


class Func(Builtin):
    name = "func"
    pads_text = True
    description = "the name of the function that is traced"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        unit = infer.unit
        assert unit is not None
        if not unit.points[0].function:
            infer.error(f"The func builtin can not be used with '{unit.kind.name}' probes", call.span)
            return VOID
        names = {point.function for point in unit.points}
        capacity = max(len(name.encode()) for name in names) + 1
        return Str(capacity) if len(names) == 1 else Named("func", capacity)

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        """The number of the point: units have several functions only where they can tell points apart."""
        low.build.names_functions = True
        number = low.unit.kind.load_probe_id(low)
        low.store(to, low.alu("+", number, low.unit.first_probe_id), 8)

    def text(self, low: Lowering, call: tree.Call, to: Address, room: int) -> Operand:
        from tracebee.language.lower import memory

        data = low.unit.points[0].function.encode() + b"\0"
        memory.store_bytes(low, to, data)
        return len(data) - 1


class Args(Builtin):
    name = "args"
    description = "the arguments of the probe by name: args.NAME"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        unit = infer.unit
        assert unit is not None
        if unit.arguments is None:
            reason = unit.kind.no_arguments_reason(unit)
            infer.error(reason[0], call.span, reason[1])
            return VOID
        call.space = "kernel" if unit.kind.space != "user" else "user"
        return unit.kind.arguments_value(unit.arguments)

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        low.unit.kind.store_arguments(low, call, to)


class Arg(Builtin):
    """``argN``."""

    name = "arg"
    forms = ("argN",)
    description = "the Nth argument as a number, from 0"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        unit = infer.unit
        assert unit is not None
        number = call.arguments[0]
        assert isinstance(number, tree.Number)
        infer.visit(number)
        type_ = unit.kind.argument_type(number.value)
        if type_ is None:
            infer.error(unit.kind.no_argument_reason(number.value), call.span)
            return UINT64
        return type_

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        assert isinstance(call.arguments[0], tree.Number)
        number = call.arguments[0].value
        return low.fact(f"arg{number}", lambda: low.unit.kind.load_argument(low, number))


class Retval(Builtin):
    name = "retval"
    description = "what the function returns"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        unit = infer.unit
        assert unit is not None
        type_ = unit.kind.return_type(unit)
        if type_ is None:
            infer.error(
                "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fentry' probes",
                call.span,
            )
            return VOID
        return type_

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        return low.fact("retval", lambda: low.unit.kind.load_return(low))


class Ctx(Builtin):
    name = "ctx"
    description = "the program's context"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        unit = infer.unit
        assert unit is not None
        type_ = unit.kind.context_type(unit, infer.context)
        if type_ is None:
            infer.error(f"The ctx builtin can not be used with '{unit.kind.name}' probes", call.span)
            return VOID
        return type_

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        return low.move(low.ctx())


class Config(Builtin):
    name = "config"
    description = "the configuration in force, as a record"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        names, types = [], []
        for option in OPTIONS.values():
            names.append(option.key)
            types.append(self._type(infer.config.values[option.key]))
        return Record(tuple(names), tuple(types))

    @staticmethod
    def _type(value: int | bool | str) -> Type:
        if isinstance(value, bool):
            return Bool()
        if isinstance(value, int):
            return UINT64
        return Str(len(value.encode()) + 1)

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import memory

        type_ = call.type
        assert isinstance(type_, Record)
        for name, element, offset in zip(type_.names, type_.elements, type_.offsets, strict=True):
            value = low.config.values[name]
            if isinstance(value, str):
                memory.store_bytes(low, to.plus(offset), value.encode().ljust(element.size, b"\0"))
            else:
                low.store(to.plus(offset), int(value), element.size)
