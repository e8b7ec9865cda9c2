"""What a process has mapped where, from /proc/PID/maps (proc_pid_maps(5))."""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

_DELETED = " (deleted)"


class Mapping(Frozen):
    """Addresses from `start` up to `end`, which show a file's bytes from `offset` on.

    `perms` is as the kernel prints it ("r-xp"), `device` is (major, minor).  `path` is "" for anonymous
    memory, "[heap]" and the like for what the kernel names, and else the file's path in the mount namespace
    of the process; `is_deleted` says that the path no longer leads to that file.
    """

    start: int
    end: int
    perms: str
    offset: int
    device: tuple[int, int]
    inode: int
    path: str
    is_deleted: bool = False

    @property
    def is_executable(self) -> bool:
        return "x" in self.perms

    @property
    def is_file(self) -> bool:
        """Whether a file with an inode lies behind it (memfd and shared memory included)."""
        return self.inode != 0 and self.path.startswith("/")

    def file_offset(self, address: int) -> int:
        return address - self.start + self.offset


class ProcessMaps:
    """The mappings of a process, in order of address."""

    __slots__ = ("_starts", "mappings")

    def __init__(self, mappings: list[Mapping]) -> None:
        self.mappings = sorted(mappings, key=lambda mapping: mapping.start)
        self._starts = [mapping.start for mapping in self.mappings]

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self.mappings)

    def __len__(self) -> int:
        return len(self.mappings)

    def add(self, mapping: Mapping) -> None:
        """Put a mapping in; those that it covers are gone, as in mmap(2)."""
        kept = [one for one in self.mappings if one.end <= mapping.start or one.start >= mapping.end]
        self.mappings = sorted([*kept, mapping], key=lambda one: one.start)
        self._starts = [one.start for one in self.mappings]

    def find(self, address: int) -> Mapping | None:
        """The mapping that covers `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.mappings[index].end:
            return self.mappings[index]
        return None


def parse_maps(data: bytes) -> ProcessMaps:
    """The content of /proc/PID/maps; FormatError if a line is not of its form."""
    return ProcessMaps([_parse_line(line) for line in data.split(b"\n") if line])


def read_maps(pid: int) -> ProcessMaps:
    """The mappings of a live process.  OSError if it is gone or not ours to look at.

    They are empty for a kernel thread and for a process that has exited but was not yet waited for.
    """
    with open(f"/proc/{pid}/maps", "rb") as stream:
        return parse_maps(stream.read())


def _parse_line(line: bytes) -> Mapping:
    parts = line.split(None, 5)
    try:
        start, end = parts[0].split(b"-")
        addresses = int(start, 16), int(end, 16)
        offset, inode = int(parts[2], 16), int(parts[4])
        major, minor = (int(number, 16) for number in parts[3].split(b":"))
        perms = parts[1].decode("ascii")
    except (ValueError, IndexError):
        raise FormatError(f"maps: not a mapping: {line[:80]!r}") from None
    numbers = (*addresses, offset, inode, major, minor)
    if min(numbers) < 0 or max(numbers) >= 1 << 64 or addresses[0] > addresses[1]:
        raise FormatError(f"maps: numbers out of range: {line[:80]!r}")
    # Of a path the kernel escapes only the newline (show_map_vma() in fs/proc/task_mmu.c).
    path = os.fsdecode(parts[5].replace(b"\\012", b"\n")) if len(parts) > 5 else ""
    is_deleted = path.startswith("/") and path.endswith(_DELETED)
    if is_deleted:
        path = path[: -len(_DELETED)]
    return Mapping(*addresses, perms, offset, (major, minor), inode, path, is_deleted)
