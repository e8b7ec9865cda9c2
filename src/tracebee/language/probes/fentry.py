"""Kernel functions by trampolines: fentry and fexit, with arguments from BTF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.language.ir import Address
from tracebee.language.probes.base import Expansion, Point, ProbeKind, Unit, Uses
from tracebee.language.probes.functions import (
    CORE,
    Function,
    Prototype,
    describe_prototype,
    find_functions,
    from_register,
    listed_functions,
    load_wrapped,
    module_types,
    prototype_of,
    syscall_arguments,
    wrapper_of,
)
from tracebee.language.probes.tracepoint import is_pattern
from tracebee.spec.objects import Trampoline
from tracebee.spec.types import UINT64, Field, Struct, Type, Void

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.source import Span

MOST_ARGUMENTS = 12
"""MAX_BPF_FUNC_ARGS in the kernel's include/linux/bpf.h; processors may allow fewer."""

CALL_ARGUMENT = -1
"""`Field.bits` of an argument of a system call, out of the registers that its wrapper is given."""


INDIRECT = -2
"""`Field.bits` of an argument that the verifier lets nobody load, but helpers read."""


class FentryKind(ProbeKind):
    name = "fentry"
    aliases = ("f", "kfunc")
    forms = ("fentry:function", "fentry:module:function")
    filters_by_program = True
    program_type = "TRACING"
    expected_attach_type = "TRACE_FENTRY"
    space = "kernel"
    returns = False
    one_program_each = True
    skipped_frames = 2
    """The program's own and the trampoline's."""

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if not 1 <= len(parts) <= 2 or not all(parts):
            error(f"{self.name} probe type requires 1 or 2 arguments, found {len(parts)}", span)
            return []
        if context.types.btf is None:
            error(f"{self.name} needs the kernel's BTF, which cannot be read here", span)
            return []
        functions = find_functions(self, parts, span, context)
        optional = is_pattern(":".join(parts))
        fitting = [one for one in functions if self._why_not(one, context) == ""]
        if functions and not fitting:
            self._report(functions[0], parts, span, context)
        refusal = ("", "")
        if fitting and not context.machine.feature("fentry"):
            refusal = (
                f"{self.name} is not possible here: this kernel refuses fentry and fexit programs (BPF_PROG_LOAD "
                "gives EPERM, with an empty verifier log, to root as well)",
                "tracepoints and raw tracepoints work: try tracebee -l 'tracepoint:*'",
            )
        return [
            Point(
                f"{self.name}:{one.module}:{one.name}",
                Trampoline(),
                one.name,
                one,
                refusal,
                optional=optional,
            )
            for one in fitting
        ]

    def _why_not(self, function: Function, context: Expansion) -> str:
        """Why a function that can be hooked has no place for a trampoline; empty if it has."""
        prototype = prototype_of(function, context)
        if prototype is None:
            return "its type is not in the BTF of the kernel or of its module"
        if prototype.is_variadic:
            return "it takes a variable number of arguments"
        if prototype.is_wide or prototype.slots > MOST_ARGUMENTS:
            return "its arguments are more than a trampoline can pass on"
        return ""

    def _report(self, function: Function, parts: list[str], span: Span, context: Expansion) -> None:
        mode = context.config.text("missing_probes")
        message = f"No matches for {self.name} {':'.join(parts)}"
        if not is_pattern(":".join(parts)):
            message += f": {self._why_not(function, context)}"
        if mode == "error":
            instead = "kretprobe" if self.returns else "kprobe"
            context.diagnostics.error(message, span, f"{instead}:{function.name} needs no type")
        elif mode == "warn":
            context.diagnostics.warning(f"{message}. Skipping.", span)

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        if context.types.btf is None:
            return
        # Patterns without a module are allowed, names come with one.
        word, _, rest = pattern.partition(":")
        full = pattern if ":" in rest else f"{word}:*:{rest}"
        from tracebee.btf.types import Func

        typed: dict[str, set[str]] = {}
        for name in listed_functions(self.name, full, context):
            _, module, function = name.split(":", 2)
            if module not in typed:
                types = module_types(module, context)
                btf = types.btf if types is not None else None
                own = module not in ("", CORE)
                typed[module] = set() if btf is None else {one for _, one in btf.names_of_kind(Func, own=own)}
            if function in typed[module]:
                yield name

    def describe_arguments(self, name: str, context: Expansion) -> Iterable[tuple[str, str]]:
        _, module, function = name.split(":", 2)
        found = list(describe_prototype(module, function, context, self.returns))
        yield from found[: len(found) - self.returns]
        wrapper = wrapper_of(function, context.machine.arch)
        if wrapper is not None:
            yield from ((one.c_type, one.name) for one in syscall_arguments(wrapper, context))
        yield from found[len(found) - self.returns :]

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        return point.name

    def attach_to(self, unit: Unit) -> str:
        function = unit.points[0].facts
        assert isinstance(function, Function)
        return function.name

    def attach_module(self, unit: Unit) -> str:
        function = unit.points[0].facts
        assert isinstance(function, Function)
        return "" if function.module == CORE else function.module

    # --- arguments

    def arguments(self, point: Point, context: Expansion) -> Struct | None:
        """What BTF says and, of the wrapper of a system call, what the call takes as well."""
        fields = [
            Field(one.name, one.type, 8 * one.slot, 0 if one.is_direct else INDIRECT)
            for one in self._prototype(point, context).parameters
        ]
        wrapper = wrapper_of(point.function, context.machine.arch)
        if wrapper is not None:
            taken = {field.name for field in fields}
            fields += [
                Field(one.name, one.type, position, CALL_ARGUMENT)
                for position, one in enumerate(syscall_arguments(wrapper, context))
                if one.name not in taken
            ]
        found = tuple(fields)
        size = 8 * len(found)
        origin = ("function", point.facts.module, point.facts.name)
        return Struct("struct", f"args of {point.function}", size, 8, origin, lambda: found)

    def arguments_value(self, arguments: Struct) -> Struct:
        fields, end = [], 0
        for field in arguments.fields:
            fields.append(Field(field.name, field.type, end))
            end += max(8, -(-field.type.size // 8) * 8)
        origin = (arguments.origin, "value")
        return Struct("struct", arguments.name, end, 8, origin, lambda: tuple(fields))

    def no_member_reason(self, unit: Unit, name: str) -> str:
        return f"Can't find function parameter {name}"

    def _prototype(self, point: Point, context: Expansion) -> Prototype:
        found = prototype_of(point.facts, context)
        assert found is not None
        return found

    def member_value(self, low: Lowering, member: str) -> Any:
        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        if not field.type.is_scalar:
            return None
        return from_register(low, self._eight_bytes(low, field, 0), field.type)

    def _eight_bytes(self, low: Lowering, field: Field, index: int) -> Operand:
        if field.bits == CALL_ARGUMENT:
            wrapper = wrapper_of(low.unit.points[0].function, low.machine.arch)
            assert wrapper is not None
            one = syscall_arguments(wrapper, low.context)[field.offset]
            regs = low.register(low.fact("pt_regs", lambda: low.load(Address(low.ctx(), 0), 8)))
            return low.fact(f"call {field.offset}", lambda: load_wrapped(low, regs, one, is_direct=True))
        return load_context(low, field.offset + 8 * index, field.bits != INDIRECT)

    def load_member(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.places import Place

        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        pieces = max(1, -(-field.type.size // 8))
        slot = low.memory(8 * pieces, on_stack=True)
        for index in range(pieces):
            low.store(slot.plus(8 * index), self._eight_bytes(low, field, index), 8)
        return Place(slot, field.type)


class FexitKind(FentryKind):
    name = "fexit"
    aliases = ("fr", "kretfunc")
    forms = ("fexit:function", "fexit:module:function")
    expected_attach_type = "TRACE_FEXIT"
    returns = True

    def return_type(self, unit: Unit) -> Type | None:
        if unit.context is None:
            return UINT64
        type_ = self._prototype(unit.points[0], unit.context).result
        return UINT64 if isinstance(type_, Void) else type_

    def load_return(self, low: Lowering) -> Any:
        prototype = self._prototype(low.unit.points[0], low.context)
        value = load_context(low, 8 * prototype.slots, prototype.is_result_direct)
        return from_register(low, value, prototype.result)


def load_context(low: Lowering, offset: int, is_direct: bool) -> Operand:
    """Eight bytes of the arguments that the trampoline has saved."""
    if is_direct:
        return low.load(Address(low.ctx(), offset), 8)
    slot = low.memory(8, on_stack=True)
    low.call("probe_read_kernel", low.pointer(slot), 8, low.alu("+", low.ctx(), offset))
    return low.load(slot, 8)
