"""User functions: uprobe and uretprobe."""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tracebee.errors import FormatError
from tracebee.language.probes.base import Expansion, Point, ProbeKind, Unit, Uses, no_match
from tracebee.language.probes.registers import RegisterKind
from tracebee.language.probes.tracepoint import is_pattern
from tracebee.spec.objects import ProbeSpec, Uprobe, UprobeMulti
from tracebee.spec.types import UINT64, Field, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.machine import FunctionArgument, UserFile
    from tracebee.language.source import Span


class UprobeKind(RegisterKind):
    name = "uprobe"
    aliases = ("u",)
    forms: tuple[str, ...] = (
        "uprobe:path:function",
        "uprobe:path:function+offset",
        "uprobe:path:address",
        "uprobe:library:function",
    )
    space = "user"
    string_space = "user"
    is_preemptible = True
    multi_feature = "uprobe_multi"
    describes_arguments = True
    """Whether debug information tells the arguments where the probe is."""

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if len(parts) == 3 and parts[1] == "cpp":
            parts = [parts[0], parts[2]]
        if len(parts) == 1 and context.pid:
            parts = ["*", parts[0]]
        if len(parts) != 2 or not all(parts):
            error(
                f"{self.name} probe type requires 2 or 3 arguments, found {len(parts)}",
                span,
                f"write {self.forms[0]}",
            )
            return []
        target, function = parts
        if not self.is_available(span, context):
            return []
        paths = find_files(self, target, span, context)
        points: list[Point] = []
        for path in paths:
            points += self._points(path, target, function, span, context)
        if paths and not points and not context.diagnostics.has_errors:
            no_match(self, f"{target}:{function}", span, context)
        return points

    def is_available(self, span: Span, context: Expansion) -> bool:
        if context.machine.feature("uprobe"):
            return True
        context.diagnostics.error("this kernel has no uprobes (CONFIG_UPROBE_EVENTS is not set)", span)
        return False

    def _points(self, path: str, target: str, function: str, span: Span, context: Expansion) -> list[Point]:
        shown = target if not is_pattern(target) and "/" in target else path
        try:
            file = context.machine.user_file(path)
        except (OSError, FormatError) as problem:
            return self._flat(path, shown, function, span, context, problem)
        if is_pattern(function):
            points = []
            for symbol in file.functions():
                if fnmatchcase(symbol.name, function):
                    points += self._point(file, shown, symbol.name, symbol.address, span, context)
            return points
        name, plus, offset_text = function.partition("+")
        offset = _number(offset_text) if plus else 0
        if offset is None:
            context.diagnostics.error(f"invalid offset: {offset_text}", span)
            return []
        address = _number(name)
        if address is not None:
            return self._point(file, shown, function, address + offset, span, context)
        found = file.find_function(name)
        if found is None:
            return []
        if offset and offset >= found.size and found.size and not context.unsafe:
            context.diagnostics.error(
                f"Offset outside the function bounds ('{name}' size is {found.size})", span
            )
            return []
        return self._point(file, shown, function, found.address + offset, span, context, name)

    def _flat(
        self, path: str, shown: str, function: str, span: Span, context: Expansion, problem: Exception
    ) -> list[Point]:
        """A file that is no ELF file: with --unsafe an offset into it can be given."""
        offset = _number(function)
        if offset is not None and context.unsafe and isinstance(problem, FormatError):
            return [Point(f"{self.name}:{shown}:{function}", Uprobe(path, offset, self.returns))]
        context.diagnostics.error(f"{path} cannot be read as an ELF file: {problem}", span)
        return []

    def _point(
        self,
        file: UserFile,
        shown: str,
        label: str,
        address: int,
        span: Span,
        context: Expansion,
        function: str = "",
    ) -> list[Point]:
        offset = file.file_offset(address)
        if offset is None:
            context.diagnostics.error(f"{label} ({address:#x}) lies in no segment of {shown}", span)
            return []
        return [
            Point(
                f"{self.name}:{shown}:{label}",
                Uprobe(file.path, offset, self.returns),
                function or label,
                (file.path, address),
            )
        ]

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        kind, _, rest = pattern.partition(":")
        if not fnmatchcase(self.name, kind) and kind not in self.aliases:
            return
        target, _, function = rest.partition(":")
        if not target or (target == "*" and not context.pid):
            return
        for path in list_files(target, context):
            try:
                file = context.machine.user_file(path)
            except (OSError, FormatError):
                continue
            shown = target if not is_pattern(target) and "/" in target else path
            names = {symbol.name for symbol in file.functions()}
            for name in sorted(names):
                if fnmatchcase(name, function or "*"):
                    yield f"{self.name}:{shown}:{name}"

    def describe_arguments(self, name: str, context: Expansion) -> Iterable[tuple[str, str]]:
        if not self.describes_arguments:
            return
        _, target, function = name.split(":", 2)
        for path in list_files(target, context):
            with suppress(OSError, FormatError):
                symbol = context.machine.user_file(path).find_function(function)
                found = symbol and context.machine.function_arguments(path, symbol.address)
                for argument in found or ():
                    yield argument.c_type, argument.name
                return

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        arguments: object = None
        if uses.arguments:
            arguments = tuple(self._described(point, context) or ())
        return (point.function if uses.function else "", point.facts[0] if point.facts else "", arguments)

    def tells_points_apart(self, context: Expansion) -> bool:
        return context.machine.feature("get_attach_cookie") and (
            context.machine.feature("uprobe_multi") or context.machine.feature("perf_link")
        )

    # --- attaching

    def _is_multi(self, unit: Unit) -> bool:
        """Whether one link for all points is possible and worth it."""
        paths = {point.attach.path for point in unit.points if isinstance(point.attach, Uprobe)}
        return len(unit.points) > 1 and len(paths) == 1 and unit.multi_links

    def attach_type(self, unit: Unit) -> str:
        return "TRACE_UPROBE_MULTI" if self._is_multi(unit) else ""

    def probes(self, unit: Unit) -> list[ProbeSpec]:
        if not self._is_multi(unit):
            return super().probes(unit)
        places = [point.attach for point in unit.points]
        first = places[0]
        assert isinstance(first, Uprobe)
        offsets = tuple(place.offset for place in places if isinstance(place, Uprobe))
        counters = tuple(place.reference_counter for place in places if isinstance(place, Uprobe))
        multi = UprobeMulti(first.path, offsets, first.returns, counters if any(counters) else ())
        return [ProbeSpec(unit.points[0].name, unit.name, multi, covers=len(unit.points))]

    def load_probe_id(self, low: Lowering) -> Any:
        if len(low.unit.points) == 1:
            return 0
        return low.fact("cookie", lambda: low.call("get_attach_cookie", low.ctx()))

    # --- arguments

    def _described(self, point: Point, context: Expansion) -> Sequence[FunctionArgument] | None:
        """The function's parameters, if its debug information can be read."""
        if not self.describes_arguments or not point.facts:
            return None
        try:
            return context.machine.function_arguments(*point.facts)
        except (OSError, FormatError):
            return None

    def arguments(self, point: Point, context: Expansion) -> Struct | None:
        """The offset of a field is the number of its ``argN``."""
        found = self._described(point, context)
        if found is None:
            return None
        fields = tuple(Field(one.name, one.type, one.position) for one in found if one.position is not None)
        return Struct("struct", f"args of {point.function}", 8, 8, ("uprobe", *point.facts), lambda: fields)

    def no_arguments_reason(self, unit: Unit) -> tuple[str, str]:
        if not self.describes_arguments or not unit.points[0].facts:
            return super().no_arguments_reason(unit)
        path = unit.points[0].facts[0]
        return (
            f"The args builtin needs the debug information (DWARF) of {unit.points[0].function} in {path}",
            "compile it with -g or install its debug symbols; arg0, arg1 … work without",
        )

    def no_member_reason(self, unit: Unit, name: str) -> str:
        assert unit.context is not None
        for argument in self._described(unit.points[0], unit.context) or ():
            if argument.name == name:
                return f"args.{name} cannot be read: a '{argument.c_type}' is not passed in a general register here"
        return f"Can't find function parameter {name}"

    def member_value(self, low: Lowering, member: str) -> Operand:
        from tracebee.language.lower.expressions import narrowed

        assert low.unit.arguments is not None
        field = low.unit.arguments.find(member)
        assert field is not None
        value = low.fact(f"arg{field.offset}", lambda: self.load_argument(low, field.offset))
        return narrowed(low, value, UINT64, field.type)

    def load_member(self, low: Lowering, member: str) -> Any:
        from tracebee.language.lower.places import Place

        assert low.unit.arguments is not None
        field = low.unit.arguments.find(member)
        assert field is not None
        slot = low.memory(8, on_stack=True)
        low.store(slot, self.member_value(low, member), 8)
        return Place(slot, field.type)

    # --- variables of the program

    def user_symbol_size(self, unit: Unit, name: str, context: Expansion) -> int | None:
        if not unit.points[0].facts:
            return -1
        symbol = context.machine.user_file(unit.points[0].facts[0]).find_data(name)
        return -1 if symbol is None else symbol.size

    def load_user_symbol(self, low: Lowering, name: str) -> Any:
        """The variable's address in the file, moved by as much as the probed instruction has been."""
        path, address = low.unit.points[0].facts
        file = low.machine.user_file(path)
        symbol = file.find_data(name)
        assert symbol is not None
        if not file.is_relocated:
            return symbol.address
        here = low.load_register(low.machine.arch.instruction_pointer)
        return low.alu("+", here, symbol.address - address)


class UretprobeKind(UprobeKind):
    name = "uretprobe"
    aliases = ("ur",)
    forms = ("uretprobe:path:function", "uretprobe:library:function")
    returns = True
    describes_arguments = False

    def load_user_symbol(self, low: Lowering, name: str) -> Any:
        path, _ = low.unit.points[0].facts
        symbol = low.machine.user_file(path).find_data(name)
        assert symbol is not None
        return symbol.address


def _number(text: str) -> int | None:
    try:
        return int(text, 0) if text[:1].isdigit() else None
    except ValueError:
        return None


def find_files(kind: ProbeKind, target: str, span: Span, context: Expansion) -> list[str]:
    """The files that the target of a user probe means; complains if there is none."""
    if context.pid and target in ("*", ""):
        return context.machine.process_files(context.pid)
    paths = context.machine.expand_paths(target)
    if not paths and not is_pattern(target):
        context.diagnostics.error(
            f"{kind.name} target file '{target}' does not exist or is not executable", span
        )
    elif not paths:
        no_match(kind, target, span, context)
    return paths


def list_files(target: str, context: Expansion) -> list[str]:
    if context.pid and target in ("*", ""):
        return context.machine.process_files(context.pid)
    return context.machine.expand_paths(target)
