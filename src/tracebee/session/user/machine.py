"""What a script can expect of the user backend: the facts of this machine that need no privilege."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tracebee.session.machine import LiveMachine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.host.tracefs import TracepointFormat
    from tracebee.host.tracepoints import ShippedTracepoints

WHERE = (
    "--backend kernel (root, or CAP_BPF and CAP_PERFMON) sees it where the kernel allows, and --backend vm:KERNEL "
    "in a virtual machine"
)

SEEN_KINDS = frozenset(
    (
        *("begin", "end", "self", "test", "bench", "interval", "profile"),
        *("tracepoint", "uprobe", "uretprobe", "usdt"),
    )
)

UNSEEN_KINDS = {
    "kprobe": "functions of the kernel",
    "kretprobe": "functions of the kernel",
    "fentry": "functions of the kernel",
    "fexit": "functions of the kernel",
    "rawtracepoint": "the arguments of raw tracepoints, which are the kernel's structures",
    "iter": "the kernel's objects",
    "software": "perf's counters",
    "hardware": "perf's counters",
    "watchpoint": "accesses to memory",
}
"""What each kind would have to see."""

SEEN_TRACEPOINTS = (
    "syscalls:*, raw_syscalls:*, sched:sched_process_fork, sched:sched_process_exec, sched:sched_process_exit "
    "and signal:signal_deliver"
)

ENGINE_FEATURES = frozenset(
    (
        *("may_goto", "isa_v4", "atomic_fetch", "large_keys", "for_each_map_elem", "map_lookup_percpu_elem"),
        *(
            "get_attach_cookie",
            "perf_link",
            "uprobe",
            "ktime_get_boot_ns",
            "ktime_get_tai_ns",
            "hash_on_demand",
        ),
    )
)
"""Of tracebee.kernel.features what the engine and the breakpoints of this backend have."""


class UserMachine(LiveMachine):
    """This machine as the user backend sees it."""

    backend = "user"
    attaches_cheaply = True

    def __init__(self, environment: dict[str, str] | None = None, disabled: Iterable[str] = ()) -> None:
        super().__init__(environment=environment)
        self.possible = ENGINE_FEATURES - frozenset(disabled)
        self._shipped: ShippedTracepoints | None = None

    def feature(self, name: str) -> bool:
        return name in self.possible

    def why_unseen(self, kind: str, place: Sequence[str]) -> tuple[str, str]:
        if kind in SEEN_KINDS:
            if kind == "tracepoint" and len(place) == 2 and all(place):
                return self._why_no_tracepoint(*place)
            return "", ""
        what = UNSEEN_KINDS.get(kind, "it")
        return f"{kind}: the user backend (ptrace) cannot see {what}", WHERE

    def _why_no_tracepoint(self, category: str, event: str) -> tuple[str, str]:
        if any(fnmatchcase(one, category) for one, _ in self.shipped.events()) and (
            category in ("syscalls", "raw_syscalls") or any(char in category for char in "*?[")
        ):
            return "", ""
        if any(
            fnmatchcase(one, category) and fnmatchcase(name, event) for one, name in self.shipped.events()
        ):
            return "", ""
        return (
            f"tracepoint:{category}:{event}: the user backend (ptrace) sees only {SEEN_TRACEPOINTS}",
            WHERE,
        )

    def why_no_helper(self, helper: str) -> tuple[str, str]:
        from tracebee.engine.calls import KERNEL_ONLY

        reason = KERNEL_ONLY.get(helper)
        if reason is None:
            return "", ""
        return f"the user backend (ptrace) has no {helper}(): it needs {reason}", WHERE

    # --- tracepoints: those that are made here from what ptrace shows

    @property
    def shipped(self) -> ShippedTracepoints:
        if self._shipped is None:
            from tracebee.host.tracepoints import ShippedTracepoints

            self._shipped = ShippedTracepoints(self.arch.name)
        return self._shipped

    def tracepoints(self) -> Iterable[tuple[str, str]]:
        return self.shipped.events()

    def has_tracepoint(self, category: str, name: str) -> bool:
        return self.shipped.has_event(category, name)

    def tracepoint_format(self, category: str, name: str) -> TracepointFormat | None:
        return self.shipped.format(category, name) if self.shipped.has_event(category, name) else None

    # --- the kernel, which is out of reach

    def pid_namespace(self) -> tuple[int, int] | None:
        """None: ptrace shows ids as this process's namespace has them."""
        return None

    def kernel_functions(self) -> Iterable[tuple[str, str]]:
        return ()

    def kfunc_allowed(self, name: str, program_type: str) -> bool:
        return False

    def kernel_address(self, symbol: str) -> int | None:
        return None

    @property
    def possible_cpus(self) -> int:
        """One: a single process runs all programs, so that values of per-CPU maps lie in one slot."""
        return 1
