"""The session's side of the user backend: starts the tracer process, and asks it for everything."""

from __future__ import annotations

import gc
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from tracebee import errors
from tracebee.errors import InternalError, TargetError, TracebeeError
from tracebee.session.user import wire
from tracebee.spec.objects import PerfEvent, RunOnce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tracebee.kernel.ring import Take
    from tracebee.kernel.taskevents import Executed, Forked, Mapped
    from tracebee.session.user.engine import EngineBackend
    from tracebee.session.user.machine import UserMachine
    from tracebee.session.user.world import TaskWorld
    from tracebee.spec.objects import Attach, MapSpec, ObjectSpec, ProbeSpec, ProgramSpec

REBUILT: dict[str, tuple[str, ...]] = {
    "AttachError": ("probe", "reason", "hint"),
    "EngineFault": ("reason", "insn_index", "address", "program", "line", "nearest"),
    "FormatError": ("what", "offset"),
    "NotSupportedError": ("feature", "since", "hint"),
    "PermissionRefused": ("action", "capability", "hint"),
    "SyscallError": ("call", "errno", "detail"),
    "TargetError": ("target", "reason", "hint"),
    "UsageError": ("", "hint"),
}
"""Errors that the tracer process can have, and what each is made of again on this side; "" is the text."""


class RemoteMap:
    """A map in the tracer process (tracebee.session.backend.BackendMap); `id` is the engine's number for it."""

    def __init__(self, spec: MapSpec, cpus: int, ask: Callable[..., Any], number: int = 0) -> None:
        self.spec = spec
        self.id = number
        per_cpu = "PERCPU" in spec.type
        self.cpus = cpus if per_cpu else 1
        self.slot = (spec.value_size + 7) // 8 * 8 if per_cpu else spec.value_size
        self._ask = ask

    def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self._ask("get", self.spec.name, key)
        return found

    def put(self, key: bytes, value: bytes) -> None:
        self._ask("put", self.spec.name, key, value)

    def remove(self, key: bytes) -> bool:
        return bool(self._ask("remove", self.spec.name, key))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self._ask("items", self.spec.name)

    def clear(self) -> None:
        self._ask("clear", self.spec.name)


class RemoteProgram:
    """A program in the tracer process; there is no verifier that would write a log."""

    log = ""

    def __init__(self, spec: ProgramSpec) -> None:
        self.spec = spec


class RemoteTasks:
    """What the tracer process has told of tasks (tracebee.session.backend.TaskLog)."""

    fds: Sequence[int] = ()
    lost = 0

    def __init__(self) -> None:
        self.found: list[Forked | Executed | Mapped] = []

    def drain(self) -> list[Forked | Executed | Mapped]:
        found, self.found = self.found, []
        return found

    def take(self, name: str, *fields: Any) -> None:
        """Take in a message of the tracer's."""
        from tracebee.kernel import taskevents

        self.found.append(getattr(taskevents, name)(*fields))


class UserBackend:
    """A loaded object whose programs run in a process of their own, for what ptrace(2) shows."""

    passes_status = True

    def __init__(self, spec: ObjectSpec, machine: UserMachine, *, pid: int = 0, ring_pages: int = 0) -> None:
        """Start the tracer process, which makes the maps and translates the programs.

        `pid` is the process to trace if it is not to be a command.  Raises EngineFault, NotSupportedError.
        """
        self.spec = spec
        self.pid = pid
        self.filtered = False
        self.maps: dict[str, RemoteMap] = {}
        self.programs: dict[str, RemoteProgram] = {one.name: RemoteProgram(one) for one in spec.programs}
        self._tasks: RemoteTasks | None = None
        self._records: deque[bytes] = deque()
        self._notices: list[str] = []
        self._fault: TracebeeError | None = None
        self._positions = {id(probe): position for position, probe in enumerate(spec.probes)}
        answers, there_out = os.pipe()
        there_in, requests = os.pipe()
        self._fds = [answers, requests]
        self._inbox = wire.Inbox(answers)
        self._outbox = wire.Outbox(requests)
        try:
            self.tracer_pid = self._fork(machine, there_in, there_out, ring_pages)
        finally:
            os.close(there_in)
            os.close(there_out)
        try:
            self._await_answer()
        except BaseException:
            self.close()
            raise
        for number, one in enumerate(spec.maps, 1):
            if one.type != "RINGBUF":
                self.maps[one.name] = RemoteMap(one, machine.possible_cpus, self._ask, number)

    def _fork(self, machine: UserMachine, requests: int, answers: int, ring_pages: int) -> int:
        """Start the tracer process: a grandchild, so that it is nobody's to wait for."""
        from tracebee.session.user.tracer import TracerProcess

        session = os.getpid()
        make = self._engine(ring_pages)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                tracer = os.fork()
                if tracer:
                    os.write(writer, tracer.to_bytes(4, "little"))
                    os._exit(0)
                os.close(writer)
                gc.freeze()  # a collection would write to the pages that both processes have
                TracerProcess(make, machine, requests, answers, session).serve()
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            number = pipe.read(4)
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass  # the program that uses us takes note of all its children
        return int.from_bytes(number, "little")

    def _engine(self, ring_pages: int) -> Callable[[TaskWorld], EngineBackend]:
        """What makes the programs and maps in the tracer process."""
        from tracebee.session.user.engine import EngineBackend

        return lambda world: EngineBackend(self.spec, world, ring_pages=ring_pages)

    # --- requests

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Send a request and wait for its answer; what else comes meanwhile is kept."""
        self._outbox.add(wire.pack(wire.REQUEST, (name, *arguments)))
        self._outbox.flush(wait=True)
        if self._outbox.is_broken:
            self._inbox.fill(wait=False)
            raise self._gone()
        return self._await_answer()

    def _await_answer(self) -> Any:
        while True:
            if not self._inbox.fill(wait=True):
                raise self._gone()
            answers = [frame for frame in self._frames() if frame is not None]
            if answers:
                kind, value = answers[0]
                if kind == wire.FAILURE:
                    raise rebuild(value)
                return value

    def _gone(self) -> TracebeeError:
        list(self._frames())
        return self._fault or InternalError("the tracer process has ended")

    def _frames(self) -> Iterator[tuple[int, Any] | None]:
        """Sort what has come: answers are yielded, the rest is filed."""
        for kind, body in list(self._inbox.frames()):
            if kind in (wire.ANSWER, wire.FAILURE):
                yield kind, wire.value_of(body)
            else:
                self._file(kind, body)

    def _file(self, kind: int, body: bytes) -> None:
        if kind == wire.RECORDS:
            self._records.append(body)
        elif kind == wire.TASKS:
            if self._tasks is not None:
                self._tasks.take(*wire.value_of(body))
        elif kind == wire.NOTICE:
            self._notices.append(wire.value_of(body))
        elif kind == wire.FAULT:
            self._fault = self._fault or rebuild(wire.value_of(body))

    # --- the protocol

    def set_command(self, pid: int) -> None:
        self.pid = pid
        self.filtered = True

    def attach(self, probe: ProbeSpec) -> Sequence[tuple[str, str]]:
        self._ask("attach", self._positions[id(probe)])
        return ()

    def follow(self) -> bytes:
        """Begin to trace the target; the filter that it has to install if it is a command.  Raises TargetError."""
        if not self.pid and any(needs_target(probe) for probe in self.spec.probes):
            raise TargetError(
                "",
                "there is nothing to trace: the user backend (ptrace) sees the command of -c or the process of -p",
                "add -c 'COMMAND' or -p PID; --backend kernel sees the whole system",
            )
        if self.pid == os.getpid():
            from tracebee.syscalls.process import let_trace

            let_trace(self.tracer_pid)
        found: bytes = self._ask("follow", self.pid, self.filtered, self._tasks is not None)
        return found

    def run(self, probe: ProbeSpec) -> int:
        result: int = self._ask("run", self._positions[id(probe)])
        return result

    def measure(self, probe: ProbeSpec, nanoseconds: int) -> tuple[int, int]:
        mean, count = self._ask("measure", self._positions[id(probe)], nanoseconds)
        return mean, count

    def run_iterators(self) -> None:
        """There are none: they go over the kernel's objects."""

    def detach_where(self, chosen: Callable[[Attach], bool]) -> None:
        """Nothing that this backend attaches to is detached by itself: only watchpoints are."""

    def detach(self) -> None:
        self._ask("detach")

    def drain(self, take: Take) -> int:
        if not self._inbox.fill(wait=False):
            list(self._frames())
            if self._fault is None and not self._records:
                raise self._gone()
        list(self._frames())
        taken = 0
        while self._records:
            data = memoryview(self._records.popleft())
            taken += take(data, data.cast("I"), 0, len(data), len(data))
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        return taken

    def watch_tasks(self) -> RemoteTasks:
        if self._tasks is None:
            self._tasks = RemoteTasks()
        return self._tasks

    def event_fd(self) -> int:
        return self._inbox.fd

    def global_value(self, offset: int, size: int) -> int:
        value: int = self._ask("global", offset, size)
        return value

    def set_global(self, offset: int, size: int, value: int) -> None:
        self._ask("set_global", offset, size, value)

    def missed(self) -> dict[str, int]:
        """None: one program runs at a time."""
        return {}

    def notices(self) -> list[str]:
        found, self._notices = self._notices, []
        return found

    def close(self) -> None:
        """Leave the tracer process alone: it goes when nobody needs it."""
        while self._fds:
            os.close(self._fds.pop())


def needs_target(probe: ProbeSpec) -> bool:
    """Whether a probe can fire only for a process that is followed."""
    place = probe.attach
    return not isinstance(place, RunOnce) and not (isinstance(place, PerfEvent) and not place.every_cpu)


def rebuild(description: tuple[Any, ...]) -> TracebeeError:
    """The error that tracebee.session.user.tracer.describe has taken apart."""
    name, *values = description
    made: TracebeeError = getattr(errors, name)(*values)
    return made
