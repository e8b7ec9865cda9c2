"""Kernel functions by kprobes."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tracebee.language.probes.base import Expansion, Point, Uses, no_match
from tracebee.language.probes.registers import RegisterKind
from tracebee.language.probes.tracepoint import is_pattern
from tracebee.spec.objects import Kprobe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.source import Span

HIDDEN = "__ftrace_invalid_address__"
"""Names that the kernel gives to functions it has thrown away (kernel/trace/ftrace.c)."""


class KprobeKind(RegisterKind):
    name = "kprobe"
    aliases = ("k",)
    forms: tuple[str, ...] = ("kprobe:function", "kprobe:function+offset", "kprobe:module:function")
    filters_by_program = True
    is_exclusive = True
    space = "kernel"

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        error = context.diagnostics.error
        if not 1 <= len(parts) <= 2 or not all(parts):
            error(f"{self.name} probe type requires 1 or 2 arguments, found {len(parts)}", span)
            return []
        module = parts[0] if len(parts) == 2 else "*"
        function, plus, offset_text = parts[-1].partition("+")
        try:
            offset = int(offset_text, 0) if plus else 0
        except ValueError:
            error(f"invalid offset: {offset_text}", span)
            return []
        names = sorted(
            {
                name
                for owner, name in context.machine.kernel_functions()
                if (name == function or (is_pattern(function) and fnmatchcase(name, function)))
                and fnmatchcase(owner, module)
                and (name == function or is_safe(name))
            }
        )
        if not names:
            if not is_pattern(function):
                context.diagnostics.warning(
                    f'{function} is not traceable (either non-existing, inlined, or marked as "notrace"); '
                    "attaching to it will likely fail",
                    span,
                )
            no_match(self, ":".join(parts), span, context)
            return []
        refusal = ("", "")
        if not context.machine.feature("kprobe"):
            refusal = (
                f"{self.name}s are not possible here: this kernel has no kprobes (CONFIG_KPROBES is not set)",
                "tracepoints and raw tracepoints work without them: try tracebee -l 'tracepoint:*'",
            )
        suffix = f"+{offset}" if offset else ""
        return [
            Point(f"{self.name}:{name}{suffix}", Kprobe(name, offset, self.returns), name, refusal=refusal)
            for name in names
        ]

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        for _, name in context.machine.kernel_functions():
            if HIDDEN not in name and fnmatchcase(f"{self.name}:{name}", pattern):
                yield f"{self.name}:{name}"

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        return point.function if uses.function else ""

    def tells_points_apart(self, context: Expansion) -> bool:
        return context.machine.feature("get_attach_cookie") and context.machine.feature("perf_link")


class KretprobeKind(KprobeKind):
    name = "kretprobe"
    aliases = ("kr",)
    forms = ("kretprobe:function", "kretprobe:module:function")
    returns = True


def is_safe(name: str) -> bool:
    """Whether a function may be probed by a wildcard: RCU's own must not be, they run inside every probe."""
    return HIDDEN not in name and not name.startswith(("rcu_", "__rcu_"))
