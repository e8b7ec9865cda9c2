"""Hardware breakpoints on data or instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language.probes.base import Expansion, Point, ProbeKind, no_match
from tracebee.spec.objects import Breakpoint

if TYPE_CHECKING:
    from tracebee.language.source import Span

LENGTHS = (1, 2, 4, 8)


class WatchpointKind(ProbeKind):
    """The address is a number, or that of a symbol of the kernel."""

    name = "watchpoint"
    aliases = ("w",)
    forms = ("watchpoint:address:length:mode", "watchpoint:symbol:length:mode")
    program_type = "PERF_EVENT"
    is_exclusive = True
    has_registers = True

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if len(parts) != 3:
            error(
                f"watchpoint probe type requires 3 arguments, found {len(parts)}",
                span,
                f"write {self.forms[0]}",
            )
            return []
        symbol = parts[0] if parts[0].isidentifier() else ""
        address: int | None
        try:
            address = context.machine.kernel_address(symbol) if symbol else int(parts[0], 0)
            length = int(parts[1], 0)
        except ValueError:
            error(f"watchpoint address and length must be numbers: {parts[0]}:{parts[1]}", span)
            return []
        mode = parts[2]
        if length not in LENGTHS:
            error("watchpoint length must be one of (1,2,4,8)", span)
            return []
        if not mode or set(mode) - set("rwx") or len(set(mode)) != len(mode):
            error("watchpoint mode must be combination of (r,w,x)", span)
            return []
        if "x" in mode and mode != "x":
            error(
                "watchpoint modes rx, wx and rwx are invalid", span, "watch data with rw, instructions with x"
            )
            return []
        if address is None:
            no_match(self, ":".join(parts), span, context)
            return []
        if not 0 < address < 1 << 64:
            error("watchpoint address is out of range", span)
            return []
        if "x" in mode:
            # What the processor asks for (arch/x86/kernel/hw_breakpoint.c); the script's length is ignored.
            length = 8
        name = f"watchpoint:{parts[0]}:{parts[1]}:{mode}"
        return [Point(name, Breakpoint(address, length, mode), symbol if mode == "x" else "")]
