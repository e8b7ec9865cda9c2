"""Fields out of the structures that BPF_OBJ_GET_INFO_BY_FD fills, and the lines of /proc/PID/fdinfo."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.syscalls.bpf import Layout


class Fields:
    """The numbers in a structure; those behind the end of its bytes are 0."""

    def __init__(self, data: bytes, layout: Layout) -> None:
        self.data = data
        self.layout = layout

    def __getitem__(self, name: str) -> int:
        offset, size = self.layout[name]
        return int.from_bytes(self.data[offset : offset + size], sys.byteorder)

    def text(self, name: str) -> str:
        """A char array up to its NUL."""
        return self.raw(name).split(b"\0", 1)[0].decode("utf-8", "replace")

    def raw(self, name: str) -> bytes:
        offset, size = self.layout[name]
        return self.data[offset : offset + size]


def name_in(table: Mapping[str, int], number: int) -> str:
    """The name of an enumerator, digits for an unknown one.

    Where several share a number it is the first; a name that the kernel calls deprecated gives way.
    """
    names = [name for name, value in table.items() if value == number]
    return min(names, key=lambda name: name.endswith("_DEPRECATED"), default=str(number))


def number_in(fdinfo: Mapping[str, str], key: str) -> int | None:
    """A number of fdinfo, decimal or with 0x, or None."""
    text = fdinfo.get(key, "")
    try:
        return int(text, 16) if text.startswith("0x") else int(text)
    except ValueError:
        return None


def parse_fdinfo(text: str) -> dict[str, str]:
    """``key:<tab>value`` lines (proc_pid_fdinfo(5)); the first of a key counts."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        key, separator, value = line.partition(":")
        if separator:
            found.setdefault(key.strip(), value.strip())
    return found


def read_fdinfo(fd: int) -> dict[str, str]:
    """What /proc says of a descriptor of ours; empty where there is no /proc."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8", errors="replace") as stream:
            return parse_fdinfo(stream.read(1 << 16))
    except OSError:
        return {}
