"""The backend that is the running kernel."""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from typing import TYPE_CHECKING

from tracebee.errors import (
    AttachError,
    InternalError,
    NotSupportedError,
    PermissionRefused,
    SyscallError,
    VerifierError,
)
from tracebee.kernel.links import Context, Link, attach
from tracebee.kernel.maps import KernelMap
from tracebee.kernel.memlock import raise_memlock
from tracebee.kernel.programs import Program, load_program
from tracebee.kernel.ring import Ring, default_bytes, valid_bytes
from tracebee.session.backend import GlobalState
from tracebee.session.unattached import explain_attach
from tracebee.spec.objects import Iterator, RunOnce
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.kernel.ring import Take
    from tracebee.kernel.taskevents import TaskEvents
    from tracebee.session.machine import LiveMachine
    from tracebee.spec.objects import Attach, MapSpec, ObjectSpec, ProbeSpec, ProgramSpec


class KernelBackend(GlobalState):
    """An object loaded into the running kernel."""

    def __init__(
        self,
        spec: ObjectSpec,
        machine: LiveMachine,
        *,
        pid: int = 0,
        ring_pages: int = 0,
        log_bytes: int = 1 << 24,
        log_level: int = 0,
    ) -> None:
        """Make the maps and load the programs; nothing is left behind if that fails.

        Raises VerifierError, PermissionRefused, SyscallError.
        """
        self.spec = spec
        self.machine = machine
        self.maps: dict[str, KernelMap] = {}
        self.ring: Ring | None = None
        self.programs: dict[str, Program] = {}
        self.links: list[tuple[Attach, Link]] = []
        self.context = Context(
            machine.features,
            machine.online_cpus,
            machine.tracefs_fd,
            pid,
            addresses=machine.function_addresses,
        )
        self._unloaded: dict[str, VerifierError] = {}
        self._btf_fd = 0
        self._tasks: TaskEvents | None = None
        try:
            try:
                self._load(ring_pages, log_bytes, log_level)
            except (SyscallError, VerifierError, PermissionRefused) as error:
                self.close()
                if getattr(error, "errno", errno.EPERM) != errno.EPERM or not raise_memlock(machine.features):
                    raise
                self._load(ring_pages, log_bytes, log_level)
        except BaseException:
            self.close()
            raise

    def _load(self, ring_pages: int, log_bytes: int, log_level: int) -> None:
        if self.spec.btf:
            self._btf_fd = bpf.btf_load(self.spec.btf)
        for spec in self.spec.maps:
            self._make_map(spec, ring_pages)
        fds = {name: one.fd for name, one in self.maps.items()}
        if self.ring is not None:
            fds[self._ring_name] = self.ring.fd
        loaded: dict[ProgramSpec, Program] = {}
        needed = {probe.program for probe in self.spec.probes if not probe.optional}
        for program in self.spec.programs:
            made = loaded.get(program)
            if made is None:
                try:
                    made = loaded[program] = load_program(
                        program, fds, self._btf_fd, self.machine.kernel_type_id, log_bytes, log_level
                    )
                except VerifierError as error:
                    error.btf = self.spec.btf
                    # Which functions have a trampoline is only known by trying.
                    if program.name in needed or not program.attach_to:
                        raise
                    self._unloaded[program.name] = error
                    continue
            self.programs[program.name] = made
        if self._unloaded and not any(spec.attach_to for spec in loaded):
            # All of them: then it is the script.
            raise next(iter(self._unloaded.values()))

    def _make_map(self, spec: MapSpec, ring_pages: int) -> None:
        if spec.type == "RINGBUF":
            size = valid_bytes(ring_pages * os.sysconf("SC_PAGE_SIZE")) if ring_pages else default_bytes()
            largest = max((event.layout.largest for event in self.spec.schema.events), default=0)
            self.ring = Ring(spec.max_entries or size, spec.name, largest)
            self._ring_name = spec.name
            return
        fd = bpf.map_create(
            spec.type,
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            flags=spec.flags,
            name=spec.name.replace("@", "AT_"),
            btf_fd=self._btf_fd if spec.value_type else 0,
            key_type=spec.key_type,
            value_type=spec.value_type,
        )
        made = self.maps[spec.name] = KernelMap(spec, fd, self.machine.possible_cpus)
        if spec.contents:
            made.put(bytes(spec.key_size), spec.contents)
        if spec.frozen:
            try:
                bpf.map_freeze(fd)
            except SyscallError:
                pass  # before Linux 5.2; the programs cannot write it either way

    def attach(self, probe: ProbeSpec) -> Sequence[tuple[str, str]]:
        """Attach one probe; the places of it that were left out, each with the reason.  Raises AttachError."""
        refused = self._unloaded.get(probe.program)
        if refused is not None:
            lines = [line for line in refused.log.splitlines() if line and not line.startswith("processed ")]
            raise AttachError(probe.name, lines[-1] if lines else str(refused))
        try:
            link = attach(self.programs[probe.program], probe, self.context)
        except AttachError as error:
            # Only if somebody asks: it reads the lists of the kernel.
            error.explainer = partial(explain_attach, error, probe, self.spec, self.machine)
            raise
        self.links.append((probe.attach, link))
        return link.skipped

    passes_status = False

    def set_command(self, pid: int) -> None:
        self.context.child_pid = pid

    def follow(self) -> bytes:
        """The kernel sees every process."""
        return b""

    def notices(self) -> list[str]:
        return []

    def run(self, probe: ProbeSpec) -> int:
        """Run a program once, by BPF_PROG_TEST_RUN (for raw tracepoints since Linux 5.10)."""
        if not isinstance(probe.attach, RunOnce):
            raise InternalError(f"{probe.name} does not fire on request")
        program = self.programs[probe.program]
        try:
            return bpf.prog_test_run(program.fd, context=bytes(8))[0]
        except SyscallError as error:
            if error.errno == 524:  # ENOTSUPP
                raise NotSupportedError(f"running {probe.name}", "5.10") from error
            raise

    def measure(self, probe: ProbeSpec, nanoseconds: int) -> tuple[int, int]:
        """Run a program again and again from here; the kernel's count and time are taken if it keeps them.

        Raw tracepoints cannot be repeated by the kernel, so the time of the system call is in the wall-clock
        figure that is taken otherwise.
        """
        program = self.programs[probe.program]
        stats = self._enable_stats()
        try:
            count = 0
            start = time.perf_counter_ns()
            spent = program.info("run_time_ns")
            while time.perf_counter_ns() - start < nanoseconds:
                for _ in range(1000):
                    bpf.prog_test_run(program.fd, context=bytes(8))
                count += 1000
                self.drain(lambda data, words, first, last, limit: last)
            spent = program.info("run_time_ns") - spent
            total = spent or time.perf_counter_ns() - start
            return total // count, count
        finally:
            if stats >= 0:
                os.close(stats)

    @staticmethod
    def _enable_stats() -> int:
        """Have the kernel count runs and time them while the descriptor is open (Linux 5.8)."""
        try:
            return bpf.enable_stats()
        except SyscallError:
            return -1

    def run_iterators(self) -> None:
        """Run the attached iterators, each over all its objects, unless it is pinned for others to read."""
        for place, link in self.links:
            if isinstance(place, Iterator) and not place.pin:
                link.read_all()

    def detach_where(self, chosen: Callable[[Attach], bool]) -> None:
        """Detach the probes whose place is chosen."""
        for place, link in self.links:
            if chosen(place):
                link.close()

    def detach(self) -> None:
        """Detach in the reverse of the order of attaching."""
        while self.links:
            self.links.pop()[1].close()

    def drain(self, take: Take) -> int:
        return 0 if self.ring is None else self.ring.drain(take)

    def watch_tasks(self) -> TaskEvents | None:
        """None where perf events are refused: then only processes that live when they are looked at have names."""
        from tracebee.kernel.taskevents import TaskEvents

        if self._tasks is None:
            try:
                self._tasks = TaskEvents(self.machine.online_cpus)
            except SyscallError:
                return None
        return self._tasks

    def event_fd(self) -> int:
        return -1 if self.ring is None else self.ring.fd

    def missed(self) -> dict[str, int]:
        """Runs skipped because the program was already running on that CPU (recursion_misses, Linux 5.12)."""
        found = {}
        for name, program in self.programs.items():
            count = program.info("recursion_misses")
            if count:
                found[name] = count
        return found

    def close(self) -> None:
        self.detach()
        if self._tasks is not None:
            self._tasks.close()
            self._tasks = None
        for program in self.programs.values():
            program.close()
        self.programs.clear()
        for one in self.maps.values():
            one.close()
        self.maps.clear()
        if self.ring is not None:
            self.ring.close()
            self.ring = None
        if self._btf_fd:
            os.close(self._btf_fd)
            self._btf_fd = 0
