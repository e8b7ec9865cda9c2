"""Probes that tracebee fires by itself: begin, end, self:signal, test, bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language.probes.base import Expansion, Point, ProbeKind
from tracebee.spec.objects import RunOnce

if TYPE_CHECKING:
    from tracebee.language.source import Span


class Special(ProbeKind):
    """A program run by BPF_PROG_TEST_RUN in tracebee's own process."""

    program_type = "RAW_TRACEPOINT"
    heeds_exit = False


class Begin(Special):
    name = "begin"
    aliases = ("BEGIN",)
    forms = ("begin",)
    is_exclusive = True

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        if parts:
            context.diagnostics.error(
                f"{self.name} probe type requires 0 arguments, found {len(parts)}", span
            )
            return []
        return [Point(self.name, RunOnce(self.name))]


class End(Begin):
    name = "end"
    aliases = ("END",)
    forms = ("end",)


class Self(Special):
    name = "self"
    forms = ("self:signal:SIGUSR1",)

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        if len(parts) != 2 or parts[0] != "signal":
            context.diagnostics.error("self probe type requires 2 arguments: signal and its name", span)
            return []
        if parts[1] != "SIGUSR1":
            context.diagnostics.error(f"{parts[1]} is not a supported signal", span, "use SIGUSR1")
            return []
        return [Point("self:signal:SIGUSR1", RunOnce("signal:SIGUSR1"))]


class Test(Special):
    name = "test"
    forms = ("test:name",)

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        if len(parts) != 1 or not parts[0]:
            context.diagnostics.error(f"{self.name} probe type requires 1 argument, found {len(parts)}", span)
            return []
        return [Point(f"{self.name}:{parts[0]}", RunOnce(f"{self.name}:{parts[0]}"))]


class Bench(Test):
    name = "bench"
    forms = ("bench:name",)
