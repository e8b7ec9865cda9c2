"""Probes that time fires: interval (one CPU) and profile (every CPU)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tracebee.language.probes.base import Expansion, Point, ProbeKind
from tracebee.language.scanner import BadLiteral, number_value
from tracebee.spec.objects import PerfEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.source import Span

PERF_TYPE_SOFTWARE = 1
PERF_COUNT_SW_CPU_CLOCK = 0
UNITS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


class Timer(ProbeKind):
    """What both share: ``kind:unit:count`` or ``kind:duration``."""

    program_type = "PERF_EVENT"
    is_exclusive = True
    has_registers = True
    every_cpu = True

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if not 1 <= len(parts) <= 2:
            error(f"{self.name} probe type requires 1 or 2 arguments, found {len(parts)}", span)
            return []
        text = parts[-1]
        unit = parts[0] if len(parts) == 2 else "ns"
        if len(parts) == 2 and unit not in (*UNITS, "hz"):
            error(f"{unit} is not an accepted unit of time", span, "accepted units are hz, s, ms and us")
            return []
        try:
            count = number_value(text) if text[:1].isdigit() else None
        except BadLiteral:
            count = None
        if count is None:
            error(f"Invalid rate of {self.name} probe: invalid integer: {text}", span)
            return []
        if unit == "ns":
            unit, count = "us", count // 1000
        if count <= 0:
            error(f"{self.name} frequency should be a positive integer", span)
            return []
        name = f"{self.name}:{unit}:{count}"
        period = 0 if unit == "hz" else count * UNITS[unit]
        if period >= 1 << 63:
            error(f"{self.name} period is too long", span)
            return []
        attach = PerfEvent(
            PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, period, count if unit == "hz" else 0, self.every_cpu
        )
        return [Point(name, attach)]

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        for unit in ("hz", "ms", "s", "us"):
            name = f"{self.name}:{unit}:"
            if fnmatchcase(name, pattern) or fnmatchcase(name.rstrip(":"), pattern):
                yield name


class Interval(Timer):
    name = "interval"
    aliases = ("i",)
    forms = ("interval:ms:100", "interval:100ms", "interval:hz:10")
    every_cpu = False


class Profile(Timer):
    name = "profile"
    aliases = ("p",)
    forms = ("profile:hz:99", "profile:ms:10")
    filters_by_program = True
