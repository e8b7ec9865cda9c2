"""Starts a tool, waits for it, and says what it cost.

A tool is started by fork, chroot and exec with nothing in between: no shell, no wrapper.  What it writes
goes to memory files, so that no reader competes with it for a CPU and no disk is in the figures; to the tool
they are regular files, as with ``> file``.
"""

from __future__ import annotations

import os
import re
import select
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE = 120.0
"""Seconds after which a tool is taken to hang."""

SETTLE = 0.2
"""Seconds between a tool's word that it is attached, which old peers give before they are, and the work."""

LOST = re.compile(rb"[Ll]ost (\d+) events|Skipped (\d+) events")


class BenchmarkError(Exception):
    """A measurement cannot go on; the text says which tool did what."""


class Tool(NamedTuple):
    """A tracer: the words that start it, and the root file system that it lives in (empty: this one)."""

    name: str
    command: tuple[str, ...]
    root: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    def path_of(self, program: str) -> str:
        """The real path of a program in the tool's root.  Raises BenchmarkError if it is not there."""
        for folder in ("/usr/bin", "/bin"):
            path = f"{folder}/{program}"
            if os.path.exists(self.root + path):
                if self.root and os.path.islink(self.root + path):
                    return os.path.join(folder, os.readlink(self.root + path))
                return os.path.realpath(path) if not self.root else path
        raise BenchmarkError(f"there is no {program} for {self.name}")


class Ended(NamedTuple):
    """What a run cost: seconds from before fork to its end, CPU seconds and peak bytes from wait4(2).

    CPU time and memory include children that the tool has waited for.
    """

    wall: float
    cpu: float
    peak: float
    status: int
    output: bytes
    errors: bytes

    @property
    def lost(self) -> int:
        """Events that the tool says it has lost."""
        found = LOST.findall(self.output[-20_000:] + self.errors)
        return sum(int(one or other) for one, other in found)


class Running:
    """A tool that runs; `end` or `kill` must follow."""

    def __init__(self, tool: Tool, arguments: Sequence[str]) -> None:
        self.tool = tool
        self._output = os.memfd_create("output")
        self._errors = os.memfd_create("errors")
        self._start = time.perf_counter()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(arguments)
        self._pidfd = os.pidfd_open(self.pid)
        self._ended: Ended | None = None

    def _become(self, arguments: Sequence[str]) -> None:
        """In the child: become the tool."""
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(self._output, 1)
            os.dup2(self._errors, 2)
            # A developer's PYTHONDONTWRITEBYTECODE or PYTHONUNBUFFERED is no part of what users run.
            kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
            environment = kept | dict(self.tool.environment)
            if self.tool.root:
                os.chroot(self.tool.root)
                os.chdir("/")
                environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
            words = (*self.tool.command, *arguments)
            os.execvpe(words[0], words, environment)
        except OSError as error:
            os.write(2, f"cannot start {self.tool.command[0]}: {error}\n".encode())
        finally:
            os._exit(127)

    def wait_attached(self) -> None:
        """Wait until the tool says that it has attached.  Raises BenchmarkError if it ends instead."""
        deadline = time.monotonic() + PATIENCE
        while b"Attach" not in read_all(self._output) + read_all(self._errors):
            if self._has_ended(0.005):
                raise self._failure("ended before it had attached", self._reap())
            if time.monotonic() > deadline:
                self.kill()
                raise BenchmarkError(f"{self.tool.name} did not attach within {PATIENCE:g} seconds")
        time.sleep(SETTLE)

    def cpu(self) -> float:
        """CPU seconds used so far by all threads of the tool, and by nothing else."""
        return time.clock_gettime(~self.pid << 3 | 2)  # include/linux/posix-timers.h: CPUCLOCK_SCHED

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.kill(self.pid, signal.SIGINT)

    def end(self) -> Ended:
        """Wait for the end.  Raises BenchmarkError if the tool fails, or hangs and is killed."""
        if not self._has_ended(PATIENCE):
            self.kill()
            raise BenchmarkError(f"{self.tool.name} did not end within {PATIENCE:g} seconds")
        ended = self._reap()
        if ended.status:
            raise self._failure(f"failed with status {ended.status}", ended)
        return ended

    def kill(self) -> None:
        """End it at once, unless it has been waited for."""
        if self._ended is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def _has_ended(self, seconds: float) -> bool:
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def _reap(self) -> Ended:
        _, status, usage = os.wait4(self.pid, 0)
        wall = time.perf_counter() - self._start
        output, errors = read_all(self._output), read_all(self._errors)
        for fd in (self._pidfd, self._output, self._errors):
            os.close(fd)
        self._ended = Ended(
            wall,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024.0,
            os.waitstatus_to_exitcode(status),
            output,
            errors,
        )
        return self._ended

    def _failure(self, what: str, ended: Ended) -> BenchmarkError:
        said = (ended.errors + ended.output)[-600:].decode("utf-8", "replace").strip()
        return BenchmarkError(f"{self.tool.name} {what}:\n{said}")


def read_all(fd: int) -> bytes:
    """What is in a memory file; its offset, which the writer shares, stays where it is."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


def run(tool: Tool, *arguments: str) -> Ended:
    """Start a tool and wait for its end."""
    return Running(tool, arguments).end()


class Bench(NamedTuple):
    """What a measurement is given: the tools, and how often each is to be run."""

    ours: Tool
    theirs: Tool | None
    rounds: int
    dump: str
    say: Callable[[str], None]

    @property
    def tools(self) -> tuple[Tool, ...]:
        """tracebee, and the peer if there is one."""
        return (self.ours,) if self.theirs is None else (self.ours, self.theirs)

    def alternately(self, rounds: int) -> Iterator[Tool]:
        """A B A B …: what slows the machine down for a while slows both down."""
        for _ in range(rounds):
            yield from self.tools
