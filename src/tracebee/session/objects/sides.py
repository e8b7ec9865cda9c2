"""What differs between the backends for whoever has loaded an object: attaching, variables, buffers."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any, Protocol

from tracebee.errors import AttachError, NotSupportedError, UsageError
from tracebee.session.places import find_place
from tracebee.spec.objects import (
    Cgroup,
    Iterator,
    ProbeSpec,
    RawTracepoint,
    Tracepoint,
    Uprobe,
    UprobeMulti,
    UsdtSites,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.kernel.links import Link
    from tracebee.session.backend import BackendMap
    from tracebee.session.kernel import KernelBackend
    from tracebee.session.machine import LiveMachine
    from tracebee.session.user.machine import UserMachine
    from tracebee.session.user.objects import ObjectBackend
    from tracebee.spec.objects import Attach, ObjectSpec, ProgramSpec

BPF_F_MMAPABLE = 1 << 10

BUFFERS = ("RINGBUF", "PERF_EVENT_ARRAY")
"""The kinds of maps that programs write records to."""

UNCHANGED = ("RAW_TRACEPOINT", "RAW_TRACEPOINT_WRITABLE", "TRACING", "SYSCALL", "STRUCT_OPS")
"""Types whose programs have no context that the kernel would give back."""

GROWTH = 256
"""Bytes that a program may add to a packet."""

PERF_PAGES = 64
"""Pages of a perf event array's buffer, for each processor; the same as libbpf's tools have."""


class Source(Protocol):
    """A buffer that is read."""

    @property
    def fds(self) -> Sequence[int]:
        """Descriptors that become readable when there are records."""

    def read(self) -> tuple[list[bytes], int]:
        """The records that are there, and how many were lost since the last call."""

    def settle(self) -> None:
        """Have all records there that were written before this call."""

    def close(self) -> None: ...


class Attached(Protocol):
    """A program at its place, until `close`."""

    def close(self) -> None: ...


class Side(Protocol):
    """A loaded object."""

    name: str
    """ "kernel" or "user"."""

    @property
    def maps(self) -> Mapping[str, BackendMap]: ...

    def attach(self, spec: ProgramSpec, place: Attach, cookie: int, pid: int, name: str) -> Attached:
        """Attach a program.  Raises AttachError, TargetError."""

    def peek(self, section: str, offset: int, size: int) -> bytes:
        """Bytes of a section of variables."""

    def poke(self, section: str, offset: int, data: bytes) -> None: ...

    def source(self, name: str, pages: int) -> Source:
        """Begin to read a buffer; `pages` is for each processor, of perf event arrays."""

    def test_run(self, name: str, data: bytes, context: bytes, repeat: int) -> TestRun: ...

    def command_started(self, pid: int) -> None:
        """The process that is going to be the command, and waits."""

    def follow(self) -> bytes:
        """Everything is attached: what a command has to install as its filter, or nothing."""

    def notices(self) -> list[str]: ...

    def close(self) -> None: ...


class TestRun:
    """What a run of a program on request gave: `retval`, `data` and `context` as it left them, `duration` in ns."""

    __test__ = False  # pytest takes it for a test by its name

    def __init__(self, retval: int, data: bytes = b"", context: bytes = b"", duration: int = 0) -> None:
        self.retval = retval
        self.data = data
        self.context = context
        self.duration = duration

    def __repr__(self) -> str:
        return f"TestRun(retval={self.retval}, {len(self.data)} bytes of data, duration={self.duration})"


def test_run(fd: int, kind: str, data: bytes, context: bytes, repeat: int) -> TestRun:
    """Run a program of the kernel on request; `kind` is its type.  Raises SyscallError."""
    from tracebee.syscalls.bpfrun import run_program

    found = run_program(
        fd,
        data=data or None,
        context=context or None,
        repeat=repeat,
        data_room=len(data) + GROWTH if data else 0,
        context_room=0 if kind in UNCHANGED else len(context),
    )
    return TestRun(found.retval, found.data, found.context, found.duration)


class KernelSide:
    """In the running kernel."""

    name = "kernel"

    def __init__(self, spec: ObjectSpec, machine: LiveMachine, *, pid: int, **options: Any) -> None:
        """Raises VerifierError, PermissionRefused, SyscallError and what else `KernelBackend` raises."""
        from tracebee.session.kernel import KernelBackend

        self.machine = machine
        self.backend: KernelBackend = KernelBackend(spec, machine, pid=pid, **options)
        self._windows: dict[str, mmap.mmap | None] = {}

    @property
    def maps(self) -> Mapping[str, BackendMap]:
        return self.backend.maps

    def attach(self, spec: ProgramSpec, place: Attach, cookie: int, pid: int, name: str) -> Link:
        backend = self.backend
        before = backend.context.pid
        backend.context.pid = pid or before
        try:
            backend.attach(ProbeSpec(name, spec.name, place, cookie))
        except AttachError as error:
            if isinstance(place, Tracepoint):
                raise explained(error, place, self.machine, name) from error
            raise
        finally:
            backend.context.pid = before
        # Whoever has it takes care of it from now on.
        return backend.links.pop()[1]

    # --- variables: memory that the kernel shares, so that what a program writes meanwhile is not undone

    def _window(self, section: str) -> mmap.mmap | None:
        if section not in self._windows:
            table = self.backend.maps[section]
            window = None
            if table.spec.flags & BPF_F_MMAPABLE:
                size = -(-table.spec.value_size // mmap.PAGESIZE) * mmap.PAGESIZE
                try:
                    window = mmap.mmap(table.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                except OSError:
                    pass
            self._windows[section] = window
        return self._windows[section]

    def peek(self, section: str, offset: int, size: int) -> bytes:
        window = self._window(section)
        data = window if window is not None else self.backend.maps[section].get(bytes(4)) or b""
        return data[offset : offset + size]

    def poke(self, section: str, offset: int, data: bytes) -> None:
        window = self._window(section)
        if window is not None:
            window[offset : offset + len(data)] = data
            return
        table = self.backend.maps[section]
        value = bytearray(table.get(bytes(4)) or b"")
        value[offset : offset + len(data)] = data
        table.put(bytes(4), bytes(value))

    def source(self, name: str, pages: int) -> Source:
        from tracebee.session.objects.sources import open_source

        return open_source(self.backend.maps[name], self.machine.online_cpus, pages)

    def test_run(self, name: str, data: bytes, context: bytes, repeat: int) -> TestRun:
        program = self.backend.programs[name]
        return test_run(program.fd, program.spec.type, data, context, repeat)

    def command_started(self, pid: int) -> None:
        self.backend.set_command(pid)

    def follow(self) -> bytes:
        return b""

    def notices(self) -> list[str]:
        return self.backend.notices()

    def close(self) -> None:
        for window in self._windows.values():
            if window is not None:
                window.close()
        self._windows.clear()
        self.backend.close()


def explained(error: AttachError, place: Tracepoint, machine: LiveMachine, name: str) -> AttachError:
    """What an error means for a tracepoint that this machine has not: the nearest ones."""
    from tracebee.language.diagnostics import nearest

    if machine.has_tracepoint(place.category, place.event):
        return error
    known = [f"{category}/{event}" for category, event in machine.tracepoints()]
    wanted = f"{place.category}/{place.event}"
    return AttachError(name, f"this kernel has no tracepoint {wanted}", nearest(wanted, known))


class UserSide:
    """In the engine, fed by ptrace."""

    name = "user"

    def __init__(self, spec: ObjectSpec, machine: UserMachine, *, pid: int) -> None:
        """Raises EngineFault, NotSupportedError, UsageError."""
        from tracebee.btf.reader import Btf
        from tracebee.session.user.objects import ObjectBackend

        self.machine = machine
        self.backend: ObjectBackend = ObjectBackend(spec, machine, pid=pid)
        self._types = Btf.from_bytes(spec.btf) if spec.btf else None
        self._sees = False

    @property
    def maps(self) -> Mapping[str, BackendMap]:
        return self.backend.maps

    def attach(self, spec: ProgramSpec, place: Attach, cookie: int, pid: int, name: str) -> Attached:
        self._check(spec, place, name)
        if isinstance(place, Tracepoint) and not self.machine.has_tracepoint(place.category, place.event):
            from tracebee.session.user.machine import SEEN_TRACEPOINTS, WHERE

            if place.category == "syscalls":
                raise AttachError(name, f"there is no system call of the tracepoint {place.event} here")
            raise AttachError(name, f"the user backend (ptrace) sees only {SEEN_TRACEPOINTS}", WHERE)
        keys = []
        found = find_place(place, self.machine, name)
        if isinstance(found, UsdtSites):
            singles = self._static_probes(found, ProbeSpec(name, spec.name, found, cookie))
            cookie = 0
        else:
            singles = single_places(found, name)
        try:
            for one, number in singles:
                keys.append(self.backend.place(spec.name, one, cookie or number))
        except BaseException:
            for key in keys:
                self.backend.displace(key)
            raise
        self._sees = True
        return UserLink(self.backend, keys)

    def _static_probes(self, place: UsdtSites, probe: ProbeSpec) -> list[tuple[Attach, int]]:
        """The places of a static probe, with the cookie that tells a program where the arguments are."""
        from tracebee.kernel.links import Context
        from tracebee.kernel.links.usdt import SPECS, describe

        machine = self.machine
        if SPECS not in self.maps:
            cookies = [probe.cookie] * len(place.sites)
        else:
            maps: Any = self.maps
            context = Context(
                machine.features,
                (),
                machine.tracefs_fd,
                maps=maps,
                types=lambda: self._types,
                machine=machine.arch.name,
                registers=machine.arch.registers,
            )
            cookies = [describe(probe, arguments, context) for _, _, arguments in place.sites]
        return [
            (Uprobe(place.path, offset, False, semaphore), number)
            for (offset, semaphore, _), number in zip(place.sites, cookies, strict=True)
        ]

    @staticmethod
    def _check(spec: ProgramSpec, place: Attach, name: str) -> None:
        if isinstance(place, RawTracepoint) and spec.type != "RAW_TRACEPOINT":
            raise AttachError(
                name,
                "the user backend (ptrace) has no arguments of the kernel's types",
                'use SEC("raw_tp/…"), SEC("tracepoint/…"), or --backend kernel',
            )
        if isinstance(place, Iterator | Cgroup) or spec.type not in (
            "TRACEPOINT",
            "RAW_TRACEPOINT",
            "KPROBE",
            "PERF_EVENT",
        ):
            raise AttachError(
                name,
                f"the user backend (ptrace) does not see what {spec.type} programs are for",
                "--backend kernel does, and --backend vm:KERNEL in a virtual machine",
            )

    def peek(self, section: str, offset: int, size: int) -> bytes:
        return (self.backend.maps[section].get(bytes(4)) or b"")[offset : offset + size]

    def poke(self, section: str, offset: int, data: bytes) -> None:
        self.backend.fill(section, offset, data)

    def source(self, name: str, pages: int) -> Source:
        return self.backend.stream(name)

    def test_run(self, name: str, data: bytes, context: bytes, repeat: int) -> TestRun:
        if data:
            raise NotSupportedError(
                "packets for the user backend (ptrace)", hint="give a context, or use the kernel"
            )
        result, after = self.backend.test_run(name, context or bytes(8))
        return TestRun(result & 0xFFFF_FFFF, b"", after)

    def command_started(self, pid: int) -> None:
        self.backend.set_command(pid)

    def follow(self) -> bytes:
        return self.backend.follow() if self._sees else b""

    def notices(self) -> list[str]:
        return self.backend.notices()

    def close(self) -> None:
        self.backend.close()


class UserLink:
    """Programs at their places in the tracer process."""

    skipped = ()
    fds: tuple[int, ...] = ()
    links: tuple[int, ...] = ()
    id = 0

    def __init__(self, backend: ObjectBackend, keys: list[int]) -> None:
        self._backend = backend
        self._keys = keys

    def pin(self, path: str) -> tuple[str, ...]:
        raise UsageError("what ptrace has attached cannot be pinned: it goes with the tracer")

    def detach(self) -> None:
        self.close()

    def close(self) -> None:
        while self._keys:
            self._backend.displace(self._keys.pop())


def single_places(place: Attach, name: str) -> list[tuple[Attach, int]]:
    """A place of many as single ones, each with its cookie where none was given."""
    if isinstance(place, UprobeMulti):
        counters = place.reference_counters or (0,) * len(place.offsets)
        cookies = place.cookies or (0,) * len(place.offsets)
        if place.session:
            raise AttachError(
                name, "the user backend (ptrace) has no sessions of functions", "use uprobe.multi"
            )
        return [
            (Uprobe(place.path, offset, place.returns, counter), cookie)
            for offset, counter, cookie in zip(place.offsets, counters, cookies, strict=True)
        ]
    return [(place, 0)]
