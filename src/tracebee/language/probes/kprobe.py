"""Kernel functions by kprobes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.language.probes.base import Expansion, Point, Unit, Uses
from tracebee.language.probes.functions import (
    CORE,
    Function,
    describe_prototype,
    find_functions,
    from_register,
    listed_functions,
    load_wrapped,
    merged_result,
    prototype_of,
    syscall_arguments,
    warn_of_wrapper,
    wrapper_of,
)
from tracebee.language.probes.registers import RegisterKind
from tracebee.language.probes.tracepoint import is_pattern
from tracebee.records import Frozen
from tracebee.spec.objects import Kprobe, KprobeMulti, ProbeSpec
from tracebee.spec.types import UINT64, Field, Struct, Type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.source import Span

CALL_ARGUMENT = -1
"""`Field.bits` of an argument of a system call; `offset` is then its position among them."""


class Place(Frozen):
    """What a point remembers: its function, and the offset into it."""

    function: Function
    offset: int = 0


class KprobeKind(RegisterKind):
    name = "kprobe"
    aliases = ("k",)
    forms: tuple[str, ...] = ("kprobe:function", "kprobe:function+offset", "kprobe:module:function")
    filters_by_program = True
    is_exclusive = True
    space = "kernel"
    multi_feature = "kprobe_multi"

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if not 1 <= len(parts) <= 2 or not all(parts):
            error(f"{self.name} probe type requires 1 or 2 arguments, found {len(parts)}", span)
            return []
        target, plus, offset_text = parts[-1].partition("+")
        try:
            offset = int(offset_text, 0) if plus else 0
        except ValueError:
            error(f"invalid offset: {offset_text}", span)
            return []
        if plus and self.returns:
            error("Offset not allowed", span, f"write {self.forms[0]}")
            return []
        wanted = [*parts[:-1], target]
        functions = find_functions(self, wanted, span, context)
        refusal = ("", "")
        if functions and not context.machine.feature("kprobe"):
            refusal = (
                f"{self.name}s are not possible here: this kernel has no kprobes (CONFIG_KPROBES is not set)",
                "tracepoints and raw tracepoints work without them: try tracebee -l 'tracepoint:*'",
            )
        with_module = len(parts) == 2
        by_name = self._of_one_name(functions, with_module)
        return [
            self._point(function, offset, with_module, refusal, is_pattern(":".join(wanted)))
            for function in by_name
        ]

    @staticmethod
    def _of_one_name(functions: list[Function], with_module: bool) -> list[Function]:
        """Without a module in the script, functions of one name are one place, whoever has them."""
        if with_module:
            return functions
        found: dict[str, Function] = {}
        for one in functions:
            before = found.get(one.name)
            if before is None:
                found[one.name] = one
            else:
                found[one.name] = Function(before.module, one.name, before.copies + one.copies)
        return list(found.values())

    def _point(
        self, function: Function, offset: int, with_module: bool, refusal: tuple[str, str], optional: bool
    ) -> Point:
        parts = (self.name, function.module, function.name) if with_module else (self.name, function.name)
        module = function.module
        if function.copies == 1:
            # A name in the kernel itself that nobody shares says enough.
            module = "" if module == CORE else module
        elif not with_module:
            module = ""
        return Point(
            ":".join(parts) + (f"+{offset}" if offset else ""),
            Kprobe(function.name, offset, self.returns, module, function.copies),
            function.name,
            Place(function, offset),
            refusal,
            optional,
        )

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        return listed_functions(self.name, pattern, context)

    def describe_arguments(self, name: str, context: Expansion) -> Iterable[tuple[str, str]]:
        _, *owner, function = name.split(":")
        module = owner[0] if owner else next(iter(context.machine.function_modules(function)), CORE)
        if self.returns:
            found = list(describe_prototype(module, function, context, True))
            yield from found[-1:]
            return
        wrapper = wrapper_of(function, context.machine.arch)
        arguments = syscall_arguments(wrapper, context) if wrapper is not None else ()
        if arguments:
            yield from ((one.c_type, one.name) for one in arguments)
        else:
            yield from describe_prototype(module, function, context)

    # --- sharing programs

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        told_apart = self.tells_points_apart(context)
        arguments: object = None
        if uses.arguments:
            type_ = self.arguments(point, context)
            if type_ is None or uses.members is None:
                arguments = point.name
            else:
                found = [(name, type_.find(name)) for name in sorted(uses.members)]
                arguments = tuple(
                    (name, field and (field.offset, field.bits, field.bit_offset, field.type))
                    for name, field in found
                )
        # One link takes no offsets.
        at_entry = isinstance(point.attach, Kprobe) and not point.attach.offset
        return (point.function if uses.function and not told_apart else "", at_entry, arguments)

    def tells_points_apart(self, context: Expansion) -> bool:
        return context.machine.feature("get_attach_cookie") and context.machine.feature("perf_link")

    def check(self, unit: Unit, context: Expansion) -> None:
        point = unit.points[0]
        wrapper = wrapper_of(point.function, context.machine.arch)
        if wrapper is None or self.returns or point.facts.offset:
            return
        warn_of_wrapper(unit, wrapper, context)

    # --- arguments

    def arguments(self, point: Point, context: Expansion) -> Struct | None:
        """By BTF.  The offset of a field is the number of its ``argN``."""
        place = point.facts
        assert isinstance(place, Place)
        if self.returns or place.offset:
            return None
        wrapper = wrapper_of(point.function, context.machine.arch)
        calls = syscall_arguments(wrapper, context) if wrapper is not None else ()
        if calls:
            fields = tuple(
                Field(one.name, one.type, position, CALL_ARGUMENT) for position, one in enumerate(calls)
            )
        else:
            prototype = prototype_of(place.function, context)
            if prototype is None or prototype.is_wide:
                return None
            fields = tuple(Field(one.name, one.type, one.slot) for one in prototype.parameters)
        origin = ("kprobe", place.function.module, point.function)
        return Struct("struct", f"args of {point.function}", 8, 8, origin, lambda: fields)

    def no_arguments_reason(self, unit: Unit) -> tuple[str, str]:
        point = unit.points[0]
        if self.returns:
            return (
                "The args builtin cannot be used with kretprobes: the registers hold other things by then",
                f"keep what is needed in a map at kprobe:{point.function}, or use fexit:{point.function}",
            )
        if point.facts.offset:
            return (f"The args builtin can only be used where a function begins, not at {point.name}", "")
        return (
            f"The args builtin needs the kernel's BTF to have {point.function}, with arguments that lie in "
            "registers",
            "arg0, arg1 … work without",
        )

    def no_member_reason(self, unit: Unit, name: str) -> str:
        return f"Can't find function parameter {name}"

    def return_type(self, unit: Unit) -> Type | None:
        if not self.returns:
            return None
        if unit.context is None:
            return UINT64
        context = unit.context
        return merged_result(self._results(unit, context))

    @staticmethod
    def _results(unit: Unit, context: Expansion) -> Iterable[Type | None]:
        for point in unit.points:
            prototype = prototype_of(point.facts.function, context)
            yield None if prototype is None else prototype.result

    # --- attaching

    def _is_multi(self, unit: Unit) -> bool:
        """Whether few links for all points are possible and worth it."""
        return unit.multi_links and all(
            isinstance(point.attach, Kprobe) and not point.attach.offset for point in unit.points
        )

    def attach_type(self, unit: Unit) -> str:
        return "TRACE_KPROBE_MULTI" if self._is_multi(unit) else ""

    def probes(self, unit: Unit) -> list[ProbeSpec]:
        if not self._is_multi(unit):
            return super().probes(unit)
        places = tuple(point.attach for point in unit.points if isinstance(point.attach, Kprobe))
        return [
            ProbeSpec(
                unit.points[0].name,
                unit.name,
                KprobeMulti(places, self.returns),
                covers=len(places),
                optional=all(point.optional for point in unit.points),
            )
        ]

    # --- code

    def load_probe_id(self, low: Lowering) -> Any:
        if len(low.unit.points) == 1:
            return 0
        return low.fact("cookie", lambda: low.call("get_attach_cookie", low.ctx()))

    def load_return(self, low: Lowering) -> Operand:
        type_ = self.return_type(low.unit)
        assert type_ is not None
        return from_register(low, super().load_return(low), type_)

    def _call_argument(self, low: Lowering, position: int) -> Operand:
        """An argument of the system call, from the registers that the wrapper is given."""
        wrapper = wrapper_of(low.unit.points[0].function, low.machine.arch)
        assert wrapper is not None
        one = syscall_arguments(wrapper, low.context)[position]
        regs = low.register(low.fact("arg0", lambda: self.load_argument(low, 0)))
        return low.fact(f"call argument {position}", lambda: load_wrapped(low, regs, one, is_direct=False))

    def member_value(self, low: Lowering, member: str) -> Operand | None:
        assert low.unit.arguments is not None
        field = low.unit.arguments.find(member)
        assert field is not None
        if not field.type.is_scalar:
            return None
        return from_register(low, self._eight_bytes(low, field, 0), field.type)

    def _eight_bytes(self, low: Lowering, field: Field, index: int) -> Operand:
        """What the processor has of an argument, eight bytes at a time."""
        if field.bits == CALL_ARGUMENT:
            return self._call_argument(low, field.offset)
        number = field.offset + index
        return low.fact(f"arg{number}", lambda: self.load_argument(low, number))

    def load_member(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.places import Place as Spot

        assert low.unit.arguments is not None
        field = low.unit.arguments.find(member)
        assert field is not None
        pieces = max(1, -(-field.type.size // 8))
        values = [
            self.member_value(low, member) if field.type.is_scalar else self._eight_bytes(low, field, index)
            for index in range(pieces)
        ]
        slot = low.memory(8 * pieces, on_stack=True)
        for index, value in enumerate(values):
            assert value is not None
            low.store(slot.plus(8 * index), value, 8)
        return Spot(slot, field.type)


class KretprobeKind(KprobeKind):
    name = "kretprobe"
    aliases = ("kr",)
    forms = ("kretprobe:function", "kretprobe:module:function")
    returns = True
