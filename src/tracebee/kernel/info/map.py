"""Maps: what they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import TracebeeError
from tracebee.kernel.info.btf import btf_by_id
from tracebee.kernel.info.fields import Fields, name_in, number_in, read_fdinfo
from tracebee.records import Frozen
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpf import NAME_LENGTH
from tracebee.syscalls.bpfids import read_info

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.btf.reader import Btf


class MapInfo(Frozen):
    """struct bpf_map_info, and what only /proc/self/fdinfo tells.

    Sizes are in bytes, `value_size` is that of one CPU.  `name` is whole where BTF has it, `kernel_name` at
    most 15 characters long.  `memlock` (bytes) and `frozen` are None where the kernel does not tell.
    `owner_prog_type` and `owner_jited` are those of the programs in a PROG_ARRAY, once there was one.
    """

    id: int
    type: str
    name: str
    kernel_name: str
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    ifindex: int = 0
    netns_dev: int = 0
    netns_ino: int = 0
    btf_id: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0
    btf_vmlinux_value_type_id: int = 0
    btf_vmlinux_id: int = 0
    map_extra: int = 0
    memlock: int | None = None
    frozen: bool | None = None
    owner_prog_type: str = ""
    owner_jited: bool | None = None


def map_info(fd: int, *, full_name: bool = True) -> MapInfo:
    """The facts of a map.  `full_name` is whether to look into BTF for a name that was cut.

    Raises SyscallError.
    """
    data = read_info(fd, uapi.BPF_MAP_INFO, uapi.BPF_MAP_INFO_SIZE)
    fields = Fields(data, uapi.BPF_MAP_INFO)
    name = fields.text("name")
    if full_name and len(name) == NAME_LENGTH - 1 and fields["btf_id"]:
        try:
            name = whole_map_name(name, btf_by_id(fields["btf_id"]))
        except TracebeeError:
            pass  # it went meanwhile, or is none that we can read
    return decode_map_info(data, read_fdinfo(fd), name)


def decode_map_info(data: bytes, fdinfo: Mapping[str, str], name: str = "") -> MapInfo:
    """The facts in struct bpf_map_info and the lines of fdinfo; `name` is the whole one, if it is known."""
    fields = Fields(data, uapi.BPF_MAP_INFO)
    frozen, jited = number_in(fdinfo, "frozen"), number_in(fdinfo, "owner_jited")
    owner = number_in(fdinfo, "owner_prog_type")
    kernel_name = fields.text("name")
    return MapInfo(
        id=fields["id"],
        type=name_in(uapi.BPF_MAP_TYPE, fields["type"]),
        name=name or kernel_name,
        kernel_name=kernel_name,
        **{field: fields[field] for field in _NUMBERS},
        memlock=number_in(fdinfo, "memlock"),
        frozen=None if frozen is None else bool(frozen),
        owner_prog_type="" if owner is None else name_in(uapi.BPF_PROG_TYPE, owner),
        owner_jited=None if jited is None else bool(jited),
    )


_NUMBERS = (
    *("key_size", "value_size", "max_entries", "map_flags", "ifindex", "netns_dev", "netns_ino", "btf_id"),
    *("btf_key_type_id", "btf_value_type_id", "btf_vmlinux_value_type_id", "btf_vmlinux_id", "map_extra"),
)


def whole_map_name(name: str, btf: Btf) -> str:
    """The name of the one variable in the section .maps that begins with `name`; `name` itself if not one.

    Loaders give an object's BTF to all its maps, and the section lists those that it defines.
    """
    from tracebee.btf.types import Datasec

    found: set[str] = set()
    for section in btf.find_all(".maps", Datasec):
        made = btf.type(section)
        assert isinstance(made, Datasec)
        found |= {btf.name_of(variable.type_id) for variable in made.variables}
    matching = [one for one in found if one.startswith(name)]
    return matching[0] if len(matching) == 1 else name
