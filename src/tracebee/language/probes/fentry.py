"""Kernel functions by trampolines: fentry and fexit, with arguments from BTF."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tracebee.language.ir import Address
from tracebee.language.probes.base import Expansion, Point, ProbeKind, Unit, Uses, no_match
from tracebee.language.probes.tracepoint import is_pattern
from tracebee.spec.objects import Trampoline
from tracebee.spec.types import UINT64, Field, Struct, Type, Void

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.source import Span


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

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if not 1 <= len(parts) <= 2 or not all(parts):
            error(f"{self.name} probe type requires 1 or 2 arguments, found {len(parts)}", span)
            return []
        if context.types.btf is None:
            error(f"{self.name} needs the kernel's BTF, which cannot be read here", span)
            return []
        module = parts[0] if len(parts) == 2 else "*"
        function = parts[-1]
        names = self._names(context, function) if fnmatchcase("vmlinux", module) else []
        if not names:
            no_match(self, ":".join(parts), span, context)
            return []
        refusal = ("", "")
        if not context.machine.feature("fentry"):
            refusal = (
                f"{self.name} is not possible here: this kernel refuses fentry and fexit programs (BPF_PROG_LOAD "
                "gives EPERM, with an empty verifier log, to root as well)",
                "tracepoints and raw tracepoints work: try tracebee -l 'tracepoint:*'",
            )
        return [
            Point(f"{self.name}:vmlinux:{name}", Trampoline(), name, name, refusal=refusal) for name in names
        ]

    def _names(self, context: Expansion, function: str) -> list[str]:
        from tracebee.btf.types import Func

        btf = context.types.btf
        assert btf is not None
        if not is_pattern(function):
            return [function] if btf.find(function, Func) is not None else []
        return sorted({name for _, name in btf.names_of_kind(Func) if fnmatchcase(name, function)})

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        btf = context.types.btf
        if btf is None:
            return
        from tracebee.btf.types import Func

        for _, name in btf.names_of_kind(Func):
            full = f"{self.name}:vmlinux:{name}"
            if fnmatchcase(full, pattern) or fnmatchcase(f"{self.name}:{name}", pattern):
                yield full

    def describe_arguments(self, name: str, context: Expansion) -> Iterable[tuple[str, str]]:
        btf = context.types.btf
        if btf is None:
            return
        from tracebee.btf.format import function_params, return_type
        from tracebee.btf.types import Func

        function = btf.find(name.rpartition(":")[2], Func)
        if function is None:
            return
        yield from function_params(btf, function)
        if self.returns:
            yield return_type(btf, function), "retval"

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        return point.name

    def attach_to(self, unit: Unit) -> str:
        return str(unit.points[0].facts)

    def arguments(self, point: Point, context: Expansion) -> Struct | None:
        fields, _ = self._prototype(point, context)
        return Struct(
            "struct", f"args of {point.facts}", 8 * len(fields), 8, ("function", point.facts), lambda: fields
        )

    def _prototype(self, point: Point, context: Expansion) -> tuple[tuple[Field, ...], Type]:
        from tracebee.btf.types import Func, FuncProto

        btf = context.types.btf
        assert btf is not None
        function = btf.find(str(point.facts), Func)
        assert function is not None
        found = btf.type(function)
        assert isinstance(found, Func)
        prototype = btf.type(found.type_id)
        assert isinstance(prototype, FuncProto)
        fields = tuple(
            Field(parameter.name, context.types.from_btf(parameter.type_id), 8 * position)
            for position, parameter in enumerate(prototype.params)
            if parameter.type_id
        )
        return fields, context.types.from_btf(prototype.return_type_id)

    def member_value(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.expressions import narrowed

        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        if not field.type.is_scalar:
            return None
        return narrowed(low, low.load(Address(low.ctx(), field.offset), 8), UINT64, field.type)

    def load_member(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.places import Place

        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        slot = low.memory(8, on_stack=True)
        low.store(slot, low.load(Address(low.ctx(), field.offset), 8), 8)
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
        _, type_ = self._prototype(unit.points[0], unit.context)
        return UINT64 if isinstance(type_, Void) else type_

    def load_return(self, low: Lowering) -> Any:
        fields, type_ = self._prototype(low.unit.points[0], low.context)
        from tracebee.language.lower.expressions import narrowed

        return narrowed(low, low.load(Address(low.ctx(), 8 * len(fields)), 8), UINT64, type_)
