"""Attachments, a file a kind; each knows one class of tracebee.spec.objects.Attach.

An attachment hangs on file descriptors and goes with them, also when the process is killed.
"""

from __future__ import annotations

import errno
import os
from importlib import import_module
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, NotSupportedError, SyscallError, UsageError
from tracebee.kernel.nofile import raise_nofile
from tracebee.records import Mutable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tracebee.btf.reader import Btf
    from tracebee.kernel.features import Features
    from tracebee.kernel.maps import KernelMap
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


class Context(Mutable):
    """What an attachment may need beside its program.

    `tracefs` is called for a directory descriptor of tracefs; `pid` limits the attachment to a process if
    not 0, and `child_pid` the kinds that mean addresses of one process.  `addresses` gives those of all kernel
    functions of a name, in a module ("vmlinux" for the kernel itself) or, if that is empty, anywhere.  `maps` are
    those of the object and `types` gives its BTF; `machine` is the processor's name, and `registers` where its
    registers are in struct pt_regs.
    """

    features: Features
    online_cpus: tuple[int, ...]
    tracefs: Callable[[], int]
    pid: int = 0
    child_pid: int = 0
    addresses: Callable[[str, str], list[int]] = lambda name, module: []
    maps: Mapping[str, KernelMap] = {}
    types: Callable[[], Btf | None] = lambda: None
    machine: str = ""
    registers: Mapping[str, int] = {}


class Link:
    """An attachment: closing its descriptors detaches, unless it is pinned.

    `skipped` are the places of one that stands for many to which it could not be attached, each with the reason.
    `links` are those of its descriptors that are BPF links, which have ids and can be pinned.  `undo` detaches
    what hangs on no descriptor.
    """

    def __init__(
        self,
        fds: list[int],
        skipped: Sequence[tuple[str, str]] = (),
        links: Sequence[int] = (),
        undo: Callable[[], None] | None = None,
    ) -> None:
        self.fds = fds
        self.skipped = tuple(skipped)
        self.links = tuple(links)
        self.undo = undo

    @property
    def ids(self) -> tuple[int, ...]:
        """The kernel's numbers of the BPF links."""
        from tracebee.syscalls import _uapi, bpf

        size = _uapi.BPF_LINK_INFO_SIZE
        return tuple(
            bpf.info_field(bpf.object_info(fd, size), _uapi.BPF_LINK_INFO, "id") for fd in self.links
        )

    @property
    def id(self) -> int:
        """The number of the first BPF link; 0 if there is none, as the kernel then knows of no such thing."""
        return next(iter(self.ids), 0)

    def pin(self, path: str) -> tuple[str, ...]:
        """Have the attachment outlive this process, under a path in a BPF file system; where it is now.

        One of several links gets a number behind its path.  Raises NotSupportedError where there is no link.
        """
        from tracebee.syscalls import bpf

        if not self.links:
            raise NotSupportedError("pinning an attachment that is no BPF link", "5.15 for perf events")
        paths = tuple(path if not number else f"{path}_{number}" for number in range(len(self.links)))
        for fd, where in zip(self.links, paths, strict=True):
            bpf.object_pin(fd, where)
        return paths

    def update(self, program: Program) -> None:
        """Put another program in the place, between two runs.  Raises SyscallError, NotSupportedError."""
        from tracebee.syscalls.bpflinks import link_update

        if not self.links:
            raise NotSupportedError("updating an attachment that is no BPF link")
        for fd in self.links:
            link_update(fd, program.fd)

    def detach(self) -> None:
        """Detach now, even where a pin or another process holds a link, if the kind of link can (Linux 5.9)."""
        from tracebee.syscalls.bpflinks import link_detach

        for fd in self.links:
            try:
                link_detach(fd)
            except SyscallError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        self.close()

    def read_all(self) -> None:
        """Run the program for everything that it goes over; only iterators do."""

    def close(self) -> None:
        """Let go of the descriptors."""
        self.links = ()
        undo, self.undo = self.undo, None
        if undo is not None:
            undo()
        while self.fds:
            os.close(self.fds.pop())


# class of tracebee.spec.objects: module here, whose attach(program, probe, context) makes the Link
MODULES = {
    "RawTracepoint": "rawtracepoint",
    "Tracepoint": "tracepoint",
    "PerfEvent": "perfevent",
    "Breakpoint": "breakpoint",
    "Uprobe": "uprobe",
    "UprobeMulti": "uprobemulti",
    "Kprobe": "kprobe",
    "KprobeMulti": "kprobemulti",
    "Iterator": "iterator",
    "Trampoline": "trampoline",
    "UsdtSites": "usdt",
    "Cgroup": "cgroup",
    "Xdp": "xdp",
    "Tcx": "tcx",
    "Netkit": "netkit",
    "Netfilter": "netfilter",
    "NetworkNamespace": "netns",
    "SockMap": "sockmap",
    "SocketFilter": "socketfilter",
    "Lirc": "lirc",
}


def create_link(
    program: Program,
    probe: ProbeSpec,
    target: int,
    attach_type: str,
    memory: dict[str, bytes] | None = None,
    **fields: int,
) -> Link:
    """A link by BPF_LINK_CREATE.  Raises SyscallError."""
    from tracebee.syscalls import bpf

    fd = bpf.link_create(program.fd, target, attach_type, memory, **fields)
    return Link([fd], links=(fd,))


def attach_type_of(program: Program, given: str = "") -> str:
    """What a program is attached as: what it was loaded for, or else what is given.  Raises UsageError."""
    found = program.spec.expected_attach_type or given
    if not found:
        raise UsageError(
            f"{program.spec.name} does not say what it is to be attached as",
            f'its section "{program.spec.section}" leaves that open; give a type, such as CGROUP_INET_INGRESS',
        )
    return found


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """Attach a program to the place that a probe names.  Raises AttachError."""
    module = import_module(f"tracebee.kernel.links.{MODULES[type(probe.attach).__name__]}")
    link: Link
    try:
        link = module.attach(program, probe, context)
    except AttachError as error:
        if getattr(error.__cause__, "errno", 0) != errno.EMFILE or not raise_nofile():
            raise
        link = module.attach(program, probe, context)
    return link
