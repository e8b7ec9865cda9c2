"""What objects in the kernel say about themselves: a value for each kind, read from a descriptor.

    program   ProgramInfo   struct bpf_prog_info, with map ids and the whole name
    map       MapInfo       struct bpf_map_info, with what /proc/self/fdinfo adds
    link      LinkInfo      struct bpf_link_info, the part of its kind as a class of its own
    btf       BtfInfo       struct bpf_btf_info; and the types themselves, by id

Enumerations are by name, as the uapi header has them without prefix; a number that is not known there stays a
number in digits.  What an older kernel does not tell is 0 or empty.
"""

from __future__ import annotations

from tracebee.kernel.info.btf import BtfInfo, btf_by_id, btf_data, btf_info
from tracebee.kernel.info.link import LinkInfo, link_info
from tracebee.kernel.info.map import MapInfo, map_info
from tracebee.kernel.info.program import ProgramInfo, program_info

__all__ = [
    "BtfInfo",
    "LinkInfo",
    "MapInfo",
    "ProgramInfo",
    "btf_by_id",
    "btf_data",
    "btf_info",
    "id_of",
    "link_info",
    "map_info",
    "names_of",
    "program_info",
    "tag_of",
]


def id_of(kind: str, fd: int) -> int:
    """The id of the object behind a descriptor.  Raises SyscallError."""
    if kind == "prog":
        return program_info(fd, full_name=False).id
    if kind == "map":
        return map_info(fd, full_name=False).id
    if kind == "link":
        return link_info(fd, names=False).id
    return btf_info(fd).id


def names_of(kind: str, fd: int) -> tuple[str, ...]:
    """The name of an object as the kernel has it and in its whole length; empty for links and for the nameless."""
    name = full = ""
    if kind == "prog":
        program = program_info(fd)
        name, full = program.kernel_name, program.name
    elif kind == "map":
        found = map_info(fd)
        name, full = found.kernel_name, found.name
    elif kind == "btf":
        name = full = btf_info(fd).name
    return tuple(dict.fromkeys(one for one in (name, full) if one))


def tag_of(fd: int) -> str:
    """The tag of a program: 16 hexadecimal digits."""
    return program_info(fd, full_name=False).tag
