"""What is loaded into the running kernel, whoever has loaded it: programs, maps, links and types by id."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from tracebee.kernel.info import BtfInfo, LinkInfo, MapInfo, ProgramInfo
    from tracebee.session.objects.sides import TestRun

    Info = TypeVar("Info")


def programs() -> Iterator[ProgramInfo]:
    """What the kernel says of each program, by id; `Program.from_id` opens one.  Raises PermissionRefused."""
    from tracebee.kernel.info import program_info

    return _walk("prog", program_info)


def maps() -> Iterator[MapInfo]:
    """What the kernel says of each map, by id; `Map.from_id` opens one.  Raises PermissionRefused."""
    from tracebee.kernel.info import map_info

    return _walk("map", map_info)


def links() -> Iterator[LinkInfo]:
    """What the kernel says of each link, by id.  Raises PermissionRefused."""
    from tracebee.kernel.info import link_info

    return _walk("link", link_info)


def btfs() -> Iterator[BtfInfo]:
    """What the kernel says of each BTF object, by id.  Raises PermissionRefused."""
    from tracebee.kernel.info import btf_info

    return _walk("btf", btf_info)


def _walk(kind: str, read: Callable[[int], Info]) -> Iterator[Info]:
    """Those that are gone before they are read are left out."""
    from tracebee.kernel.ids import walk

    for _, fd in walk(kind):
        try:
            found = read(fd)
        except SyscallError as error:
            import errno

            if error.errno != errno.ENOENT:
                raise
            continue
        yield found


class Program:
    """A program of the running kernel, on a descriptor.  Close it, or use it in ``with``: it stays loaded."""

    def __init__(self, fd: int) -> None:
        """The descriptor is closed with it."""
        self.fd = fd

    @classmethod
    def from_id(cls, program_id: int) -> Program:
        """The program with an id.  Raises TargetError if there is none, PermissionRefused."""
        from tracebee.kernel.ids import open_id

        return cls(open_id("prog", program_id))

    @classmethod
    def from_pin(cls, path: str | os.PathLike[str]) -> Program:
        """The program that is pinned at a path.  Raises TargetError if there is none, PermissionRefused."""
        from tracebee.kernel.ids import open_pin

        return cls(open_pin("prog", os.fspath(path)))

    def __repr__(self) -> str:
        if self.fd < 0:
            return "<program, closed>"
        info = self.info
        return f"<program {info.id}: {info.name}, {info.type}>"

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it.  Safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def info(self) -> ProgramInfo:
        """What the kernel says of it now."""
        from tracebee.kernel.info import program_info

        return program_info(self.fd)

    @property
    def id(self) -> int:
        return self.info.id

    @property
    def name(self) -> str:
        """The whole name, out of its types, where the kernel has kept but fifteen letters."""
        return self.info.name

    def pin(self, path: str) -> None:
        """Have it stay, under a path in a BPF file system.  Raises SyscallError."""
        from tracebee.syscalls import bpf

        bpf.object_pin(self.fd, path)

    def test_run(self, *, data: bytes = b"", context: bytes = b"", repeat: int = 0) -> TestRun:
        """Run it for a packet or a context that is made up (BPF_PROG_TEST_RUN).  Raises SyscallError."""
        from tracebee.session.objects.sides import test_run

        return test_run(self.fd, self.info.type, data, context, repeat)
