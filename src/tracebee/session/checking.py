"""The machine that scripts are checked for: the one we stand on, taken to have whatever a check may ask for.

A check is about the script.  Whether this kernel has kprobes, or this process the right to read tracefs, is asked by
others; so a feature that cannot be asked for counts as there, and the shipped tracepoints stand in for tracefs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import PermissionRefused, SyscallError
from tracebee.session.machine import LiveMachine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.host.tracefs import TracepointFormat
    from tracebee.host.tracepoints import ShippedTracepoints

ASSUMED = ("kprobe", "kprobe_multi", "fentry", "uprobe", "uprobe_multi", "tp_btf")
"""Features without which a probe is refused before anything is known of it."""


class CheckedMachine(LiveMachine):
    """See the module."""

    _shipped: ShippedTracepoints | None = None

    def feature(self, name: str) -> bool:
        if name in ASSUMED:
            return True
        try:
            return super().feature(name)
        except (PermissionRefused, SyscallError):
            return True

    @property
    def shipped(self) -> ShippedTracepoints:
        if self._shipped is None:
            from tracebee.host.tracepoints import ShippedTracepoints

            self._shipped = ShippedTracepoints(self.arch.name)
        return self._shipped

    def tracepoints(self) -> Iterable[tuple[str, str]]:
        try:
            return list(super().tracepoints())
        except (PermissionRefused, OSError):
            return self.shipped.events()

    def has_tracepoint(self, category: str, name: str) -> bool:
        try:
            return super().has_tracepoint(category, name)
        except (PermissionRefused, OSError):
            return self.shipped.has_event(category, name)

    def tracepoint_format(self, category: str, name: str) -> TracepointFormat | None:
        try:
            return super().tracepoint_format(category, name)
        except (PermissionRefused, OSError):
            return self.shipped.format(category, name) if self.shipped.has_event(category, name) else None
