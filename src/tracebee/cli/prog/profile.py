"""``tracebee prog profile``: how often programs run, and for how long.

The kernel counts runs and their time while somebody asks it to (BPF_ENABLE_STATS, Linux 5.8), which costs each run
some 20 ns.  What bpftool adds, the processor's counters, it takes from programs at the entry and the exit of the
program (fentry, fexit).
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.cli.prog.tracelog import split_command_option
from tracebee.cli.selection import print_json, print_lines, split_options, split_selector, terminal_width
from tracebee.errors import NotSupportedError, SyscallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tracebee.kernel.info import ProgramInfo

METRICS = ("cycles", "instructions", "l1d_loads", "llc_misses", "itlb_misses", "dtlb_misses")
"""bpftool's words for counters of the processor."""

_HARDWARE = "the counters of the processor are not read: that takes fentry programs on the program"


class Wanted(NamedTuple):
    """What is asked for; without a selector it is every program that is loaded, without seconds until Ctrl-C."""

    selector: list[str]
    seconds: float
    metrics: tuple[str, ...]


class Profile(NamedTuple):
    """What a program has done within a time: nanoseconds of it, runs, and runs left out as it ran already."""

    id: int
    name: str
    type: str
    elapsed_ns: int
    run_cnt: int
    run_time_ns: int
    recursion_misses: int

    @property
    def each_ns(self) -> float:
        return self.run_time_ns / self.run_cnt if self.run_cnt else 0.0

    @property
    def runs_per_second(self) -> float:
        return self.run_cnt * 1e9 / self.elapsed_ns

    @property
    def cpu_percent(self) -> float:
        """Of one CPU."""
        return 100.0 * self.run_time_ns / self.elapsed_ns


def run_profile(words: Sequence[str]) -> int:
    """Count runs for some seconds, while a command runs, or until Ctrl-C.  Raises TracebeeError."""
    rest, command = split_command_option(words)
    options = split_options(rest)
    wanted = parse_wanted(options.words)
    if wanted.metrics:
        print(f"note: {_HARDWARE}{_why_not()}; runs and their time are below", file=sys.stderr)
    programs = _programs(wanted.selector)
    status = 0
    try:
        stats = _enable()
        try:
            before = _snapshot(programs)
            started = time.monotonic_ns()
            if command:
                status = _run_command(command, wanted.seconds)
            else:
                _wait(wanted.seconds)
            elapsed = max(1, time.monotonic_ns() - started)
            after = _snapshot(programs)
        finally:
            os.close(stats)
    finally:
        for _, fd in programs:
            os.close(fd)
    found = list(differences(before, after, elapsed))
    if not wanted.selector:
        found = sorted((one for one in found if one.run_cnt), key=lambda one: -one.run_time_ns)
    if options.wants_json:
        print_json([record(one) for one in found], options)
    elif found:
        print_lines(report(found, terminal_width()))
    else:
        print(f"no program ran within {elapsed / 1e9:.1f} s", file=sys.stderr)
    return status


def parse_wanted(words: Sequence[str]) -> Wanted:
    """The words of the command.  Raises UsageError."""
    rest = list(words)
    selector: list[str] = []
    if rest and rest[0] != "duration" and rest[0] not in METRICS:
        selector, rest = split_selector(rest)
    seconds = 0.0
    metrics = []
    while rest:
        word = rest.pop(0)
        if word == "duration":
            value = rest.pop(0) if rest else ""
            try:
                seconds = float(value)
            except ValueError:
                seconds = 0.0
            if not 0 < seconds < 1e9:
                raise UsageError(f"duration wants seconds behind it, not {value!r}", "such as `duration 2.5`")
        elif word in METRICS:
            metrics.append(word)
        else:
            raise UsageError(
                f"what is {word!r}?",
                f"behind the program may stand `duration SECONDS` and metrics: {', '.join(METRICS)}",
            )
    return Wanted(selector, seconds, tuple(metrics))


def differences(
    before: dict[int, ProgramInfo], after: dict[int, ProgramInfo], elapsed_ns: int
) -> Iterator[Profile]:
    """What each program did between two moments."""
    for program_id, first in before.items():
        last = after[program_id]
        yield Profile(
            program_id,
            first.name,
            first.type.lower(),
            elapsed_ns,
            last.run_cnt - first.run_cnt,
            last.run_time_ns - first.run_time_ns,
            last.recursion_misses - first.recursion_misses,
        )


def report(found: Sequence[Profile], width: int | None = None) -> list[str]:
    """The lines of a table."""
    from tracebee.cli.facts import duration
    from tracebee.render.tables import Column, table

    columns = [
        Column("ID", right=True),
        Column("NAME", free=True),
        Column("RUNS", right=True),
        Column("TIME", right=True),
        Column("EACH", right=True),
        Column("RUNS/S", right=True),
        Column("CPU", right=True),
        Column("MISSED", right=True),
    ]
    rows = [
        [
            str(one.id),
            one.name,
            str(one.run_cnt),
            duration(one.run_time_ns),
            duration(one.each_ns) if one.run_cnt else "",
            f"{one.runs_per_second:.1f}",
            f"{one.cpu_percent:.2f}%",
            str(one.recursion_misses) if one.recursion_misses else "",
        ]
        for one in found
    ]
    return table(columns, rows, width)


def record(one: Profile) -> dict[str, Any]:
    """What JSON has of a program."""
    return {
        "id": one.id,
        "name": one.name,
        "type": one.type,
        "seconds": one.elapsed_ns / 1e9,
        "run_cnt": one.run_cnt,
        "run_time_ns": one.run_time_ns,
        "run_time_ns_each": one.each_ns,
        "runs_per_second": one.runs_per_second,
        "cpu_percent": one.cpu_percent,
        "recursion_misses": one.recursion_misses,
    }


def _programs(selector: list[str]) -> list[tuple[int, int]]:
    """Id and descriptor of the programs that are meant."""
    from tracebee.kernel import ids

    if selector:
        return ids.find("prog", selector)
    found = []
    for program_id in ids.walk_ids("prog"):
        try:
            fd = ids.open_if_there("prog", program_id)
        except SyscallError as error:
            raise ids.explained(error, "prog") from error
        if fd is not None:
            found.append((program_id, fd))
    return found


def _snapshot(programs: Sequence[tuple[int, int]]) -> dict[int, ProgramInfo]:
    from tracebee.kernel.info import program_info

    return {program_id: program_info(fd) for program_id, fd in programs}


def _enable() -> int:
    from tracebee.kernel.permission import missing_right
    from tracebee.syscalls.bpf import enable_stats

    try:
        return enable_stats()
    except SyscallError as error:
        if error.errno == errno.EPERM:
            raise missing_right("counting the runs of programs") or error from error
        if error.errno == errno.EINVAL:
            raise NotSupportedError(
                "the kernel does not count runs on demand",
                "5.8",
                "`sysctl kernel.bpf_stats_enabled=1` does, from Linux 5.1 on",
            ) from error
        raise


def _run_command(command: str, seconds: float) -> int:
    """Run a command to its end, or for so many seconds; its exit status."""
    from tracebee.session.child import Child

    child = Child(command)
    try:
        child.release()
        if seconds:
            import select

            if not select.select([child.pidfd], [], [], seconds)[0]:
                return 0
        return child.exit_status()
    except KeyboardInterrupt:
        return 130
    finally:
        child.close()


def _wait(seconds: float) -> None:
    try:
        if seconds:
            time.sleep(seconds)
        else:
            print("counting until Ctrl-C", file=sys.stderr)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        pass


def _why_not() -> str:
    """Why the counters could not be had here in any case."""
    from tracebee.syscalls.perf import PERF_TYPE_HARDWARE, perf_event_open

    try:
        os.close(perf_event_open(PERF_TYPE_HARDWARE, 0, cpu=0))
    except SyscallError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            return ", and this machine has no such counters"
        return f", and this machine refuses such counters ({error.errno_name})"
    return ""
