"""The tracer process: the engine's programs on one side, the targets under ptrace on the other, and the session's
requests in between.

It is forked from the session's process, and lives in a session of its own, so that neither Ctrl-C nor the death of
the whole process group reaches it.  When the session is gone it stops reporting, and stays only as long as there are
processes with its system call filter, whose calls would fail without a tracer (seccomp(2), SECCOMP_RET_TRACE).
"""

from __future__ import annotations

import os
import signal
import time
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, NoReturn

from tracebee.errors import AttachError, EngineFault, InternalError, NotSupportedError, TracebeeError
from tracebee.language.typetable import TypeTable
from tracebee.session.user import records, wire
from tracebee.session.user.machine import SEEN_TRACEPOINTS
from tracebee.session.user.objects import ObjectEngine, place_of
from tracebee.session.user.tasks import REGISTERS, ShadowTasks
from tracebee.session.user.world import TaskWorld
from tracebee.spec.objects import PerfEvent, RawTracepoint, Tracepoint, Uprobe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.engine.machine import EngineProgram
    from tracebee.inferior.control import Inferior, Thread
    from tracebee.inferior.watch import Watch
    from tracebee.session.user.engine import EngineBackend
    from tracebee.session.user.machine import UserMachine
    from tracebee.spec.objects import Attach

    Run = Callable[[bytes], int]

PUMP = 0.5
"""Seconds after which a tracer that hears nothing looks around."""

BATCH = 1 << 16
"""Bytes of records that are sent at once while there are more events."""

BACKLOG = 1 << 20
"""Bytes that may wait for the session before the targets have to."""


EVERY_CALL = 1024
"""More than the numbers of system calls go to."""

RAW = ("sys_enter", "sys_exit")
"""The raw tracepoints whose arguments can be made: struct pt_regs *, and a number."""

ONLY = f"sees only {SEEN_TRACEPOINTS}"

HURRY = 10_000
"""Stops after which machine code is made for the rest of them; TRACEBEE_HURRY has another number, or 0 for never."""


class Attached:
    """A program at a place."""

    __slots__ = ("cookie", "program", "run")

    def __init__(self, program: EngineProgram, cookie: int) -> None:
        self.program = program
        self.run: Run = program.run
        self.cookie = cookie


class Timer:
    """When a program is due next; `period` in nanoseconds."""

    def __init__(self, attached: Attached, period: int, samples: bool) -> None:
        self.attached = attached
        self.period = period
        self.samples = samples


class Places:
    """What is attached where: filled before the targets are followed, read for every event."""

    def __init__(self) -> None:
        self.enter: dict[int, list[Attached]] = {}
        self.exit: dict[int, list[Attached]] = {}
        self.every_enter: list[Attached] = []
        self.every_exit: list[Attached] = []
        self.raw_enter: list[Attached] = []
        self.raw_exit: list[Attached] = []
        self.fork: list[Attached] = []
        self.exec: list[Attached] = []
        self.exited: list[Attached] = []
        self.signal: list[Attached] = []
        self.uprobes: dict[int, tuple[Attached, Uprobe]] = {}
        self.timers: list[Timer] = []

    def calls(self) -> list[Attached]:
        """What is attached to tracepoints of system calls."""
        rows = [*self.enter.values(), *self.exit.values(), self.every_enter, self.every_exit]
        return [one for row in rows for one in row]

    def drop(self, attached: Attached) -> None:
        """Forget one."""
        every = (self.every_enter, self.every_exit, self.raw_enter, self.raw_exit)
        tasks = (self.fork, self.exec, self.exited, self.signal)
        for row in (*self.enter.values(), *self.exit.values(), *every, *tasks):
            row[:] = [one for one in row if one is not attached]
        self.uprobes = {key: one for key, one in self.uprobes.items() if one[0] is not attached}
        self.timers = [timer for timer in self.timers if timer.attached is not attached]

    def clear(self) -> None:
        """Forget everything: no program runs from now on."""
        self.__init__()  # type: ignore[misc]


class TracerProcess:
    """What runs in the forked process; `serve` is its whole life."""

    def __init__(
        self,
        backend: Callable[[TaskWorld], EngineBackend],
        machine: UserMachine,
        requests: int,
        answers: int,
        pid: int,
    ) -> None:
        """`requests` and `answers` are pipes from and to the session, whose process is `pid`."""
        self.machine = machine
        self.session_pid = pid
        self.world = TaskWorld(pid, machine.arch, ShadowTasks(TypeTable(machine.btf).find), self.notice)
        self.inbox = wire.Inbox(requests)
        self.outbox = wire.Outbox(answers)
        self.places = Places()
        self.inferior: Inferior | None = None
        self.is_lost = False
        self.traces_session = False
        self.filtered = False
        self.followed = False
        self.tells_tasks = False
        self._placed: dict[int, Attached] = {}
        self.told: set[tuple[int, int, int]] = set()
        self._due: list[tuple[int, int, Timer]] = []
        self._sampling: list[Timer] = []
        self._count = 0
        self._make = backend
        self._hurry_after = _number(os.environ.get("TRACEBEE_HURRY", ""), HURRY)

    # --- life

    def serve(self) -> NoReturn:
        """Answer requests and run programs until there is nobody left to do it for."""
        try:
            try:
                self._become_tracer()
                self._start()
                while not self.is_lost:
                    self._turn()
            except BaseException as error:
                self._tell_failure(error)
            self._outlive()
        finally:
            os._exit(0)

    def _tell_failure(self, error: BaseException) -> None:
        """A bug of ours: the session hears of it, and the targets must not."""
        if os.environ.get("TRACEBEE_TRACEBACK"):
            import traceback

            self.notice("".join(traceback.format_exception(error)))
        text = f"the tracer has failed: {type(error).__name__}: {error}"
        self._send(wire.pack(wire.FAULT, ("InternalError", text)))
        # A session that is its own target may be stopped, and read nothing.
        self.outbox.flush(wait=not self.traces_session)

    def _become_tracer(self) -> None:
        """Leave what belongs to the session: its terminal, its process group, its files, its signals."""
        from tracebee.syscalls.process import set_name

        os.setsid()
        set_name("tracebee-tracer")
        signal.set_wakeup_fd(-1)
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGPIPE,
            signal.SIGUSR1,
            signal.SIGUSR2,
        ):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        at = 3
        for kept in sorted((self.inbox.fd, self.outbox.fd)):
            os.closerange(at, kept)
            at = kept + 1
        os.closerange(at, 1 << 16)

    def _start(self) -> None:
        try:
            self.engine = self._make(self.world)
        except TracebeeError as error:
            self._send(wire.pack(wire.FAILURE, describe(error)))
            self.outbox.flush(wait=True)
            os._exit(0)
        self._send(wire.pack(wire.ANSWER, os.getpid()))

    def _turn(self) -> None:
        """One round: timers, events, requests, and what they have to say to the session."""
        self._run_timers()
        timeout = self._until_due()
        self._flush_records()
        self.outbox.flush()
        if self._hurry_after and self.inferior is not None and self.inferior.stops >= self._hurry_after:
            self._hurry()
        if self.inferior is not None and self.inferior.alive:
            self.inferior.pump(min(timeout, 0.02) if self.outbox else timeout)
        else:
            self._wait(timeout)
        if not self.inbox.fill(wait=False) or self.outbox.is_broken:
            self.is_lost = True
        self._serve_requests()

    def _hurry(self) -> None:
        """There are many stops: handle plain ones by machine code, if there is a compiler."""
        self._hurry_after = 0
        inferior = self.inferior
        places = self.places
        if inferior is None or not self.filtered or not places.calls():
            return
        if places.raw_enter or places.raw_exit or not self.engine.hurries:
            return
        from tracebee.session.user.burst import ProgramHook
        from tracebee.syscalls.nativecode import Door

        try:
            door = Door()
            inferior.quicken(door, ProgramHook(self, door, BATCH))
        except (NotSupportedError, InternalError):
            return  # as it was, only slower

    def _wait(self, timeout: float) -> None:
        import select

        select.select([self.inbox.fd], [self.outbox.fd] if self.outbox else [], [], timeout)

    def _serve_requests(self) -> None:
        for kind, body in list(self.inbox.frames()):
            if kind == wire.REQUEST:
                self._serve_request(*wire.value_of(body))

    def _outlive(self) -> None:
        """The session is gone: let the targets be, and wait for the end of those that need a tracer."""
        self._stop_programs()
        os.close(self.inbox.fd)
        os.close(self.outbox.fd)
        inferior = self.inferior
        if inferior is None:
            return
        inferior.retreat()
        while inferior.alive:
            inferior.pump(60)

    # --- requests

    def _serve_request(self, name: str, *arguments: Any) -> None:
        try:
            answer = getattr(self, f"on_{name}")(*arguments)
        except TracebeeError as error:
            self._flush_records()
            self._send(wire.pack(wire.FAILURE, describe(error)))
        else:
            self._flush_records()
            self._send(wire.pack(wire.ANSWER, answer))
        self.outbox.flush()

    def on_get(self, name: str, key: bytes) -> bytes | None:
        return self.engine.maps[name].get(key)

    def on_put(self, name: str, key: bytes, value: bytes) -> None:
        self.engine.maps[name].put(key, value)

    def on_remove(self, name: str, key: bytes) -> bool:
        return self.engine.maps[name].remove(key)

    def on_items(self, name: str) -> list[tuple[bytes, bytes]]:
        return list(self.engine.maps[name].items())

    def on_clear(self, name: str) -> None:
        self.engine.maps[name].clear()

    def on_global(self, offset: int, size: int) -> int:
        return self.engine.global_value(offset, size)

    def on_set_global(self, offset: int, size: int, value: int) -> None:
        self.engine.set_global(offset, size, value)

    def on_run(self, position: int) -> int:
        """Run a program that fires on request, as the session's process."""
        self.world.thread = None
        return self.engine.run(self.engine.spec.probes[position])

    def on_measure(self, position: int, nanoseconds: int) -> tuple[int, int]:
        self.world.thread = None
        return self.engine.measure(self.engine.spec.probes[position], nanoseconds)

    def on_attach(self, position: int) -> None:
        probe = self.engine.spec.probes[position]
        attached = Attached(self.engine.machine.programs[probe.program], probe.cookie)
        self._attach(probe.name, position, probe.attach, attached)

    def _attach(self, name: str, key: int, place: Attach, attached: Attached) -> None:
        if isinstance(place, Tracepoint):
            self._attach_tracepoint(place, attached)
        elif isinstance(place, Uprobe):
            self.places.uprobes[key] = (attached, place)
        elif isinstance(place, PerfEvent):
            period = place.period or 1_000_000_000 // place.frequency
            self.places.timers.append(Timer(attached, period, place.every_cpu))
        elif isinstance(place, RawTracepoint) and place.event in RAW:
            places = self.places
            (places.raw_enter if place.event == RAW[0] else places.raw_exit).append(attached)
        else:
            raise AttachError(name, "the user backend (ptrace) does not see this kind of place")

    def _attach_tracepoint(self, place: Tracepoint, attached: Attached) -> None:
        places = self.places
        if place.category == "syscalls":
            table = places.enter if place.event.startswith("sys_enter_") else places.exit
            number = self.machine.shipped.syscall_of(place.event)
            if number is None:
                raise AttachError(f"tracepoint:syscalls:{place.event}", "there is no such system call here")
            table.setdefault(number, []).append(attached)
            return
        seen = {
            "sys_enter": places.every_enter,
            "sys_exit": places.every_exit,
            "sched_process_fork": places.fork,
            "sched_process_exec": places.exec,
            "sched_process_exit": places.exited,
            "signal_deliver": places.signal,
        }
        row = seen.get(place.event) if self.machine.has_tracepoint(place.category, place.event) else None
        if row is None:
            raise AttachError(
                f"tracepoint:{place.category}:{place.event}", f"the user backend (ptrace) {ONLY}"
            )
        row.append(attached)

    # --- requests for objects

    def on_fill(self, name: str, offset: int, data: bytes) -> None:
        engine = self.engine
        assert isinstance(engine, ObjectEngine)
        engine.fill(name, offset, data)

    def on_settle(self) -> None:
        """Nothing: records go out before any answer."""

    def on_test_run(self, program: str, context: bytes) -> tuple[int, bytes]:
        self.world.thread = None
        data = bytearray(context)
        return self.engine.programs[program].run(data), bytes(data)

    def on_place(self, key: int, program: str, kind: str, fields: tuple[Any, ...], cookie: int) -> None:
        """Attach a program of an object to a place that its section need not name."""
        place = place_of(kind, fields)
        attached = Attached(self.engine.machine.programs[program], cookie)
        if self.followed and not isinstance(place, Uprobe):
            raise AttachError(
                program,
                "the target is being traced, and only uprobes can be added now",
                "attach it before the command starts",
            )
        self._attach(program, key, place, attached)
        self._placed[key] = attached
        if self.inferior is not None and isinstance(place, Uprobe):
            self.inferior.insert(key, place.path, place.offset, place.returns, place.reference_counter)

    def on_displace(self, key: int) -> None:
        attached = self._placed.pop(key)
        if key in self.places.uprobes and self.inferior is not None:
            self.inferior.remove(key)
        self.places.drop(attached)
        self._due = [one for one in self._due if one[2].attached is not attached]
        heapify(self._due)
        if self.inferior is not None:
            # Machine code has what was attached built in: it is made again when there are many more stops.
            self.inferior.unhurry()
            if self._hurry_after == 0:
                self._hurry_after = self.inferior.stops + HURRY

    def on_follow(self, pid: int, filtered: bool, tells_tasks: bool) -> bytes:
        """Begin to trace a process, or none if `pid` is 0; what it has to install as its filter."""
        from tracebee.inferior.control import Inferior

        now = time.monotonic_ns()
        for timer in self.places.timers:
            self._schedule(timer, now + timer.period)
        self.followed = True
        self.tells_tasks = tells_tasks
        if not pid:
            return b""
        self.traces_session = pid == self.session_pid
        self.filtered = filtered
        watch = self._watch()
        self.inferior = inferior = Inferior(watch, self, self.inbox.fd)
        # As in the kernel the newest on a place runs first; the session attaches the last one first.
        for key, (_, place) in reversed(self.places.uprobes.items()):
            inferior.insert(key, place.path, place.offset, place.returns, place.reference_counter)
        try:
            inferior.seize(pid, filtered)
        except BaseException:
            inferior.detach_all()
            raise
        if tells_tasks:
            self._tell_mappings(pid)
        if not filtered and (watch.enter or watch.exit):
            self.notice(
                f"every system call of process {pid} stops it, not only those of the script, which makes it slower: "
                "only a command that -c starts can be given a filter"
            )
        return inferior.filter_program() if filtered else b""

    def _watch(self) -> Watch:
        """What the targets have to stop for."""
        from tracebee.inferior.watch import Watch

        places = self.places
        every = frozenset(range(EVERY_CALL))
        enters, exits = places.every_enter or places.raw_enter, places.every_exit or places.raw_exit
        return Watch(
            enter=every if enters else frozenset(places.enter),
            exit=every if exits else frozenset(places.exit),
            every_abi=bool(enters or exits),
            signals=bool(places.signal),
            libraries=bool(places.uprobes or self.tells_tasks),
            data=any(place.reference_counter for _, place in places.uprobes.values()),
        )

    def on_detach(self) -> None:
        """Run no program any more, and let go of what needs no tracer."""
        self._stop_programs()
        if self.inferior is not None:
            self.inferior.retreat()

    # --- events (tracebee.inferior.events.Events)

    def _run(self, programs: Sequence[Attached], thread: Thread | None, context: bytes) -> None:
        world = self.world
        world.thread = thread
        for attached in programs:
            world.attach_cookie = attached.cookie
            try:
                attached.run(context)
            except EngineFault as fault:
                self.give_up(fault)
                return
        self._count += 1
        if not self._count & 63:
            self.keep_up()

    def syscall_enter(self, thread: Thread) -> None:
        places = self.places
        if not thread.is_compat:
            found = places.enter.get(thread.number)
            if found is not None:
                self._run(found, thread, records.sys_enter(thread))
        if places.every_enter:
            self._run(places.every_enter, thread, records.raw_sys_enter(thread))
        if places.raw_enter:
            self._run(places.raw_enter, thread, records.raw_arguments(REGISTERS, thread.number))

    def syscall_exit(self, thread: Thread) -> None:
        places = self.places
        if not thread.is_compat:
            found = places.exit.get(thread.number)
            if found is not None:
                self._run(found, thread, records.sys_exit(thread))
        if places.every_exit:
            self._run(places.every_exit, thread, records.raw_sys_exit(thread))
        if places.raw_exit:
            self._run(places.raw_exit, thread, records.raw_arguments(REGISTERS, thread.result))

    def forked(self, parent: Thread, child: Thread, kind: str) -> None:
        if self.tells_tasks and child.process is not parent.process:
            self._send(wire.pack(wire.TASKS, ("Forked", child.process.pid, parent.process.pid)))
        if self.places.fork:
            self._run(self.places.fork, parent, records.process_fork(parent, child))

    def executed(self, thread: Thread, former_tid: int, filename: str) -> None:
        if self.tells_tasks:
            pid = thread.process.pid
            self._send(wire.pack(wire.TASKS, ("Executed", pid)))
            self.told = {one for one in self.told if one[0] != pid}
            self._tell_mappings(pid)
        if self.places.exec:
            self._run(self.places.exec, thread, records.process_exec(thread, former_tid, filename))

    def mapped(self, thread: Thread) -> None:
        """The process has new executable memory."""
        if self.tells_tasks:
            self._tell_mappings(thread.process.pid)

    def exited(self, thread: Thread, status: int) -> None:
        if self.places.exited:
            self._run(self.places.exited, thread, records.process_exit(thread, priority_of(thread.tid)))

    def signalled(self, thread: Thread, siginfo: bytes) -> None:
        if self.places.signal:
            number = int.from_bytes(siginfo[:4], "little")
            handler = handler_of(thread.tid, number)
            if handler is not None:
                self._run(self.places.signal, thread, records.signal_deliver(thread, siginfo, handler, 0))

    def hit(self, thread: Thread, key: int) -> None:
        self.world.thread = thread
        point = thread.process.space.points.get(self.world.function_address())
        self.world.entry = point.original if point is not None else b""
        self._run_uprobe(thread, key)
        self.world.entry = b""

    def returned(self, thread: Thread, key: int) -> None:
        self._run_uprobe(thread, key)

    def _run_uprobe(self, thread: Thread, key: int) -> None:
        found = self.places.uprobes.get(key)
        if found is not None:
            self._run((found[0],), thread, thread.registers())

    def sample(self, thread: Thread) -> None:
        for timer in self._sampling:
            self._run((timer.attached,), thread, sample_context(thread.registers(), timer.period))

    def warn(self, text: str) -> None:
        self.notice(text)

    # --- timers

    def _schedule(self, timer: Timer, when: int) -> None:
        heappush(self._due, (when, id(timer), timer))

    def _until_due(self) -> float:
        if not self._due:
            return PUMP
        return min(PUMP, max(0.0, (self._due[0][0] - time.monotonic_ns()) / 1e9))

    def _run_timers(self) -> None:
        now = time.monotonic_ns()
        sampling = []
        while self._due and self._due[0][0] <= now:
            when, _, timer = heappop(self._due)
            # Before it runs: a fault takes all timers away.  Ticks that could not be kept are left out.
            self._schedule(timer, max(when + timer.period, now + 1))
            if timer.samples:
                sampling.append(timer)
            else:
                self._run((timer.attached,), None, sample_context(bytes(168), timer.period))
        if sampling and self.inferior is not None:
            # Threads may stop for it in a later round, so it is kept until the next samples are due.
            self._sampling = sampling
            self.inferior.sample()

    # --- to the session

    def notice(self, text: str) -> None:
        """Say something to the person."""
        self._send(wire.pack(wire.NOTICE, text))

    def give_up(self, fault: EngineFault) -> None:
        """A program did what it may not: nothing runs any more, and the session hears why."""
        self._stop_programs()
        self._flush_records()
        self._send(wire.pack(wire.FAULT, describe(fault)))
        if self.inferior is not None:
            self.inferior.retreat()

    def _stop_programs(self) -> None:
        """From now on nothing runs, whatever happens."""
        self.places.clear()
        self._due.clear()
        self._sampling = []

    def _tell_mappings(self, pid: int) -> None:
        """What a process has mapped as executable, as far as the session does not know it yet."""
        from tracebee.host.procmaps import read_maps

        try:
            found = read_maps(pid)
        except OSError:
            return
        for one in found:
            key = (pid, one.start, one.inode)
            if one.is_executable and key not in self.told:
                self.told.add(key)
                fields = (pid, one.start, one.end, one.offset, one.device, one.inode, one.path)
                self._send(wire.pack(wire.TASKS, ("Mapped", *fields)))

    def _flush_records(self) -> None:
        """Put the records that are there among what is to be sent."""

        def take(data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
            self.outbox.add(wire.pack_bytes(wire.RECORDS, data[start:end]))
            return end

        self.engine.drain(take)
        for number, data in self.engine.streams():
            self.outbox.add(wire.pack_bytes(wire.STREAM, number.to_bytes(4, "little") + data))
        for number, count in self.engine.losses():
            self._send(wire.pack(wire.LOST, (number, count)))

    def keep_up(self) -> None:
        """Between events that do not end: send what there is, and wait for a session that is behind."""
        self._flush_records()
        if len(self.outbox) >= BATCH:
            self.outbox.flush()
            # A session that is its own target cannot read while it is stopped.
            if len(self.outbox) > BACKLOG and not self.traces_session:
                self.outbox.flush(wait=True)

    def _send(self, frame: bytes) -> None:
        self.outbox.add(frame)


def describe(error: TracebeeError) -> tuple[Any, ...]:
    """An error as plain values: its class and what the class is made of."""
    from tracebee.session.user.backend import REBUILT

    name = type(error).__name__
    fields = REBUILT.get(name)
    if fields is None:
        return ("InternalError", str(error) if name == "InternalError" else f"{name}: {error}")
    return (name, *(getattr(error, field) if field else str(error) for field in fields))


def _number(text: str, otherwise: int) -> int:
    """A number that somebody has set; what is none counts as not set."""
    return int(text) if text.isdecimal() else otherwise


def sample_context(registers: bytes, period: int) -> bytes:
    """struct bpf_perf_event_data: the registers, sample_period and addr (uapi, linux/bpf_perf_event.h)."""
    return registers[:168].ljust(168, b"\0") + period.to_bytes(8, "little") + bytes(8)


def priority_of(tid: int) -> int:
    """The kernel's priority of a thread: 120 is nice 0 (proc_pid_stat(5), field 18, plus 100)."""
    try:
        with open(f"/proc/{tid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[15]) + 100
    except (OSError, ValueError, IndexError):
        return 120


DEFAULT_IGNORED = frozenset((signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH))


def handler_of(tid: int, number: int) -> int | None:
    """0 for the default action of a signal, 1 if the thread has a handler of its own; None if it is ignored.

    What is ignored still stops a thread that is traced, but is never delivered.
    """
    try:
        with open(f"/proc/{tid}/status", encoding="ascii", errors="replace") as file:
            masks = {line[:6]: line[7:] for line in file if line.startswith(("SigIgn", "SigCgt"))}
        bit = 1 << number - 1
        if int(masks["SigIgn"], 16) & bit:
            return None
        if int(masks["SigCgt"], 16) & bit:
            return 1
    except (OSError, ValueError, KeyError):
        return 0
    return None if number in DEFAULT_IGNORED else 0
