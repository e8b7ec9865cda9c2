"""USDT probes: places that a program's author has marked (sys/sdt.h)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tracebee.errors import FormatError
from tracebee.language.ir import Address
from tracebee.language.probes.base import Expansion, Point, Unit, Uses, no_match
from tracebee.language.probes.tracepoint import is_pattern
from tracebee.language.probes.uprobe import UprobeKind, find_files, list_files
from tracebee.spec.objects import Uprobe
from tracebee.spec.types import INT64, Type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.machine import UsdtArgument
    from tracebee.language.source import Span


class UsdtKind(UprobeKind):
    name = "usdt"
    aliases = ("U",)
    forms = ("usdt:path:provider:name", "usdt:path:name")
    describes_arguments = False

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if not 1 <= len(parts) <= 3 or (len(parts) == 1 and not context.pid):
            error(
                f"usdt probe type requires 2 or 3 arguments, found {len(parts)}",
                span,
                f"write {self.forms[0]}",
            )
            return []
        target = parts[0] if len(parts) > 1 else "*"
        provider = parts[1] if len(parts) == 3 else "*"
        name = parts[-1]
        if not target and not context.pid:
            error(
                "usdt probe must specify at least path or pid to probe",
                span,
                "give a path, or a process with -p",
            )
            return []
        if not self.is_available(span, context):
            return []
        points: list[Point] = []
        paths = find_files(self, target, span, context)
        for path in paths:
            points += self._usdt_points(path, target, provider or "*", name, context)
        if paths and not points:
            no_match(self, ":".join(parts), span, context)
        return points

    def _usdt_points(
        self, path: str, target: str, provider: str, name: str, context: Expansion
    ) -> list[Point]:
        try:
            probes = context.machine.user_file(path).usdt_probes()
        except (OSError, FormatError):
            return []
        shown = target if "/" in target and not is_pattern(target) else path
        points = []
        for probe in probes:
            if not (fnmatchcase(probe.provider, provider) and fnmatchcase(probe.name, name)):
                continue
            if probe.file_offset is None:
                continue
            arguments = context.machine.usdt_arguments(probe.arguments)
            attach = Uprobe(path, probe.file_offset, False, probe.semaphore_offset or 0)
            full = f"usdt:{shown}:{probe.provider}:{probe.name}"
            points.append(Point(full, attach, probe.name, (path, probe.address, arguments)))
        return points

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        kind, _, rest = pattern.partition(":")
        if not fnmatchcase(self.name, kind) and kind not in self.aliases:
            return
        parts = rest.split(":")
        target = parts[0]
        if not target or (target == "*" and not context.pid):
            if not context.pid:
                return
            target = "*"
        provider = parts[1] if len(parts) == 3 else "*"
        name = parts[-1] if len(parts) > 1 else "*"
        found: dict[str, None] = {}
        for path in list_files(target, context):
            for point in self._usdt_points(path, target, provider or "*", name, context):
                found.setdefault(point.name)
        yield from found

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        path, _, arguments = point.facts
        return (point.function if uses.function else "", path, arguments)

    # --- arguments

    def argument_type(self, number: int) -> Type | None:
        return INT64

    def return_type(self, unit: Unit) -> Type | None:
        return None

    def load_argument(self, low: Lowering, number: int) -> Any:
        """As the note of the probe says: a register, memory at one, or a constant."""
        arguments: tuple[UsdtArgument, ...] = low.unit.points[0].facts[2]
        if number >= len(arguments):
            low.context.diagnostics.error(
                f"couldn't get argument {number} for {low.unit.points[0].name}: it has {len(arguments)}",
                low.here.function.span,
            )
            return 0
        argument = arguments[number]
        return load_operand(low, argument)

    def user_symbol_size(self, unit: Unit, name: str, context: Expansion) -> int | None:
        symbol = context.machine.user_file(unit.points[0].facts[0]).find_data(name)
        return -1 if symbol is None else symbol.size


def load_operand(low: Lowering, argument: UsdtArgument) -> Any:
    """The value of an operand of a USDT note, extended as its size says."""
    from tracebee.language.lower import memory

    bits = argument.size * 8
    kind = "sign" if argument.signed else "zero"
    if argument.kind == "const":
        value = argument.offset & ((1 << bits) - 1)
        return value - (1 << bits) if argument.signed and value >> (bits - 1) else value
    if argument.kind == "reg":
        found = low.load_register(argument.register)
        shifted = low.alu(">>", found, argument.shift) if argument.shift else found
        return low.convert(kind, shifted, bits)
    base = low.load_register(argument.register)
    address = Address(base, argument.offset)
    if argument.index:
        scaled = low.alu("*", low.load_register(argument.index), argument.scale or 1)
        address = low.address(low.alu("+", low.alu("+", base, scaled), argument.offset))
    return memory.read_scalar(low, "user", address, argument.size, argument.signed)
