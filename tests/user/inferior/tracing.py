"""Runs a program under an Inferior: three processes, as in a session, so that exit statuses are the parent's."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tracebee.host.elf import ElfFile
from tracebee.host.identity import find_syscall_number
from tracebee.inferior.control import Inferior
from tracebee.inferior.watch import Watch
from tracebee.inferior.x86 import decode
from tracebee.syscalls import ptrace
from tracebee.syscalls.process import let_trace, no_new_privileges
from tracebee.syscalls.raw import prctl
from tracebee.syscalls.seccomp import install_filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.inferior.processes import Thread

_PR_SET_DUMPABLE = 4
"""A process that changes its user is not dumpable, and so not traceable, until it executes a program."""

PATIENCE = 20
"""Seconds after which a run is taken to hang."""


def number(name: str) -> int:
    found = find_syscall_number(name)
    assert found is not None
    return found


def calls(*names: str) -> frozenset[int]:
    return frozenset(number(name) for name in names)


class Recorder:
    """Events that keeps what happened, as plain tuples with the kind and the thread first."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.inferior: Inferior = None  # type: ignore[assignment]

    def add(self, kind: str, thread: Thread, *facts: Any) -> None:
        self.seen.append((kind, thread.tid, *facts))

    def syscall_enter(self, thread: Thread) -> None:
        self.add("enter", thread, thread.number, thread.arguments, thread.is_compat)

    def syscall_exit(self, thread: Thread) -> None:
        self.add("exit", thread, thread.number, thread.result, thread.is_compat)

    def forked(self, parent: Thread, child: Thread, kind: str) -> None:
        self.add("forked", parent, child.tid, child.process.pid, kind)

    def executed(self, thread: Thread, former_tid: int, filename: str) -> None:
        self.add("executed", thread, former_tid, filename)

    def exited(self, thread: Thread, status: int) -> None:
        self.add("exited", thread, status)

    def mapped(self, thread: Thread) -> None:
        self.add("mapped", thread)

    def signalled(self, thread: Thread, siginfo: bytes) -> None:
        self.add("signalled", thread, siginfo)

    def hit(self, thread: Thread, key: int) -> None:
        self.add("hit", thread, key)

    def returned(self, thread: Thread, key: int) -> None:
        self.add("returned", thread, key)

    def sample(self, thread: Thread) -> None:
        self.add("sample", thread)

    def warn(self, text: str) -> None:
        self.seen.append(("warn", 0, text))


class TracerFailed(Exception):
    """What the tracer raised, over there."""

    def __init__(self, name: str, message: str, hint: str, text: str) -> None:
        super().__init__(f"{name}: {message}; {hint}")
        self.add_note(text)


class Run(NamedTuple):
    """How a run went.  `status` is the wait status of the program."""

    pid: int
    status: int
    output: bytes
    seen: list[tuple[Any, ...]]
    stops: int = 0

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [one for one in self.seen if one[0] in kinds]


class Tracer:
    """A forked process that follows another one until there is nothing left to follow."""

    def __init__(
        self,
        pid: int,
        watch: Watch,
        *,
        filtered: bool,
        events: Callable[[], Recorder] = Recorder,
        prepare: Callable[[Inferior], None] | None = None,
        work: Callable[[Inferior], None] | None = None,
        user: int = 0,
    ) -> None:
        """`prepare` runs before the process is followed, `work` instead of pumping while there are threads."""
        self._results = os.memfd_create("results")
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(reader)
                if user:
                    os.setgroups([])
                    os.setgid(user)
                    os.setuid(user)
                self._trace(pid, watch, filtered, events(), prepare, work or follow, writer)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            self.filter = pipe.read()

    def _trace(
        self,
        pid: int,
        watch: Watch,
        filtered: bool,
        recorder: Recorder,
        prepare: Callable[[Inferior], None] | None,
        work: Callable[[Inferior], None],
        writer: int,
    ) -> None:
        failure: Any = None
        stops = 0
        look, wait = ptrace.look, ptrace.wait

        def counted(call: Callable[..., int]) -> Callable[..., int]:
            def count(*arguments: Any) -> int:
                nonlocal stops
                tid = call(*arguments)
                stops += tid > 0
                return tid

            return count

        ptrace.look, ptrace.wait = counted(look), counted(wait)
        try:
            inferior = Inferior(watch, recorder)
            recorder.inferior = inferior
            if prepare is not None:
                prepare(inferior)
            inferior.seize(pid, filtered)
            os.write(writer, inferior.filter_program() if filtered else b"-")
            os.close(writer)
            work(inferior)
        except Exception as error:
            failure = (type(error).__name__, str(error), getattr(error, "hint", ""), traceback.format_exc())
        os.write(self._results, pickle.dumps((recorder.seen, stops, failure)))

    def finish(self) -> tuple[list[tuple[Any, ...]], int]:
        """What was seen, and the number of stops, when the tracer has ended; raises what it has raised."""
        deadline = time.monotonic() + PATIENCE
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                pytest.fail("the tracer does not end")
            time.sleep(0.005)
        seen, stops, failure = pickle.loads(read_all(self._results))
        if failure is not None:
            raise TracerFailed(*failure)
        return seen, stops


def follow(inferior: Inferior) -> None:
    while inferior.alive:
        inferior.pump(1)


def trace(
    words: Sequence[str | Path],
    watch: Watch | None = None,
    *,
    user: int = 0,
    during: Callable[[int], None] | None = None,
    **options: Any,
) -> Run:
    """Run a program with the filter and under a tracer.  `during` gets its id when it may run."""
    path, *_ = arguments = [str(word) for word in words]
    output = os.memfd_create("output")
    gate_reader, gate = os.pipe()
    ready, ready_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)  # one to kill if it does not end
            os.close(gate)
            os.dup2(output, 1)
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
                prctl(_PR_SET_DUMPABLE, 1)
            let_trace(-1)
            os.close(ready_writer)
            with os.fdopen(gate_reader, "rb") as pipe:
                # The tracer has the other end too: no waiting for that of the file.
                program = pipe.read(int.from_bytes(pipe.read(4), "little"))
            if program:
                no_new_privileges()
                install_filter(program)
                os.execv(path, arguments)
        finally:
            os._exit(126)
    os.close(gate_reader)
    os.close(ready_writer)
    os.read(ready, 1)
    os.close(ready)
    try:
        tracer = Tracer(pid, watch or Watch(), filtered=True, user=user, **options)
        os.write(gate, len(tracer.filter).to_bytes(4, "little") + tracer.filter)
    finally:
        os.close(gate)
    if during is not None:
        during(pid)
    try:
        status = wait_for(pid)
    finally:
        seen, stops = tracer.finish()
    return Run(pid, status, read_all(output), seen, stops)


def plain(words: Sequence[str | Path]) -> Run:
    """Run a program untraced."""
    output = os.memfd_create("output")
    actions = [(os.POSIX_SPAWN_DUP2, output, 1)]
    pid = os.posix_spawn(words[0], [str(word) for word in words], os.environ, file_actions=actions)
    return Run(pid, wait_for(pid), read_all(output), [])


def read_all(fd: int) -> bytes:
    """The content of a file, which is closed."""
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(fd, "rb") as file:
        return file.read()


def wait_for(pid: int) -> int:
    """The wait status of a child; the test fails if it does not end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        if time.monotonic() > deadline:
            state = Path(f"/proc/{pid}/status").read_text()
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail(f"the program does not end:\n{state}")
        time.sleep(0.002)


def compile_c(folder: Path, source: str, *options: str, name: str = "program") -> Path:
    """Compile a C program; skips where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / f"{name}.c").write_text(source)
    done = subprocess.run(
        [compiler, "-O1", "-g", "-w", "-pthread", f"{name}.c", "-o", name, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / name


PYTHON = sys.executable


def offset_of(path: Path, symbol: str) -> tuple[int, int]:
    """The offset of a function in its file, and its size."""
    with ElfFile.open(str(path)) as elf:
        found = elf.find_function(symbol)
        assert found is not None, symbol
        offset = elf.file_offset(found.address)
        assert offset is not None
        return offset, found.size


def instructions_of(path: Path, symbol: str) -> list[int]:
    """The offsets of all instructions of a function in its file."""
    offset, size = offset_of(path, symbol)
    code = path.read_bytes()[offset : offset + size]
    at, found = 0, []
    while at < size:
        found.append(offset + at)
        at += decode(code[at:].ljust(16, b"\0")).length
    return found


def put(path: Path, *symbols: str, returns: bool = False) -> Callable[[Inferior], None]:
    """What puts breakpoints on functions, with keys 0, 1 and so on."""

    def prepare(inferior: Inferior) -> None:
        for key, symbol in enumerate(symbols):
            inferior.insert(key, str(path), offset_of(path, symbol)[0], returns)

    return prepare
