"""Follows processes by ptrace(2): threads, forks, executions, system calls, signals.

A thread is stopped only where somebody wants to know of it, and goes on as if nothing had been.  In a process
with our seccomp filter (tracebee.inferior.filter) the wanted system calls alone stop, once for the entry,
and once more where the exit is wanted; a process that was attached to stops for every call, twice.

Any request may fail as the thread has been killed meanwhile: the stop that it was in is then over, and wait4(2)
will tell of its end.
"""

from __future__ import annotations

import os
import signal
import time
from errno import EINTR, ESRCH
from typing import TYPE_CHECKING

from tracebee.errors import TracebeeError
from tracebee.inferior.attach import explain_refusal
from tracebee.inferior.breakpoints import Breakpoints, Space
from tracebee.inferior.events import Events, NoEvents
from tracebee.inferior.filter import (
    CLONE_UNTRACED,
    MARK,
    X32_BIT,
    compat_ptrace,
    filter_program,
    number_of,
)
from tracebee.inferior.handover import Passages, find_target, parent_of
from tracebee.inferior.inject import Injector, has_other_filters
from tracebee.inferior.processes import Process, Thread
from tracebee.inferior.registers import LAYOUT, get
from tracebee.inferior.waiting import Waiter
from tracebee.inferior.watch import Watch
from tracebee.syscalls import processvm, ptrace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.inferior.burst import Burst, Door, Hook

__all__ = ["Inferior", "Process", "Thread"]

_BURST = 0.005
"""Seconds for which a pump goes on while stops follow each other."""

_CALM = 16
"""Stops, and one for every four threads, that are handled before the loop in machine code is tried again."""

_ORPHAN = 0.1
"""Seconds until a new thread is followed though nobody has told who started it."""

_OPTIONS = (
    ptrace.O_TRACESYSGOOD
    | ptrace.O_TRACEFORK
    | ptrace.O_TRACEVFORK
    | ptrace.O_TRACECLONE
    | ptrace.O_TRACEEXEC
    | ptrace.O_TRACEEXIT
)

# What wait4(2) says of a stop, without its low byte
_FILTER_STOP = int(signal.SIGTRAP) | ptrace.EVENT_SECCOMP << 8
_CALL_STOP = int(signal.SIGTRAP) | 0x80

# For the code that runs for every stop: names of this module are found faster
_request = ptrace.ptrace
_read_call_info, _read_result = ptrace.read_call_info, ptrace.read_result
_GET_SYSCALL_INFO, _CONT, _SYSCALL = ptrace.GET_SYSCALL_INFO, ptrace.CONT, ptrace.SYSCALL
_INFO, _INFO_SIZE, _INFO_VIEW = ptrace.call_info.reference, ptrace.call_info.size, ptrace.call_info.view

_STOP_SIGNALS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_STARTS = {ptrace.EVENT_FORK: "fork", ptrace.EVENT_VFORK: "vfork", ptrace.EVENT_CLONE: "clone"}

_WORD = (1 << 64) - 1
_CALL_SIZE = 2
"""Length of every instruction of x86 that enters the kernel."""

# include/uapi/asm-generic/mman-common.h
_PROT_EXEC = 4
_MAP_ANONYMOUS = 0x20

_SI_ADDR = slice(16, 24)
_ADDRESSED = (signal.SIGILL, signal.SIGFPE, signal.SIGTRAP)
"""Signals whose siginfo_t has the address of the instruction that caused them, if the kernel sent them."""

_AT_EXECFN = 31  # include/uapi/linux/auxvec.h


class Inferior:
    """The followed processes.  Everything happens on the thread that made it, the main thread of its process.

    `threads` are by id.  Every child of this process is taken to be a target: whatever wait4(2) gives is used up.
    """

    def __init__(self, watch: Watch, events: Events, wake_fd: int = -1) -> None:
        """`wake_fd` is a pipe or socket that ends a pump when there is something to read."""
        self._watch = Watch(
            watch.enter, watch.exit, watch.every_abi, watch.signals, watch.libraries, watch.data
        )
        self.threads: dict[int, Thread] = {}
        self._processes: dict[int, Process] = {}
        self._events: Events = events
        self._waiter = Waiter(wake_fd)
        self._machine = machine = os.uname().machine
        self._native = ptrace.NATIVE_AUDIT_ARCH.get(machine, -1)
        self._ptrace, self._mmap, self._clone, self._close = (
            number_of(name, machine) for name in ("ptrace", "mmap", "clone", "close")
        )
        self._enter, self._exit, self._every_abi = watch.enter, watch.exit, watch.every_abi
        self._signals, self._libraries = watch.signals, watch.libraries
        self._inner = {self._ptrace, self._clone} | ({self._mmap} if watch.libraries else set())
        self._compat_ptrace = compat_ptrace(machine)
        self._samples = 0
        self._is_handling = False
        self._strangers: dict[int, tuple[int, float]] = {}
        self._waiting: list[tuple[int, int]] = []
        self._injector = Injector(self._waiting)
        self._breakpoints = Breakpoints(self._processes, self._injector.call)
        self._passages = Passages()
        self.stops = 0  # that were handled one by one
        self._burst: Burst | None = None
        self._calm_at = 0
        self._stops_before = -1

    @property
    def alive(self) -> bool:
        """Whether there is anything left to wait for."""
        return bool(self.threads or self._strangers or self._passages)

    def filter_program(self) -> bytes:
        """An array of struct sock_filter, which a child installs after no_new_privs and before it executes."""
        return filter_program(self._watch, self._machine)

    def close(self) -> None:
        """Give this process its signal handlers back.  For when nothing is followed any more."""
        self._waiter.close()

    # --- beginning

    def seize(self, pid: int, filtered: bool) -> None:
        """Follow all threads of a process, and all that they start.

        With `filtered` the process will install the filter itself.  Raises TargetError, PermissionRefused; then
        the process is left as it was.
        """
        process = Process(pid, filtered, Space())
        options = _OPTIONS | (ptrace.O_TRACESECCOMP if filtered else 0)
        seized: set[int] = set()
        try:
            # A thread that one of them starts before it is seized is found in the next round, others follow it.
            while new := {int(name) for name in os.listdir(f"/proc/{pid}/task")} - seized:
                for tid in sorted(new):
                    seized.add(tid)
                    if ptrace.ptrace(ptrace.SEIZE, tid, 0, options) == 0:
                        self._add_thread(tid, process)
                        continue
                    error = ptrace.get_errno()
                    if tid == pid or (error != ESRCH and not _is_traced_by_us(tid)):
                        raise explain_refusal(pid, error)
        except (OSError, TracebeeError) as error:
            for thread in process.threads.values():
                self._leave(thread)
            if isinstance(error, TracebeeError):
                raise
            raise explain_refusal(pid, ESRCH) from None
        self._look_at_memory(process)

    def _add_thread(self, tid: int, process: Process) -> Thread:
        thread = Thread(tid, process)
        self.threads[tid] = process.threads[tid] = thread
        self._processes[process.pid] = process
        return thread

    def _stops_every_call(self, process: Process) -> bool:
        """Whether the system calls of a process can be seen only by stopping for all of them."""
        if process.is_filtered:
            return False
        awaits_library = self._libraries and self._breakpoints.lacks_some(process)
        return bool(self._enter or self._exit or awaits_library)

    def _look_at_memory(self, process: Process, fresh: tuple[int, int] = (0, 0)) -> None:
        """Put in the breakpoints that a process has to have, and see what has to stop for more of them."""
        self._breakpoints.scan(process, self._events, fresh)
        stops = self._stops_every_call(process)
        if stops and not process.stops_every_call:
            for thread in process.threads.values():
                if not thread.is_stopped:
                    self._interrupt(thread)
        process.stops_every_call = stops

    # --- breakpoints

    def insert(self, key: int, path: str, offset: int, returns: bool, semaphore: int = 0) -> None:
        """A breakpoint on an offset of a file, in all processes that have it mapped as code, now or later.

        `key` comes back with the events: `hit`, or with `returns` (at a function's entry) `returned`.  While the
        breakpoint is there, the u16 at the offset `semaphore` of the file, if that is not 0, counts one more.
        Raises TargetError where there is no such file.
        """
        self._breakpoints.insert(key, path, offset, returns, semaphore)
        for process in self._processes.values():
            self._look_at_memory(process)

    def remove(self, key: int) -> None:
        """Take the breakpoint of a key out again."""
        self._breakpoints.remove(key, self._events)

    # --- the loop

    def pump(self, timeout: float) -> None:
        """Handle what has happened; if that is nothing, wait at most `timeout` seconds for the first thing.

        Goes on for some milliseconds while one stop follows the other.  Returns early when there is something to
        read from `wake_fd`.
        """
        waiter = self._waiter
        if self._waiting:
            self._handle_waiting()  # a handler has raised an exception before their turn came
        if waiter.is_woken():
            timeout = 0.0
        tid = waiter.look()
        if tid == 0 and timeout > 0:
            if self._strangers:
                timeout = min(timeout, _ORPHAN)
            waiter.arm(timeout)
            tid = waiter.sleep()
        if tid > 0:
            waiter.arm(_BURST)
            self._is_handling = True
            try:
                self._handle_burst(tid)
            finally:
                self._is_handling = False
                waiter.disarm()
        else:
            waiter.disarm()
            if tid < 0:
                self._rest(timeout)
        if self._strangers:
            self._adopt_orphans()

    def _handle_burst(self, tid: int) -> None:
        """Handle a stop and those that follow it closely."""
        waiter = self._waiter
        word = ptrace.status_word
        while tid > 0:
            if self._burst is not None and self.stops >= self._calm_at:
                self._handle_quickly(self._burst, tid, word[0])
            elif len(self.threads) < 3:
                self._handle(tid, word[0])
                if self._waiting:
                    self._handle_waiting()
            else:
                # The kernel always looks at its list from the same end: take all that are there, lest those at
                # its other end wait for ever.
                batch = self._waiting
                batch.append((tid, word[0]))
                while len(batch) < 64 and (tid := waiter.look()) > 0:
                    batch.append((tid, word[0]))
                self._handle_waiting()
            if waiter.is_due:
                return
            tid = waiter.next()

    def quicken(self, door: Door, hook: Hook) -> None:
        """Handle plain system call stops in machine code from now on: `hook` is told of them, not `events`.

        Raises NotSupportedError if there is no compiler.
        """
        from tracebee.inferior.burst import Burst

        self._burst = Burst(door, hook, self._enter, self._exit, self._inner, self._native)

    def unhurry(self) -> None:
        """Undo `quicken`: `events` are told of all stops again."""
        self._burst = None

    def _handle_quickly(self, burst: Burst, tid: int, word: int) -> None:
        """Let machine code handle a stop, and more until one is not plain or there is something else to do."""
        from tracebee.inferior.burst import FAILED, OTHER

        threads = self.threads
        if self.stops != self._stops_before:
            burst.is_stale = True
        why = burst.run(threads.values(), (tid, word), time.monotonic() + _BURST)
        self._waiting += burst.rest
        self._stops_before = self.stops
        failed = threads.get(burst.failed) if why == FAILED else None
        if failed is not None:
            failed.is_stopped = True
        try:
            burst.hook.end(burst.error)
        finally:
            if failed is not None:
                self._resume(failed)
        if why == OTHER:
            self._calm_at = self.stops + _CALM + len(threads) // 4
        if self._waiting:
            self._handle_waiting()

    def _handle_waiting(self) -> None:
        batch = self._waiting
        while batch:
            self._handle(*batch.pop(0))

    def _rest(self, timeout: float) -> None:
        """Nobody is traced: wait for the descriptor alone."""
        for thread in list(self.threads.values()):
            self._forget(thread)
        if timeout > 0:
            self._waiter.rest(timeout)

    def _handle(self, tid: int, word: int) -> None:
        """Handle what wait4(2) has told."""
        self.stops += 1
        thread = self.threads.get(tid)
        if thread is None:
            self._meet_stranger(tid, word)
            return
        if word & 0xFF != 0x7F:
            self._thread_ended(thread, word)
            return
        thread.known_registers = None
        thread.is_stopped = True
        code = word >> 8
        if code == _FILTER_STOP:
            self._filter_stop(thread)
        elif code == _CALL_STOP:
            self._call_stop(thread)
        elif code < 0x100:
            self._signal_stop(thread, code)
        elif code >> 8 == ptrace.EVENT_STOP:
            self._stop_stop(thread, code & 0xFF)
        elif code >> 8 in _STARTS:
            self._start_stop(thread, _STARTS[code >> 8])
        elif code >> 8 == ptrace.EVENT_EXEC:
            self._exec_stop(thread)
        elif code >> 8 == ptrace.EVENT_EXIT:
            self._exit_stop(thread)
        else:
            self._resume(thread)

    def _resume(self, thread: Thread, signal_number: int = 0) -> None:
        """Let a stopped thread go on, with a signal."""
        try:
            if thread.is_interrupted:
                self._answer_interruption(thread)
        finally:
            thread.is_stopped = False
            thread.in_group_stop = False
            if thread.is_leaving:
                self._detach(thread, signal_number)
            elif thread.wants_exit or thread.process.stops_every_call or thread.enters_from:
                _request(_SYSCALL, thread.tid, 0, signal_number)
            else:
                _request(_CONT, thread.tid, 0, signal_number)

    # --- system calls

    def _filter_stop(self, thread: Thread) -> None:
        """A stop by the seccomp filter: a system call that is about to begin."""
        if _request(_GET_SYSCALL_INFO, thread.tid, _INFO_SIZE, _INFO) < 0:
            return
        data = _read_call_info(_INFO_VIEW)
        if data[11] != MARK:
            self._refuse_call(thread)
            return
        try:
            self._enter_call(thread, data)
        finally:
            if thread.is_stopped:
                self._resume(thread)

    def _call_stop(self, thread: Thread) -> None:
        """A stop at the beginning or the end of a system call, as the thread was resumed by PTRACE_SYSCALL."""
        if _request(_GET_SYSCALL_INFO, thread.tid, _INFO_SIZE, _INFO) < 0:
            return
        kind = _INFO_VIEW[0]
        try:
            if kind == ptrace.SYSCALL_INFO_EXIT:
                self._leave_call(thread, _read_result(_INFO_VIEW)[0])
            elif kind == ptrace.SYSCALL_INFO_ENTRY:
                if thread.enters_from:
                    self._breakpoints.correct_call(thread)
                if not thread.process.is_filtered:
                    self._enter_call(thread, _read_call_info(_INFO_VIEW))
        finally:
            if thread.is_stopped:
                self._resume(thread)

    def _enter_call(self, thread: Thread, data: tuple[int, ...]) -> None:
        number = data[4]
        thread.number = number
        thread.arguments = data[5:11]
        if data[1] == self._native and number < X32_BIT:
            thread.is_compat = False
            thread.wants_exit = number in self._exit
            if number in self._enter:
                self._events.syscall_enter(thread)
            if number in self._inner:
                self._inner_call(thread, number)
        else:
            thread.is_compat = True
            every = self._every_abi
            thread.wants_exit = every and bool(self._exit)
            if every and self._enter:
                self._events.syscall_enter(thread)
            if number in self._compat_ptrace:
                self._tracer_call(thread)

    def _leave_call(self, thread: Thread, result: int) -> None:
        thread.result = result
        number = thread.number
        if number < 0:
            number = self._recall(thread)
        if not thread.wants_exit:
            return
        thread.wants_exit = False
        if thread.is_compat:
            if self._every_abi:
                self._events.syscall_exit(thread)
            return
        if number in self._exit:
            self._events.syscall_exit(thread)
        if number == self._mmap and self._libraries and not -4096 < result < 0:
            prot, flags = thread.arguments[2:4]
            if prot & self._watch.protections and not flags & _MAP_ANONYMOUS:
                self._look_at_memory(thread.process, (result, result + thread.arguments[1]))
                self._events.mapped(thread)

    def _recall(self, thread: Thread) -> int:
        """Find out what call ends here that had begun before we came."""
        thread.number = number = get(thread.registers(), LAYOUT.number)
        thread.wants_exit = number in self._exit
        return number

    def _inner_call(self, thread: Thread, number: int) -> None:
        """The beginning of a call that we have to know of ourselves."""
        if number == self._ptrace:
            self._tracer_call(thread)
        if number == self._clone and thread.arguments[0] & CLONE_UNTRACED:
            # It would have the filter, and no tracer.
            flags = thread.arguments[0] & ~CLONE_UNTRACED
            thread.set_registers((LAYOUT.arguments[0], flags))
        if number == self._mmap:
            prot, flags = thread.arguments[2:4]
            if prot & self._watch.protections and not flags & _MAP_ANONYMOUS:
                thread.wants_exit = True

    def _refuse_call(self, thread: Thread) -> None:
        """A filter of the target's own wants a tracer that it does not have: the call fails with ENOSYS."""
        if self._machine == "x86_64":
            # A number that does not exist; the result is ENOSYS already.
            thread.set_registers((LAYOUT.number, -1))
        self._resume(thread)

    # --- signals and stops

    def _signal_stop(self, thread: Thread, number: int) -> None:
        """A signal is about to be delivered."""
        siginfo = ptrace.signal_info(thread.tid)
        if siginfo is None:
            return
        space = thread.process.space
        try:
            if (
                number == signal.SIGTRAP
                and (space.points or space.former)
                and self._breakpoints.trapped(thread, siginfo, self._events)
            ):
                number = 0
                return
            if space.pages:
                siginfo = self._return_to_place(thread, number, siginfo)
            if self._signals:
                self._events.signalled(thread, siginfo)
        finally:
            self._resume(thread, number)

    def _return_to_place(self, thread: Thread, number: int, siginfo: bytes) -> bytes:
        """Let a signal find the thread where its program thinks that it is; gives what the signal then says."""
        meant = self._breakpoints.meaning(thread)
        if meant is None:
            return siginfo
        was = get(thread.registers(), LAYOUT.pointer)
        real = get(meant, LAYOUT.pointer)
        stack = get(meant, LAYOUT.stack)
        thread.set_registers((LAYOUT.pointer, real), (LAYOUT.stack, stack))
        thread.enters_from = 0
        if real in thread.process.space.points:
            thread.again.add((real, stack))  # it has been told, and comes again
        if number in _ADDRESSED and siginfo[_SI_ADDR] == was.to_bytes(8, "little"):
            siginfo = siginfo[: _SI_ADDR.start] + real.to_bytes(8, "little") + siginfo[_SI_ADDR.stop :]
            ptrace.set_signal_info(thread.tid, siginfo)
        return siginfo

    def _stop_stop(self, thread: Thread, number: int) -> None:
        """A group-stop, its end, the first stop of a new thread, or what PTRACE_INTERRUPT has asked for."""
        if thread.given_to > 0:
            self._give_away(thread)
            return
        if number in _STOP_SIGNALS and not thread.is_leaving:
            thread.in_group_stop = True
            thread.is_stopped = False
            ptrace.ptrace(ptrace.LISTEN, thread.tid, 0, 0)
            return
        if thread.is_leaving and self._has_hit(thread):
            # The signal comes first.
            ptrace.ptrace(ptrace.CONT, thread.tid, 0, 0)
            return
        if thread.is_interrupted:
            self._undo_interruption(thread)
        self._resume(thread)

    def _interrupt(self, thread: Thread) -> None:
        if self._burst is not None:
            self._burst.is_stale = True
        thread.is_interrupted = True
        ptrace.ptrace(ptrace.INTERRUPT, thread.tid, 0, 0)

    def _undo_interruption(self, thread: Thread) -> None:
        """Some system calls fail with EINTR when a thread is stopped for us, as if a signal had come: do them again.

        Most are started again by the kernel; epoll_wait(2), semop(2) and sockets with a timeout are not (signal(7)).
        """
        if self._machine != "x86_64":
            return  # the first argument is lost, the result is in its place
        registers = thread.registers()
        number = get(registers, LAYOUT.number)
        if get(registers, LAYOUT.result) != -EINTR & _WORD or number >= 1 << 31 or number == self._close:
            return  # an interrupt has a negative number there
        if not thread.has_pending():
            pointer = get(registers, LAYOUT.pointer) - _CALL_SIZE
            thread.set_registers((LAYOUT.pointer, pointer), (LAYOUT.call, number), (LAYOUT.number, -1))

    def _answer_interruption(self, thread: Thread) -> None:
        """A stop has come that was asked for, or another one, which takes its place (ptrace_stop() in the kernel)."""
        thread.is_interrupted = False
        if thread.is_sampled:
            thread.is_sampled = False
            meant = self._breakpoints.meaning(thread)
            if meant is not None:
                thread.known_registers = meant
            self._events.sample(thread)
        if thread.given_to > 0:
            self._interrupt(thread)

    # --- samples

    def sample(self) -> None:
        """Ask the threads that are on a CPU now to stop; events.sample() tells of each when it has.

        Of those that wait for the same CPU one is taken, each time another.
        """
        self._samples += 1
        running: dict[int, list[Thread]] = {}
        for thread in self.threads.values():
            if not (thread.is_stopped or thread.in_group_stop or thread.is_sampled):
                state, cpu = thread.state_and_cpu()
                if state == "R":
                    running.setdefault(cpu, []).append(thread)
        for threads in running.values():
            chosen = threads[self._samples % len(threads)]
            chosen.is_sampled = True
            self._interrupt(chosen)

    # --- targets that are tracers

    def _tracer_call(self, thread: Thread) -> None:
        """A thread calls ptrace(2): what it wants to trace is let go, for a process has one tracer at most."""
        request, pid = thread.arguments[:2]
        if request == ptrace.TRACEME:
            if thread.given_to == 0 and not has_other_filters(thread) and self._injector.undo_call(thread):
                thread.given_to = parent_of(thread.tid)
                self._give_away(thread)
        elif request in (ptrace.ATTACH, ptrace.SEIZE):
            target = find_target(self.threads, thread, pid)
            if target is not None and target is not thread and not has_other_filters(target):
                self._await_giving(thread, target)

    def _await_giving(self, tracer: Thread, target: Thread) -> None:
        """Have a thread stop and given to another tracer, before that goes on with its call."""
        target.given_to = tracer.process.pid
        self._interrupt(target)
        queued = [one for one in self._waiting if one[0] == target.tid]
        self._waiting[:] = [one for one in self._waiting if one[0] != target.tid]
        for tid, word in queued:
            self._handle(tid, word)
        self._await_end(lambda: self.threads.get(target.tid) is not target, target.tid)
        if self.threads.get(target.tid) is target and target.given_to > 0:
            target.given_to = 0
            self._events.warn(
                f"thread {target.tid} does not stop, and cannot be traced by {tracer.process.pid}"
            )

    def _await_end(self, is_done: Callable[[], bool], tid: int) -> None:
        """Handle the stops of a thread until it is done, for a second at most."""
        deadline = time.monotonic() + 1
        while not is_done() and time.monotonic() < deadline:
            found = ptrace.look(tid, ptrace.place, ptrace.WALL | ptrace.WNOHANG, None)
            if found > 0:
                self._handle(tid, ptrace.status_word[0])
            elif found < 0:
                return
            else:
                time.sleep(0.0002)

    def _give_away(self, thread: Thread) -> None:
        """Let go of a stopped thread that will have another tracer; its calls pass from now on."""
        tracer, thread.given_to = thread.given_to, 0
        process = thread.process
        if process.takes_breakpoints:
            # It would run into them, and its new tracer be told.
            process.takes_breakpoints = False
            self._breakpoints.clear_space(process.space, process, self._events)
        was_interrupted = get(thread.registers(), LAYOUT.number) < 1 << 31
        if process.is_filtered and not self._passages.open(thread, self._watch, self._injector):
            self._events.warn(f"process {process.pid} cannot be given to its tracer, process {tracer}")
            thread.given_to = -1  # and not again
            self._resume(thread)
            return
        if was_interrupted and not self._injector.stop_again(thread):
            return
        thread.is_stopped = False
        self._detach(thread)
        self._events.warn(
            f"process {process.pid} is traced by process {tracer} now: its system calls are not seen"
        )

    def _has_hit(self, thread: Thread) -> bool:
        """Whether a thread has run into a breakpoint, and its SIGTRAP is still to come."""
        space = thread.process.space
        if not space.points and not space.former:
            return False
        address = get(thread.registers(), LAYOUT.pointer) - 1
        return (address in space.points or address in space.former) and thread.has_pending(signal.SIGTRAP)

    # --- beginning and end of threads

    def _start_stop(self, parent: Thread, kind: str) -> None:
        """A thread has started another thread or process."""
        tid = ptrace.event_message(parent.tid)
        if tid <= 0:
            return
        child = self._new_thread(parent, tid)
        if child.process is parent.process:
            kind = "thread"
        try:
            self._events.forked(parent, child, kind)
            if self._tells_start(parent):
                child.number, child.arguments, child.result = parent.number, parent.arguments, 0
                self._events.syscall_exit(child)
        finally:
            self._resume(parent)
            word, _ = self._strangers.pop(tid, (0, 0.0))
            if word:
                self._handle(tid, word)

    def _tells_start(self, parent: Thread) -> bool:
        """Whether the end of clone(2) in the new thread is wanted: ptrace has no stop there."""
        return parent.wants_exit and (parent.is_compat or parent.number in self._exit)

    def _new_thread(self, parent: Thread, tid: int) -> Thread:
        pid = parent.process.pid
        if os.path.exists(f"/proc/{pid}/task/{tid}"):
            return self._add_thread(tid, parent.process)
        process = Process(tid, parent.process.is_filtered, self._space_for(parent, tid))
        process.stops_every_call = parent.process.stops_every_call
        child = self._add_thread(tid, process)
        child.frames = list(parent.frames)
        return child

    def _space_for(self, parent: Thread, tid: int) -> Space:
        """The memory of a new process: the parent's own, or a copy."""
        space = parent.process.space
        return space if processvm.shares_memory(parent.tid, tid) else space.copy()

    def _meet_stranger(self, tid: int, word: int) -> None:
        """A thread that nobody has told of yet: it stays stopped until its parent's stop is handled."""
        if word & 0xFF == 0x7F or tid in self._strangers:
            self._strangers[tid] = (word, time.monotonic())

    def _adopt_orphans(self) -> None:
        """Follow threads whose parent was killed before it could tell."""
        now = time.monotonic()
        for tid, (word, since) in list(self._strangers.items()):
            if now - since < _ORPHAN:
                continue
            del self._strangers[tid]
            if word & 0xFF != 0x7F:
                continue
            process = self._processes.get(_process_of(tid))
            if process is None:
                # Filtered processes have filtered children, and the option does no harm to others.
                process = Process(tid, any(one.is_filtered for one in self._processes.values()), Space())
            self._add_thread(tid, process)
            self._look_at_memory(process)
            self._handle(tid, word)

    def _exec_stop(self, thread: Thread) -> None:
        """A new program: `thread` has the id of the leader, which the thread that did it has got from now on."""
        tid = thread.tid
        process = thread.process
        former = ptrace.event_message(tid)
        if former < 0:
            return
        if former != tid and (mover := self.threads.pop(former, None)) is not None:
            process.threads.pop(former, None)
            self._tell_exit(thread, 0)
            thread.close_files()
            mover.close_files()
            mover.tid = tid
            mover.known_registers = None
            mover.is_stopped = True
            thread = self.threads[tid] = process.threads[tid] = mover
        thread.frames, thread.again = [], set()
        process.space = Space()
        self._look_at_memory(process)
        try:
            self._events.executed(thread, former, _executed_name(process))
        finally:
            self._resume(thread)

    def _exit_stop(self, thread: Thread) -> None:
        """The thread is about to end."""
        status = ptrace.event_message(thread.tid)
        try:
            if status >= 0:
                self._tell_exit(thread, status)
        finally:
            self._resume(thread)

    def _tell_exit(self, thread: Thread, status: int) -> None:
        if not thread.has_exited:
            thread.has_exited = True
            self._events.exited(thread, status)

    def _thread_ended(self, thread: Thread, status: int) -> None:
        """The thread is no more."""
        thread.is_stopped = False
        try:
            self._tell_exit(thread, status)
        finally:
            self._forget(thread)

    def _forget(self, thread: Thread) -> None:
        thread.close_files()
        process = thread.process
        if self.threads.get(thread.tid) is thread:
            del self.threads[thread.tid]
        if process.threads.get(thread.tid) is thread:
            del process.threads[thread.tid]
        if not process.threads and self._processes.get(process.pid) is process:
            del self._processes[process.pid]

    # --- the end

    def retreat(self) -> None:
        """Let the targets be: no event from now on, no breakpoint, and no tracer where none is needed.

        Processes with the filter need one for as long as they live: pump() has to go on while `alive`, and lets
        their calls pass.
        """
        self._events = NoEvents()
        self._burst = None
        self._enter = self._exit = frozenset()
        self._signals = self._libraries = self._every_abi = False
        self._inner.discard(self._mmap)
        self._breakpoints.clear(self._events)
        self._leave_unfiltered()

    def detach_all(self) -> None:
        """As retreat(), for the end of a run; `alive` is false afterwards if no process has the filter."""
        self.retreat()

    def _leave_unfiltered(self) -> None:
        leaving = [thread for thread in self.threads.values() if not thread.process.is_filtered]
        for thread in leaving:
            self._leave(thread)
        if self._is_handling:
            return  # an event has led to this: they are let go at their stops, which come when it is over
        deadline = time.monotonic() + 1
        while any(self.threads.get(one.tid) is one for one in leaving) and time.monotonic() < deadline:
            self.pump(0.1)

    def _leave(self, thread: Thread) -> None:
        """Detach from a thread at its next stop, which is asked for."""
        thread.is_leaving = True
        thread.process.stops_every_call = False
        self._interrupt(thread)

    def _detach(self, thread: Thread, signal_number: int = 0) -> None:
        ptrace.ptrace(ptrace.DETACH, thread.tid, 0, signal_number)
        self._forget(thread)


def _is_traced_by_us(tid: int) -> bool:
    """Whether a thread is followed already, as the one that started it was."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            return any(line == f"TracerPid:\t{os.getpid()}\n" for line in file)
    except OSError:
        return True  # it has ended


def _process_of(tid: int) -> int:
    """The process that a thread belongs to; 0 if it is gone."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            return next((int(line[5:]) for line in file if line.startswith("Tgid:")), 0)
    except (OSError, ValueError):
        return 0


def _executed_name(process: Process) -> str:
    """What execve(2) was given, from the auxiliary vector."""
    try:
        with open(f"/proc/{process.pid}/auxv", "rb") as file:
            words = memoryview(file.read(1024)).cast("Q").tolist()
    except (OSError, TypeError):
        return ""
    for kind, value in zip(words[::2], words[1::2], strict=False):
        if kind == _AT_EXECFN:
            return os.fsdecode(process.read_string(value, 4096) or b"")
    return ""
