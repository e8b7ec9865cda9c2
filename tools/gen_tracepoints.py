"""Writes src/tracebee/host/_tracepoints.py from the format files of kernels.

    python3 tools/gen_tracepoints.py x86_64:7.2.13=FILE x86_64:6.18.44=FILE aarch64:7.2.13=FILE … >_tracepoints.py

Each FILE holds what a kernel of that machine and release printed for

    cd /sys/kernel/tracing/events
    cat syscalls/sys_e*/format raw_syscalls/sys_e*/format signal/signal_deliver/format \
        sched/sched_process_fork/format sched/sched_process_exec/format sched/sched_process_exit/format

where lines of a console before, between and after formats are skipped.  `tracebee vm run --kernel 7.2 -- sh
script` runs it on another kernel of this machine's processor.  For another processor it takes QEMU, a kernel and
a static busybox for it (Debian: linux-binary-…-cloud-arm64 or linux-image-…-cloud-arm64, busybox-static:arm64)
and an initramfs whose init mounts tracefs, does `stty -onlcr -opost </dev/ttyAMA0` and has the output there::

    qemu-system-aarch64 -M virt -cpu cortex-a72 -m 1024 -nographic -monitor none -serial file:FILE \
        -no-reboot -kernel vmlinuz -initrd initramfs.gz -append "console=ttyAMA0 quiet loglevel=1 panic=-1"

The system calls of all kernels are put together: a configuration leaves some out, a release adds some.  Whatever
kernels do not agree on ends this program, unless one of the tables below says what to take.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from tracebee.host.identity import syscall_names
from tracebee.host.tracefs import TracepointFormat, parse_format
from tracebee.host.tracepoints import COMMON_FIELDS, NUMBER_FIELD, RESULT_FIELD, syscall_numbers

OTHERS = {
    "sys_enter": "raw_syscalls",
    "sys_exit": "raw_syscalls",
    "sched_process_fork": "sched",
    "sched_process_exec": "sched",
    "sched_process_exit": "sched",
    "signal_deliver": "signal",
}
"""The category of each tracepoint that is not of one system call."""

TAKEN_FROM = {
    # Two more arguments, of Linux 7.
    "sys_enter_bpf": "7.2",
    # Only the type of an argument is written otherwise, and the newest says as much or more: `const` at futex's
    # utime; void * for getcpu's struct that is unused and for name_to_handle_at's mnt_id, which has two sizes;
    # `unsigned int` for `unsigned`.
    "sys_enter_futex": "7.2",
    "sys_enter_getcpu": "7.2",
    "sys_enter_name_to_handle_at": "7.2",
    "sys_enter_semop": "7.2",
    # Names as char[16], which they are up to 6.12; in 6.18 they are behind a __data_loc.  char is unsigned since
    # 6.2 (-funsigned-char).
    "sched_process_fork": "6.12",
    "sched_process_exec": "6.12",
    # Without group_dead, which 6.18 has: a tracer is told of the end of threads one by one.
    "sched_process_exit": "6.12",
}
"""The release to follow where releases have different formats; else they have to agree."""

DIFFERS = {
    # CLONE_BACKWARDS: tls before child_tidptr.
    "clone",
}
"""System calls whose arguments depend on the machine; else machines have to agree."""

CONFIGURED_AWAY = {
    # CONFIG_KEXEC_FILE, and CONFIG_PROFILING until 6.6: Debian's kernels for arm64 do not have them.
    "aarch64": {"kexec_file_load", "lookup_dcookie"},
}
"""What a machine has a number for while none of its kernels here has the tracepoint: taken from the others."""

BY_HAND = {
    # SYSCALL_DEFINE0 in kernel/rseq.c, if CONFIG_RSEQ_SLICE_EXTENSION (7.0).
    "rseq_slice_yield": "",
}
"""What none of the kernels has been configured for."""

WIDTH = 110
"""Columns of a line, as everywhere in the package."""

Layout = tuple[tuple[str, int, int, bool], ...]
"""Declaration, offset, size and signedness of each field that is not common."""

_FORMAT = re.compile(r"^name: .*?^print fmt:", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*field:([^;]*);\s*offset:(\d+);\s*size:(\d+);\s*signed:([01]);", re.MULTILINE)


class Kernel:
    """The formats of a kernel."""

    def __init__(self, machine: str, release: str, text: str) -> None:
        self.machine = machine
        self.release = release
        self.layouts = read_layouts(text)

    def __str__(self) -> str:
        return f"{self.machine} {self.release}"

    def is_of(self, release: str) -> bool:
        return f"{self.release}.".startswith(f"{release}.")


def read_layouts(text: str) -> dict[str, Layout]:
    """The fields of each event.  Those of system calls are checked to be where this package puts them."""
    layouts: dict[str, Layout] = {}
    for found in _FORMAT.finditer(text.replace("\r", "")):
        event = parse_format(found[0])
        if event.fields[: len(event.fields) - len(event.arguments)] != COMMON_FIELDS:
            raise SystemExit(f"{event.name}: other common fields")
        lines = _FIELD.findall(found[0])
        fields = [(text, int(offset), int(size), signed == "1") for text, offset, size, signed in lines]
        if len(fields) != len(event.fields):
            raise SystemExit(f"{event.name}: a field that is not understood")
        layout = tuple(fields[len(COMMON_FIELDS) :])
        if event.name not in OTHERS:
            layout = layout[: check_syscall(event)]
        if layouts.setdefault(event.name, layout) != layout:
            raise SystemExit(f"{event.name}: twice, and differently")
    return layouts


def check_syscall(event: TracepointFormat) -> int:
    """How many fields, from the number of the call on, are not copies of what arguments point to."""
    fields = event.arguments
    if event.name.startswith("sys_exit_"):
        if fields != (NUMBER_FIELD, RESULT_FIELD):
            raise SystemExit(f"{event.name}: another record")
        return 2
    count = next((place for place, field in enumerate(fields) if field.data_loc), len(fields))
    if not event.name.startswith("sys_enter_") or not fields or fields[0] != NUMBER_FIELD:
        raise SystemExit(f"{event.name}: no system call")
    for position, field in enumerate(fields[1:count]):
        if (field.offset, field.size, field.signed, field.is_array) != (16 + 8 * position, 8, False, False):
            raise SystemExit(f"{event.name}: {field.name} is not where an argument should be")
    if not all(field.data_loc for field in fields[count:]):
        raise SystemExit(f"{event.name}: an argument behind a copied one")
    return count


def agreed(event: str, kernels: list[Kernel]) -> Layout:
    """The layout that all kernels have which know the event, or that is decided on above."""
    release = TAKEN_FROM.get(event)
    layouts = {str(kernel): kernel.layouts[event] for kernel in kernels if event in kernel.layouts}
    if len(set(layouts.values())) == 1 and release is None:
        return next(iter(layouts.values()))
    taken = {
        kernel.layouts[event]
        for kernel in kernels
        if release is not None and kernel.is_of(release) and event in kernel.layouts
    }
    if len(taken) != 1:
        lines = "\n".join(f"    {kernel}: {layout}" for kernel, layout in layouts.items())
        raise SystemExit(f"{event}: kernels differ, and it is not said which one is right:\n{lines}")
    return taken.pop()


def arguments_of(layout: Layout) -> str:
    return ", ".join(declaration for declaration, *_ in layout[1:])


def calls_of(kernels: list[Kernel]) -> dict[str, str]:
    """The arguments of each system call that some of the kernels, which are of one machine, has."""
    events = sorted({event for kernel in kernels for event in kernel.layouts if event not in OTHERS})
    calls = {}
    for event in events:
        name = event.removeprefix("sys_enter_")
        if name != event:
            if f"sys_exit_{name}" not in events:
                raise SystemExit(f"{event}: without sys_exit_{name}")
            calls[name] = arguments_of(agreed(event, kernels))
    return calls


def merge(machines: dict[str, dict[str, str]]) -> tuple[dict[str, str], dict[str, dict[str, str | None]]]:
    """The arguments of the calls of all machines, and by machine what is different (None: there is no such call).

    A machine has those of the calls that it has a number for, see host/tracepoints.py; so what differs is a
    call that goes by another machine's name for its function.
    """
    every: dict[str, str] = dict(BY_HAND)
    own: dict[str, dict[str, str | None]] = {machine: {} for machine in machines}
    for machine, calls in machines.items():
        numbers = syscall_numbers(machine)
        for name, arguments in calls.items():
            if name not in numbers:
                raise SystemExit(f"{machine}: no number for {name}")
            if name in BY_HAND:
                raise SystemExit(f"{machine}: {name} need not be given by hand")
            if every.setdefault(name, arguments) != arguments:
                if name not in DIFFERS:
                    raise SystemExit(f"{name}: {machine} has ({arguments}), and another ({every[name]})")
                own[machine][name] = arguments
    for machine, calls in machines.items():
        numbers = syscall_numbers(machine)
        taken = {numbers[name]: name for name in calls}
        missing = set()
        for name in every.keys() - calls.keys() - BY_HAND.keys():
            if numbers.get(name) in taken:
                own[machine][name] = None
            elif name in numbers:
                missing.add(name)
        if missing != CONFIGURED_AWAY.get(machine, set()):
            raise SystemExit(f"{machine}: no tracepoints for {', '.join(sorted(missing)) or 'nothing'}")
    return dict(sorted(every.items())), own


def without_tracepoint(machine: str, calls: dict[str, str], own: dict[str, str | None]) -> list[str]:
    """The system calls that have a number and nothing else."""
    numbers = syscall_numbers(machine)
    known = {numbers[name] for name in calls if name in numbers and own.get(name, "") is not None}
    return sorted(name for number, name in syscall_names(machine).items() if number not in known)


def main(arguments: list[str]) -> str:
    kernels = []
    for argument in arguments:
        kernel, _, path = argument.partition("=")
        machine, _, release = kernel.partition(":")
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        kernels.append(Kernel(machine, release, text))
    by_machine: dict[str, list[Kernel]] = {}
    for one in kernels:
        by_machine.setdefault(one.machine, []).append(one)
    calls, own = merge({machine: calls_of(found) for machine, found in by_machine.items()})
    lines = [
        '"""Arguments of system calls and records of some other tracepoints.',
        "",
        "Made by tools/gen_tracepoints.py from the format files of Linux",
        *(
            f"{', '.join(sorted((one.release for one in found), key=_by_number))} for {machine}"
            f"{',' if machine != list(by_machine)[-1] else '.'}"
            for machine, found in by_machine.items()
        ),
        "",
        "Without a tracepoint, since no kernel here has more than a number for them:",
    ]
    for machine in by_machine:
        lines += _wrapped(f"{machine}: {', '.join(without_tracepoint(machine, calls, own[machine]))}.")
    lines += [
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "CALLS: dict[str, str] = {",
        *(line for name, text in calls.items() for line in _entry(name, text, 4)),
        "}",
        '"""The name of a system call in its tracepoints → its arguments."""',
        "",
        "OF_MACHINE: dict[str, dict[str, str | None]] = {",
    ]
    for machine, different in own.items():
        lines.append(f'    "{machine}": {{')
        for name, text_or_none in sorted(different.items()):
            lines += _entry(name, text_or_none, 8)
        lines.append("    },")
    lines += [
        "}",
        '"""Where a machine differs; None for a call that it knows by another name."""',
        "",
        "OTHERS: dict[tuple[str, str], tuple[tuple[str, int, int, bool], ...]] = {",
    ]
    for event, category in OTHERS.items():
        lines.append(f'    ("{category}", "{event}"): (')
        for declaration, offset, size, signed in agreed(event, kernels):
            lines.append(f'        ("{declaration}", {offset}, {size}, {signed}),')
        lines.append("    ),")
    lines += [
        "}",
        '"""Category and name → declaration, offset, size and signedness of each field that is not common."""',
    ]
    return "\n".join(lines) + "\n"


def _entry(name: str, text: str | None, indent: int) -> list[str]:
    """A line of a dictionary, in pieces if it would be too long."""
    margin = " " * indent
    if text is None:
        return [f'{margin}"{name}": None,']
    if len(text) + len(name) + indent + 7 <= WIDTH:
        return [f'{margin}"{name}": "{text}",']
    room = WIDTH - indent - 6
    pieces = [text] if len(text) <= room else textwrap.wrap(text, room - 1, break_long_words=False)
    texts = [f"{piece} " for piece in pieces[:-1]] + pieces[-1:]
    return [f'{margin}"{name}": (', *(f'{margin}    "{one}"' for one in texts), f"{margin}),"]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, subsequent_indent="    ")


def _by_number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release))


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
