"""Raw tracepoints, with arguments from the kernel's BTF."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tracebee.language.ir import Address
from tracebee.language.probes.base import Expansion, Point, ProbeKind, Unit, Uses, no_match
from tracebee.language.probes.tracepoint import is_pattern
from tracebee.spec.objects import RawTracepoint
from tracebee.spec.types import UINT64, Field, Struct, Type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.btf import Btf
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.source import Span

PREFIX = "btf_trace_"
"""The kernel has a typedef of this name for the prototype of each tracepoint."""

MOST_ARGUMENTS = 12


class RawTracepointKind(ProbeKind):
    name = "rawtracepoint"
    aliases = ("rt",)
    forms = ("rawtracepoint:event", "rawtracepoint:module:event")
    filters_by_program = True
    program_type = "RAW_TRACEPOINT"
    space = "kernel"

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        if not 1 <= len(parts) <= 2 or not all(parts):
            context.diagnostics.error(
                f"{self.name} probe type requires 1 or 2 arguments, found {len(parts)}", span
            )
            return []
        module = parts[0] if len(parts) == 2 else "*"
        event = parts[-1]
        names: list[str] = []
        if fnmatchcase("vmlinux", module):
            names = [name for name in self._names(context, event) if fnmatchcase(name, event)]
        if not names:
            no_match(self, ":".join(parts), span, context)
        return [Point(f"rawtracepoint:vmlinux:{name}", RawTracepoint(name), facts=name) for name in names]

    def _names(self, context: Expansion, wanted: str) -> Iterable[str]:
        """Names of raw tracepoints: from BTF, or where there is none from the list of tracepoints."""
        btf = context.types.btf
        if btf is None:
            return sorted({event for _, event in context.machine.tracepoints()})
        if not is_pattern(wanted):
            return [wanted] if _typedef(btf, wanted) is not None else []
        from tracebee.btf.types import Typedef

        return sorted(
            name.removeprefix(PREFIX) for _, name in btf.names_of_kind(Typedef) if name.startswith(PREFIX)
        )

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        for name in self._names(context, "*"):
            full = f"rawtracepoint:vmlinux:{name}"
            if fnmatchcase(full, pattern) or fnmatchcase(f"rawtracepoint:{name}", pattern):
                yield full

    def describe_arguments(self, name: str, context: Expansion) -> Iterable[tuple[str, str]]:
        btf = context.types.btf
        prototype = _prototype(btf, name.rpartition(":")[2]) if btf is not None else None
        if btf is None or prototype is None:
            return []
        from tracebee.btf.format import function_params

        return function_params(btf, prototype)[1:]

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        return point.name if uses.arguments else ()

    # --- arguments

    def arguments(self, point: Point, context: Expansion) -> Struct | None:
        btf = context.types.btf
        found = _prototype(btf, point.facts) if btf is not None else None
        if btf is None or found is None:
            return None
        from tracebee.btf.types import FuncProto

        prototype = btf.type(found)
        assert isinstance(prototype, FuncProto)
        fields = []
        for position, parameter in enumerate(prototype.params[1:]):
            fields.append(Field(parameter.name, context.types.from_btf(parameter.type_id), 8 * position))
        return Struct(
            "struct",
            f"args of {point.facts}",
            8 * len(fields),
            8,
            ("rawtracepoint", point.facts),
            lambda: tuple(fields),
        )

    def no_arguments_reason(self, unit: Unit) -> tuple[str, str]:
        return (
            "the arguments of raw tracepoints are known from the kernel's BTF, which cannot be read here",
            "use arg0, arg1, …",
        )

    def argument_type(self, number: int) -> Type | None:
        return UINT64 if number < MOST_ARGUMENTS else None

    def load_argument(self, low: Lowering, number: int) -> Any:
        return low.load(Address(low.ctx(), 8 * number), 8)

    def load_member(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.places import Place

        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        # Whatever its width, an argument has eight bytes, and the verifier wants them read whole.
        slot = low.memory(8, on_stack=True)
        low.store(slot, low.load(Address(low.ctx(), field.offset), 8), 8)
        return Place(slot, field.type)

    def member_value(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.expressions import narrowed

        type_ = low.unit.arguments
        assert type_ is not None
        field = type_.find(member)
        assert field is not None
        if not field.type.is_scalar:
            return None
        value = low.load(Address(low.ctx(), field.offset), 8)
        return narrowed(low, value, UINT64, field.type)


def _typedef(btf: Btf, event: str) -> int | None:
    from tracebee.btf.types import Typedef

    return btf.find(PREFIX + event, Typedef)


def _prototype(btf: Btf, event: str) -> int | None:
    """The function prototype of a raw tracepoint: ``void *``, then its arguments.

    The typedef has no names for them; the functions that the kernel makes for each tracepoint have
    (include/linux/tracepoint.h).
    """
    from tracebee.btf.types import Func, Ptr

    for prefix in ("__probestub_", "__traceiter_"):
        function = btf.find(prefix + event, Func)
        if function is not None:
            found = btf.type(function)
            assert isinstance(found, Func)
            return found.type_id
    typedef = _typedef(btf, event)
    if typedef is None:
        return None
    pointer = btf.type(btf.resolve(typedef))
    assert isinstance(pointer, Ptr)
    return btf.resolve(pointer.type_id)
