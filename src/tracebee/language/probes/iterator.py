"""BPF iterators: a program that the kernel runs for each task, file, map …"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tracebee.language.diagnostics import nearest
from tracebee.language.probes.base import Expansion, Point, ProbeKind, Unit
from tracebee.language.probes.tracepoint import is_pattern
from tracebee.spec.objects import Iterator
from tracebee.spec.types import Pointer, Struct, Type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.source import Span

PREFIX = "bpf_iter__"
"""The kernel has a structure of this name for the context of each iterator."""


class IteratorKind(ProbeKind):
    name = "iter"
    aliases = ("it",)
    forms = ("iter:kind", "iter:kind:pin")
    program_type = "TRACING"
    expected_attach_type = "TRACE_ITER"
    space = "kernel"
    nullable_pointers = True
    heeds_exit = False  # exit() in one ends that object's turn, not the others'

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if not 1 <= len(parts) <= 2 or not parts[0]:
            error(f"iter probe type requires 1 or 2 arguments (pin), found {len(parts)}", span)
            return []
        kind, pin = parts[0], parts[1] if len(parts) == 2 else ""
        if context.types.btf is None:
            error("iterators need the kernel's BTF, which cannot be read here", span)
            return []
        names = self._names(context)
        if is_pattern(kind):
            error("iter probe type does not support wildcards", span, "tracebee -l 'iter:*' lists them")
            return []
        if kind not in names:
            error(f"iter {kind} not available for your kernel version.", span, nearest(kind, names))
            return []
        return [Point(f"iter:{kind}" + (f":{pin}" if pin else ""), Iterator(kind, pin), facts=kind)]

    def _names(self, context: Expansion) -> list[str]:
        btf = context.types.btf
        if btf is None:
            return []
        from tracebee.btf.types import Struct as StructKind

        found = (
            name.removeprefix(PREFIX) for _, name in btf.names_of_kind(StructKind) if name.startswith(PREFIX)
        )
        # What has a double underscore further on is another view of a context: bpf_iter__task__safe_trusted.
        return sorted(name for name in found if "__" not in name)

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        for name in self._names(context):
            if fnmatchcase(f"iter:{name}", pattern):
                yield f"iter:{name}"

    def describe_arguments(self, name: str, context: Expansion) -> Iterable[tuple[str, str]]:
        btf = context.types.btf
        if btf is None:
            return
        from tracebee.btf.format import declaration
        from tracebee.btf.types import Composite
        from tracebee.btf.types import Struct as StructKind

        type_id = btf.find(PREFIX + name.split(":")[1], StructKind)
        if type_id is None:
            return
        found = btf.type(type_id)
        assert isinstance(found, Composite)
        for member in found.members:
            inner = btf.type(member.type_id)
            if not member.name and isinstance(inner, Composite):
                # The kernel wraps pointers in unions of their own, so that they take eight bytes everywhere.
                for one in inner.members:
                    if one.name:
                        yield declaration(btf, one.type_id).rstrip(), one.name
            elif member.name:
                yield declaration(btf, member.type_id).rstrip(), member.name

    def signature(self, point: Point, uses: object, context: Expansion) -> object:
        return point.name

    def attach_to(self, unit: Unit) -> str:
        return f"bpf_iter_{unit.points[0].facts}"

    def context_type(self, unit: Unit, context: Expansion) -> Type | None:
        found = context.types.find(f"struct {PREFIX}{unit.points[0].facts}")
        return Pointer(found, "bpf") if isinstance(found, Struct) else None

    def prologue(self, low: Lowering) -> None:
        """Leave when there is no object: the kernel calls once more at the end, without one."""
        from tracebee.language.ir import Address

        type_ = low.context.types.find(f"struct {PREFIX}{low.unit.points[0].facts}")
        if not isinstance(type_, Struct):
            return
        members = [field for field in type_.fields if (field.name or isinstance(field.type, Struct))]
        if len(members) < 2:
            return
        object_ = members[1]
        low.branch("==", low.load(Address(low.ctx(), object_.offset), 8), 0, low.here.return_label)
