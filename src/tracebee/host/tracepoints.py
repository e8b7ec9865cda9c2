"""Tracepoints that are known without tracefs, which is root's: system calls, and what ptrace(2) can see too.

Their formats were taken from kernels (tools/gen_tracepoints.py) and ship with the package, for x86_64 and aarch64:
every system call in category syscalls, raw_syscalls:sys_enter and sys_exit, sched:sched_process_fork, _exec and
_exit, signal:signal_deliver.

The record of a system call is made by syscall_enter_define_fields() in kernel/trace/trace_syscalls.c: behind the
eight bytes of common fields the number, and from byte 16 on eight bytes for each argument.  Linux 7 copies what
some arguments point to behind them (__data_loc fields); these are not part of the formats here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.host.tracefs import TracepointField, TracepointFormat, make_field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMON_FIELDS = (
    TracepointField("common_type", "unsigned short", 0, 2, False, True),
    TracepointField("common_flags", "unsigned char", 2, 1, False, True),
    TracepointField("common_preempt_count", "unsigned char", 3, 1, False, True),
    TracepointField("common_pid", "int", 4, 4, True, True),
)
"""What every record starts with (trace_define_common_fields() in kernel/trace/trace_events.c)."""

NUMBER_FIELD = TracepointField("__syscall_nr", "int", 8, 4, True)
RESULT_FIELD = TracepointField("ret", "long", 16, 8, True)

NO_ID = 0
"""`TracepointFormat.id` of a format that no kernel has been asked about; real ones are above 0."""

RENAMED = {
    "newstat": "stat",
    "newlstat": "lstat",
    "newfstat": "fstat",
    "newuname": "uname",
    "sendfile64": "sendfile",
    "umount": "umount2",
    "sync_file_range2": "sync_file_range",
    "fadvise64_64": "fadvise64",
    "arm64_personality": "personality",
}
"""What user space calls a system call, where its tracepoints have another name: they are named after the kernel's
function, SYSCALL_DEFINEn(name…)."""


def syscall_numbers(machine: str = "") -> dict[str, int]:
    """Numbers of system calls by the names that tracepoints use; `machine` as for identity.syscall_names().

    A call that may be known by two names is there with both, as this does not know what the kernel calls it.
    """
    from tracebee.host.identity import syscall_names

    numbers = {name: number for number, name in syscall_names(machine).items()}
    for name, usual in RENAMED.items():
        if usual in numbers:
            numbers.setdefault(name, numbers[usual])
    return numbers


class ShippedTracepoints:
    """The tracepoints of a machine, as uname(2) names it; only the few that are no system calls for one that is
    not known."""

    __slots__ = ("_calls", "_names", "_numbers", "_others")

    def __init__(self, machine: str) -> None:
        from tracebee.host._tracepoints import CALLS, OF_MACHINE, OTHERS

        self._others: Mapping[tuple[str, str], tuple[tuple[str, int, int, bool], ...]] = OTHERS
        self._calls: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        own = OF_MACHINE.get(machine, {})
        numbers = syscall_numbers(machine)
        for name, arguments in (CALLS | own).items():
            if arguments is not None and name in numbers:
                self._calls[name] = arguments
                self._numbers[name] = numbers[name]
        self._names = {number: name for name, number in self._numbers.items()}

    def events(self) -> Iterator[tuple[str, str]]:
        """(category, name) of every tracepoint; the system calls come last, by name."""
        yield from self._others
        for name in sorted(self._calls):
            yield "syscalls", f"sys_enter_{name}"
            yield "syscalls", f"sys_exit_{name}"

    def has_event(self, category: str, name: str) -> bool:
        if category == "syscalls":
            return name.startswith(("sys_enter_", "sys_exit_")) and _call(name) in self._calls
        return (category, name) in self._others

    def format(self, category: str, name: str) -> TracepointFormat:
        """The record of a tracepoint, without an id; KeyError if there is none of that name."""
        if not self.has_event(category, name):
            raise KeyError(f"{category}:{name}")
        own: tuple[TracepointField, ...]
        if category != "syscalls":
            own = tuple(make_field(*place) for place in self._others[category, name])
        elif name.startswith("sys_exit_"):
            own = (NUMBER_FIELD, RESULT_FIELD)
        else:
            own = (NUMBER_FIELD, *_arguments(self._calls[_call(name)]))
        return TracepointFormat(name, NO_ID, COMMON_FIELDS + own)

    def syscall_of(self, event: str) -> int | None:
        """The number of the system call that ``sys_enter_NAME``, ``sys_exit_NAME`` or ``NAME`` is about."""
        return self._numbers.get(_call(event))

    def event_of(self, number: int) -> str | None:
        """The ``NAME`` in the tracepoints of a system call; None if it has none."""
        return self._names.get(number)


def _call(event: str) -> str:
    for prefix in ("sys_enter_", "sys_exit_"):
        if event.startswith(prefix):
            return event[len(prefix) :]
    return event


def _arguments(declarations: str) -> tuple[TracepointField, ...]:
    """The fields of the arguments of a system call, ``int fd, char * buf``."""
    if not declarations:
        return ()
    return tuple(
        make_field(declaration, 16 + 8 * position, 8, False)
        for position, declaration in enumerate(declarations.split(", "))
    )
