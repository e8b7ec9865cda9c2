"""Probes on perf's software and hardware events."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from tracebee.language.diagnostics import nearest
from tracebee.language.probes.base import Expansion, Point, ProbeKind
from tracebee.spec.objects import PerfEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.source import Span


class CounterEvent(NamedTuple):
    """An event: names, number in the uapi's enumeration, and after how many it fires by default."""

    name: str
    alias: str
    config: int
    period: int


# enum perf_sw_ids
SOFTWARE = (
    CounterEvent("alignment-faults", "", 7, 1),
    CounterEvent("bpf-output", "", 10, 1),
    CounterEvent("context-switches", "cs", 3, 1000),
    CounterEvent("cpu-clock", "cpu", 0, 1_000_000),
    CounterEvent("cpu-migrations", "", 4, 1),
    CounterEvent("dummy", "", 9, 1),
    CounterEvent("emulation-faults", "", 8, 1),
    CounterEvent("major-faults", "", 6, 1),
    CounterEvent("minor-faults", "", 5, 100),
    CounterEvent("page-faults", "faults", 2, 100),
    CounterEvent("task-clock", "", 1, 1),
)
# enum perf_hw_id
HARDWARE = (
    CounterEvent("backend-stalls", "", 8, 1_000_000),
    CounterEvent("branch-instructions", "branches", 4, 100_000),
    CounterEvent("branch-misses", "", 5, 100_000),
    CounterEvent("bus-cycles", "", 6, 100_000),
    CounterEvent("cache-misses", "", 3, 1_000_000),
    CounterEvent("cache-references", "", 2, 1_000_000),
    CounterEvent("cpu-cycles", "cycles", 0, 1_000_000),
    CounterEvent("frontend-stalls", "", 7, 1_000_000),
    CounterEvent("instructions", "", 1, 1_000_000),
    CounterEvent("ref-cycles", "", 9, 1_000_000),
)


class Counter(ProbeKind):
    """What both share: ``kind:event`` or ``kind:event:count``."""

    program_type = "PERF_EVENT"
    is_exclusive = True
    filters_by_program = True
    has_registers = True
    perf_type = 0
    events: tuple[CounterEvent, ...] = ()

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if not 1 <= len(parts) <= 2:
            error(f"{self.name} probe type requires 1 or 2 arguments, found {len(parts)}", span)
            return []
        found = next((event for event in self.events if parts[0] in (event.name, event.alias)), None)
        if found is None or not parts[0]:
            names = [name for event in self.events for name in (event.name, event.alias) if name]
            error(f"{parts[0]} is not a {self.name} probe", span, nearest(parts[0], names))
            return []
        period = found.period
        name = f"{self.name}:{parts[0]}:"
        if len(parts) == 2 and parts[1]:
            if not parts[1].isdigit() or int(parts[1]) == 0 or int(parts[1]) >= 1 << 63:
                error(f"Invalid count for {self.name} probe: invalid integer: {parts[1]}", span)
                return []
            period = int(parts[1])
            name += parts[1]
        return [Point(name.rstrip(":"), PerfEvent(self.perf_type, found.config, period))]

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        for event in self.events:
            name = f"{self.name}:{event.name}:"
            if fnmatchcase(name, pattern) or fnmatchcase(name.rstrip(":"), pattern):
                yield name


class Software(Counter):
    name = "software"
    aliases = ("s",)
    forms = ("software:event", "software:event:count")
    perf_type = 1
    events = SOFTWARE


class Hardware(Counter):
    name = "hardware"
    aliases = ("h",)
    forms = ("hardware:event", "hardware:event:count")
    perf_type = 0
    events = HARDWARE
