"""One run of a script: the order of things, from loading to the last map."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

from tracebee.errors import AttachError, TargetError
from tracebee.session.actions import Actions
from tracebee.session.decode import Decoder
from tracebee.session.drain import Drain
from tracebee.session.maps import ScriptMaps
from tracebee.session.names import Names
from tracebee.spec.objects import (
    STACKS_MAP,
    Breakpoint,
    Globals,
    Iterator,
    Kprobe,
    KprobeMulti,
    RunOnce,
    Uprobe,
    UprobeMulti,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tracebee.language.config import Config
    from tracebee.session.actions import Output
    from tracebee.session.backend import Backend, LoadedProgram
    from tracebee.session.child import Child
    from tracebee.spec.objects import ObjectSpec, ProbeSpec

COALESCE = 0.004
"""Seconds that a reader waits after a batch, so that the next batch is worth its wakeup."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What says nothing about the place to attach to, but that there is no room for more."""

SKIPPED_SHOWN = 3
"""Of so many places that could not be attached to the reason is told."""

IDLE = 0.5
"""Seconds after which a session that hears nothing looks whether exit() could not be sent."""


class Session:
    """A loaded script.  `start` attaches, `run` goes on until the end, `close` lets go of everything."""

    _catches = False
    """Whether signals are to end the session in order from when everything is attached."""

    def __init__(
        self,
        spec: ObjectSpec,
        backend: Backend,
        config: Config,
        output: Output,
        *,
        child: Child | None = None,
        pid: int = 0,
        warnings: bool = True,
    ) -> None:
        self.spec = spec
        self.backend = backend
        self.config = config
        self.output = output
        self.child = child
        self.pid = pid
        self.warnings = warnings
        self.exit_code = 0
        self.finished = False
        self._stopped = False
        self.names = Names(spec.schema, self._read_stack)
        self.decoder = Decoder(self.names, config.text("str_trunc_trailer"))
        self.maps = ScriptMaps(spec.schema.maps, backend, self.decoder)
        self.actions = Actions(self)
        self.drain = Drain(self.actions.readers())
        self._filter = b""
        self._target_ended = False
        self._wakeup: tuple[int, int] | None = None
        self._old_handlers: dict[int, Any] = {}
        self._signals: set[int] = set()
        self._pidfd = -1
        self._poller: select.epoll | None = None

    @property
    def programs(self) -> Iterable[LoadedProgram]:
        return self.backend.programs.values()

    def _read_stack(self, stack_id: int) -> bytes | None:
        return self.backend.maps[STACKS_MAP].get(stack_id.to_bytes(8, "little"))

    # --- probes that fire on request

    def _on_request(self, moment: str) -> list[ProbeSpec]:
        return [
            probe
            for probe in self.spec.probes
            if isinstance(probe.attach, RunOnce) and probe.attach.moment == moment
        ]

    def fire(self, moment: str) -> None:
        """Run the programs of a moment such as "begin", in the order of the script."""
        for probe in self._on_request(moment):
            self.backend.run(probe)

    # --- the order of things

    def start(self, catch_signals: bool = False) -> None:
        """Run ``begin``, attach everything else, and let the target go.

        With `catch_signals` whoever hears that everything is attached can end the session with a signal: until then
        one ends the process, and from then on it is `run` that ends.  Raises AttachError, TargetError.
        """
        self._catches = catch_signals
        self.prepare()
        self.fire("begin")
        self.attach_all()
        self._tell_notices()
        if self.child is not None:
            self.child.release(self._filter)

    def prepare(self) -> None:
        """Set what programs can ask for: when tracing began, the child's id."""
        if self.pid:
            self._watch_pid()
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.backend.set_global(Globals.START, 8, now)
        self.backend.set_global(Globals.WALL_OFFSET, 8, time.clock_gettime_ns(time.CLOCK_REALTIME) - now)
        if self.child is not None:
            self.backend.set_global(Globals.CHILD_PID, 8, self.child.pid)
        if self.spec.schema.names_users:
            self.names.tasks = self.backend.watch_tasks()

    def attach_all(self) -> None:
        """Attach every probe that does not fire on request."""
        attached = sum(probe.covers for probe in self.spec.probes)
        skipped: list[tuple[str, str]] = []
        first: AttachError | None = None
        places = [probe for probe in self.spec.probes if not isinstance(probe.attach, RunOnce)]
        # The kernel runs the newest of the probes on an instruction first (uprobe consumers, kprobe list).
        kinds = Uprobe | UprobeMulti | Kprobe | KprobeMulti
        newest_first = [probe for probe in places if isinstance(probe.attach, kinds)]
        for probe in [probe for probe in places if not isinstance(probe.attach, kinds)] + newest_first[::-1]:
            try:
                skipped += self.backend.attach(probe)
            except AttachError as error:
                # What a wildcard matches need not all be there to be attached to, but some of it.
                if not probe.optional or getattr(error.__cause__, "errno", 0) in EXHAUSTED:
                    raise
                skipped.append((probe.name, error.reason))
                first = first or error
        if first is not None and len(skipped) == sum(probe.covers for probe in places):
            raise first
        if skipped:
            self.output.warn(describe_skipped(skipped, attached))
        self._filter = self.backend.follow()
        if self._catches:
            self.catch_signals()
        self.output.renderer.attached(attached - len(skipped))
        self.output.flush()

    def _watch_pid(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            raise TargetError(str(self.pid), os.strerror(error.errno or 0)) from None

    @property
    def has_sources(self) -> bool:
        """Whether anything can still happen once ``begin`` has run."""
        return any(
            not (isinstance(probe.attach, RunOnce) and probe.attach.moment in ("begin", "end"))
            and not isinstance(probe.attach, Iterator)
            for probe in self.spec.probes
        )

    def run(self) -> int:
        """Handle events until the script, its target or a signal ends it; the exit status."""
        if self._wakeup is None:
            self.catch_signals()
        try:
            self.settle()
            while not self.finished:
                self.step(IDLE)
        finally:
            self.stop()
            self.restore_signals()
        return self.exit_code

    def settle(self) -> None:
        """What comes before the first wait: the records of ``begin``, and the iterators, read to their ends."""
        self.pump()
        if not self.finished:
            self._iterate()
        if not self.has_sources and self.child is None and not self.pid:
            self.finished = True

    def _iterate(self) -> None:
        """Run the iterators to their end: exit() in one ends that object's turn, not the others'."""
        self.backend.run_iterators()
        self.drain.goes_on = True
        self.pump()
        self.drain.goes_on = False
        if self.drain.stopped:
            self.finished = True

    def step(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for something to happen, and handle it."""
        if self.turn(timeout):
            time.sleep(COALESCE)

    def waiting_fd(self) -> int:
        """A descriptor that becomes readable when there is something to handle."""
        if self._poller is None:
            self._poller = self._make_poller()
        return self._poller.fileno()

    def turn(self, timeout: float) -> bool:
        """As `step`, without the pause behind a batch; whether there was one, and it goes on."""
        if self._poller is None:
            self._poller = self._make_poller()
        ready = {fd for fd, _ in self._poller.poll(timeout)}
        is_batch = False
        if self._wakeup is not None and self._wakeup[0] in ready:
            self._handle_signals()
        if not ready and self.backend.global_value(Globals.EXITING, 4):
            self.finished = True
        if self.backend.event_fd() in ready or not ready:
            self.pump()
            is_batch = bool(ready) and not self.finished
        if self.names.tasks is not None and not ready.isdisjoint(self.names.tasks.fds):
            self.names.follow_tasks()
        if self._target_fd in ready:
            self.finished = self._target_ended = True
        return is_batch

    @property
    def _target_fd(self) -> int:
        return self.child.pidfd if self.child is not None else self._pidfd

    def _make_poller(self) -> select.epoll:
        """Everything that a step may wait for."""
        poller = select.epoll()
        fds = [self.backend.event_fd(), self._target_fd]
        if self._wakeup is not None:
            fds.append(self._wakeup[0])
        if self.names.tasks is not None:
            fds += self.names.tasks.fds
        for fd in fds:
            if fd >= 0:
                poller.register(fd, select.EPOLLIN)
        return poller

    def pump(self) -> None:
        """Handle the records that are there; the output is flushed behind each batch."""
        if self.backend.drain(self.drain.take):
            self.output.flush()
        self._tell_notices()
        if self.drain.stopped:
            self.finished = True

    def _tell_notices(self) -> None:
        for text in self.backend.notices():
            self.output.warn(text)

    def stop(self) -> None:
        """Detach, run ``end``, print what is left, and report what was lost.  Safe to call twice."""
        if self._stopped:
            return
        self._stopped = self.finished = True
        self.backend.detach()
        self.backend.drain(self.drain.take)
        self.drain.stopped = False
        self.fire("end")
        self.backend.drain(self.drain.take)
        self.output.renderer.end_of_probes()
        if self.output.prints_maps and self.config.flag("print_maps_on_exit"):
            self.print_maps()
        if self.backend.global_value(Globals.EXITING, 4):
            self.exit_code = self.backend.global_value(Globals.EXIT_CODE, 4) & 0xFF
        elif self.backend.passes_status and self.child is not None and self._target_ended:
            self.exit_code = self.child.exit_status()
        self._tell_notices()
        self._report_losses()
        self.output.flush()

    def print_maps(self) -> None:
        """All maps that have something, by name."""
        for name in sorted(self.maps):
            self.actions.print_map(name, 0, 0, only_filled=True)

    def _report_losses(self) -> None:
        lost = self.backend.global_value(Globals.LOST, 8)
        if lost:
            self.output.renderer.lost(lost)
        for name, count in self.backend.missed().items():
            self.output.warn(f"WARNING: {name} was skipped {count} times: it was already running on that CPU")
        stacks = self.names.stacks_lost + self.backend.global_value(Globals.STACKS_LOST, 8)
        if stacks:
            self.output.warn(f"WARNING: {stacks} stacks were lost: more than the map of stacks can hold")

    def close(self) -> None:
        """Let go of everything; ends the child if it is still there."""
        if self.child is not None:
            self.child.close()
        self.backend.close()
        self.names.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._poller is not None:
            self._poller.close()
            self._poller = None

    def unwatch(self, address: int) -> None:
        """Detach the watchpoints on an address."""
        self.backend.detach_where(lambda place: isinstance(place, Breakpoint) and place.address == address)

    # --- signals

    def catch_signals(self) -> None:
        """Ctrl-C, SIGTERM and SIGUSR1 wake the loop instead of ending the process."""
        self._wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        wanted: list[int] = [signal.SIGINT, signal.SIGTERM]
        if self._on_request("signal:SIGUSR1"):
            wanted.append(signal.SIGUSR1)
        note: Callable[[int, Any], None] = lambda number, frame: self._signals.add(number)  # noqa: E731
        for number in wanted:
            self._old_handlers[number] = signal.signal(number, note)

    def restore_signals(self) -> None:
        """Back to how signals were handled before."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers.clear()
        signal.set_wakeup_fd(-1)
        if self._wakeup is not None:
            for fd in self._wakeup:
                os.close(fd)
            self._wakeup = None

    def _handle_signals(self) -> None:
        assert self._wakeup is not None
        os.read(self._wakeup[0], 4096)
        pending, self._signals = self._signals, set()
        if signal.SIGUSR1 in pending:
            self.fire("signal:SIGUSR1")
            self.pump()
        if pending & {signal.SIGINT, signal.SIGTERM}:
            self.finished = True


def describe_skipped(skipped: Sequence[tuple[str, str]], total: int) -> str:
    """The warning about places of wildcards that could not be attached to."""
    shown = "; ".join(f"{name}: {reason}" for name, reason in skipped[:SKIPPED_SHOWN])
    more = f"; and {len(skipped) - SKIPPED_SHOWN} more" if len(skipped) > SKIPPED_SHOWN else ""
    return f"WARNING: {len(skipped)} of {total} probes could not be attached: {shown}{more}"
