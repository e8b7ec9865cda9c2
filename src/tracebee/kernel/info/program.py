"""Programs: where they come from, what they use, how long they have run."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError, TracebeeError
from tracebee.kernel.info.btf import btf_by_id
from tracebee.kernel.info.fields import Fields, name_in, number_in, read_fdinfo
from tracebee.records import Frozen
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpf import NAME_LENGTH
from tracebee.syscalls.bpfids import read_info
from tracebee.syscalls.raw import empty_buffer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GPL_BYTE = 84
"""Where struct bpf_prog_info has ``gpl_compatible:1``; layouts leave bit fields out."""

_MAX_MAPS = 1 << 16
"""More maps than a program can use (MAX_USED_MAPS is 64), a bound for what is believed."""


class ProgramInfo(Frozen):
    """struct bpf_prog_info, and what only /proc/self/fdinfo tells.

    `tag` is the hash of the instructions as 16 hexadecimal digits.  `load_time` is in nanoseconds of CLOCK_BOOTTIME,
    `run_time_ns` and `run_cnt` are counted while kernel.bpf_stats_enabled is on.  Lengths are in bytes: that of
    the instructions after the verifier, and that of the machine code (0: not compiled, or not ours to know).
    `name` is whole where BTF has it, `kernel_name` at most 15 characters long.  `memlock` (bytes) is None where
    the kernel does not tell.
    """

    id: int
    type: str
    name: str
    kernel_name: str
    tag: str
    gpl_compatible: bool
    load_time: int
    created_by_uid: int
    xlated_prog_len: int
    jited_prog_len: int
    map_ids: tuple[int, ...] = ()
    btf_id: int = 0
    run_time_ns: int = 0
    run_cnt: int = 0
    recursion_misses: int = 0
    verified_insns: int = 0
    attach_btf_obj_id: int = 0
    attach_btf_id: int = 0
    ifindex: int = 0
    netns_dev: int = 0
    netns_ino: int = 0
    nr_func_info: int = 0
    nr_line_info: int = 0
    nr_jited_ksyms: int = 0
    memlock: int | None = None


def program_info(fd: int, *, full_name: bool = True) -> ProgramInfo:
    """The facts of a program.  `full_name` is whether to look into BTF for a name that was cut.

    Raises SyscallError.
    """
    data = _read(fd)
    fields = Fields(data, uapi.BPF_PROG_INFO)
    map_ids = _map_ids(fd, fields["nr_map_ids"])
    name = fields.text("name")
    if full_name and len(name) == NAME_LENGTH - 1 and fields["btf_id"] and fields["nr_func_info"]:
        name = _whole_name(fd, fields, name)
    return decode_program_info(data, map_ids, read_fdinfo(fd), name)


def decode_program_info(
    data: bytes, map_ids: Sequence[int], fdinfo: Mapping[str, str], name: str = ""
) -> ProgramInfo:
    """The facts in struct bpf_prog_info and the lines of fdinfo; `name` is the whole one, if it is known."""
    fields = Fields(data, uapi.BPF_PROG_INFO)
    kernel_name = fields.text("name")
    return ProgramInfo(
        id=fields["id"],
        type=name_in(uapi.BPF_PROG_TYPE, fields["type"]),
        name=name or kernel_name,
        kernel_name=kernel_name,
        tag=fields.raw("tag").hex(),
        gpl_compatible=bool(int.from_bytes(data[_GPL_BYTE : _GPL_BYTE + 1], "little") & 1),
        map_ids=tuple(map_ids),
        **{field: fields[field] for field in _NUMBERS},
        memlock=number_in(fdinfo, "memlock"),
    )


_NUMBERS = (
    *("load_time", "created_by_uid", "xlated_prog_len", "jited_prog_len", "btf_id", "run_time_ns", "run_cnt"),
    *("recursion_misses", "verified_insns", "attach_btf_obj_id", "attach_btf_id", "ifindex", "netns_dev"),
    *("netns_ino", "nr_func_info", "nr_line_info", "nr_jited_ksyms"),
)


def _read(fd: int) -> bytes:
    return read_info(fd, uapi.BPF_PROG_INFO, uapi.BPF_PROG_INFO_SIZE)


def _map_ids(fd: int, count: int) -> tuple[int, ...]:
    """The ids of the maps that a program uses."""
    count = min(count, _MAX_MAPS)
    if not count:
        return ()
    area = empty_buffer(4 * count)
    data = read_info(fd, uapi.BPF_PROG_INFO, uapi.BPF_PROG_INFO_SIZE, {"map_ids": area}, nr_map_ids=count)
    # A map may have been bound to the program meanwhile, or none be there any more for a device's program.
    count = min(count, Fields(data, uapi.BPF_PROG_INFO)["nr_map_ids"])
    return tuple(memoryview(area).cast("B")[: 4 * count].cast("I"))


def _whole_name(fd: int, fields: Fields, name: str) -> str:
    """The name of the program's first function, if it begins with `name`, else `name`."""
    size = fields["func_info_rec_size"]
    if not 8 <= size <= 256:
        return name
    area = empty_buffer(size)
    try:
        read_info(
            fd,
            uapi.BPF_PROG_INFO,
            uapi.BPF_PROG_INFO_SIZE,
            {"func_info": area},
            nr_func_info=1,
            func_info_rec_size=size,
        )
        type_id = memoryview(area).cast("B")[4:8].cast("I")[0]
        whole = btf_by_id(fields["btf_id"]).name_of(type_id)
    except SyscallError as error:
        if error.errno in (errno.EFAULT, errno.EINVAL):
            return name
        raise
    except TracebeeError:
        return name  # its BTF is none that we can read
    return whole if whole.startswith(name) else name
