"""The backend that is the running kernel."""

from __future__ import annotations

import errno
import os
import sys
import time
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
from tracebee.kernel.maps import KernelMap, create_map
from tracebee.kernel.memlock import raise_memlock
from tracebee.kernel.programs import Program, load_program
from tracebee.kernel.ring import Ring, default_bytes, valid_bytes
from tracebee.kernel.symbols import KernelNames
from tracebee.session.backend import GlobalState
from tracebee.spec.objects import RING_MAP, Iterator, RunOnce
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tracebee.btf.reader import Btf
    from tracebee.kernel.ring import Take
    from tracebee.kernel.taskevents import TaskEvents
    from tracebee.session.machine import LiveMachine
    from tracebee.spec.objects import Attach, MapSpec, ObjectSpec, ProbeSpec

PIN_ROOT = "/sys/fs/bpf"
"""Where maps are shared by name, unless another place is said; the same as libbpf's."""

TO_BE_FOUND = ("KprobePattern", "SystemCall", "FunctionUprobe", "UsdtProbe")
"""Places that are only names, so far."""

MAP_NAME_PREFIX = 8
"""How many letters of an object's name its maps of variables begin with: the kernel keeps 15 in all."""


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
        pin_root: str = PIN_ROOT,
        reuse: Mapping[str, int] | None = None,
        targets: Mapping[str, int] | None = None,
    ) -> None:
        """Make the maps and load the programs; nothing is left behind if that fails.

        Maps that are to be pinned are shared in the directory `pin_root`; those in `reuse` are there already, as
        descriptors, which stay the caller's.  `targets` are the descriptors of the programs whose functions
        programs of this object are for (freplace, and fentry or fexit of a BPF program), by the name of the latter.

        Raises VerifierError, NotSupportedError, UsageError for a map that differs from the one to be used,
        PermissionRefused, SyscallError.
        """
        self.spec = spec
        self.machine = machine
        self.pin_root = pin_root
        self.reuse = reuse or {}
        self.targets = targets or {}
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
            maps=self.maps,
            types=self._types,
            machine=machine.arch.name,
            registers=machine.arch.registers,
        )
        self._unloaded: dict[str, VerifierError] = {}
        self._notices: list[str] = []
        self._names = KernelNames(
            machine.btf, machine.module_btf, machine.btf_modules, machine.kernel_address
        )
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
            self._btf_fd = self._load_btf()
        for spec in self.spec.maps:
            self._make_map(spec, ring_pages)
        fds = {name: one.fd for name, one in self.maps.items()}
        if self.ring is not None:
            fds[self._ring_name] = self.ring.fd
        # Which functions have a trampoline is only known by trying; a wildcard need not have them all.
        tried = {probe.program for probe in self.spec.probes if probe.optional}
        tried -= {probe.program for probe in self.spec.probes if not probe.optional}
        tried &= {program.name for program in self.spec.programs if program.attach_to}
        self._names.expect({program.attach_to for program in self.spec.programs if program.attach_to})
        for program in self.spec.programs:
            made = self.programs.get(program.name)
            if made is not None and made.spec == program:
                continue
            try:
                self.programs[program.name] = load_program(
                    program,
                    fds,
                    self._btf_fd,
                    self._names,
                    log_bytes,
                    log_level,
                    self.targets.get(program.name, 0),
                )
            except VerifierError as error:
                error.btf = self.spec.btf
                if program.name not in tried:
                    raise
                self._unloaded[program.name] = error
        if self._unloaded and not any(made.spec.attach_to for made in self.programs.values()):
            # All of them: then it is the script.
            raise next(iter(self._unloaded.values()))
        self._names.close()
        for spec in self.spec.maps:
            if spec.entries:
                self._fill(spec)

    def _load_btf(self) -> int:
        """The object's types in the kernel, as far as it knows their kinds; 0 if it refuses them."""
        try:
            return bpf.btf_load(self.spec.btf)
        except SyscallError as error:
            if error.errno != errno.EINVAL:
                raise
        from tracebee.btf.sanitize import sanitize
        from tracebee.kernel.btffeatures import missing_kinds

        try:
            return bpf.btf_load(sanitize(self.spec.btf, missing_kinds(self.machine.features)))
        except SyscallError as error:
            # As libbpf has it: nothing but names is lost, unless a program asks for more, which the verifier tells.
            self._notices.append(
                f"WARNING: the kernel refuses the object's types ({error}); going on without"
            )
            return 0

    def _make_map(self, spec: MapSpec, ring_pages: int) -> None:
        if spec.name == RING_MAP and spec.type == "RINGBUF" and self.spec.schema.events:
            size = valid_bytes(ring_pages * os.sysconf("SC_PAGE_SIZE")) if ring_pages else default_bytes()
            largest = max((event.layout.largest for event in self.spec.schema.events), default=0)
            self.ring = Ring(spec.max_entries or size, spec.name, largest)
            self._ring_name = spec.name
            return
        found = self._existing(spec)
        if found is not None:
            self.maps[spec.name] = found
            return
        made = self.maps[spec.name] = self._create(spec)
        if spec.contents.strip(b"\0"):
            made.put(bytes(spec.key_size), spec.contents)
        if spec.frozen:
            try:
                bpf.map_freeze(made.fd)
            except SyscallError:
                pass  # before Linux 5.2; the programs cannot write it either way
        if spec.pinned:
            from tracebee.kernel.reuse import pin_map

            pin_map(made, os.path.join(self.pin_root, spec.name))

    def _existing(self, spec: MapSpec) -> KernelMap | None:
        """The map to be used instead of a new one, if there is such."""
        given = self.reuse.get(spec.name)
        if given is None and not spec.pinned:
            return None
        from tracebee.kernel.reuse import open_pinned, reused_map

        if given is not None:
            return reused_map(spec, os.dup(given), self.machine.possible_cpus)
        return open_pinned(spec, os.path.join(self.pin_root, spec.name), self.machine.possible_cpus)

    def _create(self, spec: MapSpec) -> KernelMap:
        name = spec.name.replace("@", "AT_")
        if name.startswith(".") and self.spec.name:
            # One of variables; the same as libbpf's.
            name = f"{self.spec.name[:MAP_NAME_PREFIX]}{name}"
        made = create_map(spec.replaced(name=name), btf_fd=self._btf_fd, cpus=self.machine.possible_cpus)
        made.spec = made.spec.replaced(name=spec.name)
        return made

    def _types(self) -> Btf | None:
        """The object's BTF."""
        from tracebee.btf.reader import Btf

        return Btf.from_bytes(self.spec.btf) if self.spec.btf else None

    def _fill(self, spec: MapSpec) -> None:
        """Put maps and programs in a map that has them from the start."""
        table = self.maps[spec.name]
        for key, name in spec.entries:
            fd = self.programs[name].fd if spec.type == "PROG_ARRAY" else self.maps[name].fd
            table.put(key.to_bytes(spec.key_size, sys.byteorder), fd.to_bytes(4, sys.byteorder))

    def attach(self, probe: ProbeSpec) -> Sequence[tuple[str, str]]:
        """Attach one probe; the places of it that were left out, each with the reason.  Raises AttachError."""
        refused = self._unloaded.get(probe.program)
        if refused is not None:
            lines = [line for line in refused.log.splitlines() if line and not line.startswith("processed ")]
            raise AttachError(probe.name, lines[-1] if lines else str(refused))
        try:
            if type(probe.attach).__name__ in TO_BE_FOUND:
                from tracebee.session.places import find_place

                probe = probe.replaced(attach=find_place(probe.attach, self.machine, probe.name))
            link = attach(self.programs[probe.program], probe, self.context)
        except AttachError as error:
            from functools import partial

            from tracebee.session.unattached import explain_attach

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
        said, self._notices = self._notices, []
        return said

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
        self._names.close()
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
