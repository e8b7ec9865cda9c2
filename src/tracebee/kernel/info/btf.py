"""BTF objects: what they are, and the types in them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import FormatError, SyscallError
from tracebee.kernel.info.fields import Fields
from tracebee.records import Frozen
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpfids import read_info
from tracebee.syscalls.raw import empty_buffer

if TYPE_CHECKING:
    from tracebee.btf.reader import Btf

VMLINUX = "vmlinux"

_MAX_BYTES = 1 << 28
"""More BTF than any kernel has or takes (BTF_MAX_SIZE is 16 MiB for what processes load)."""


class BtfInfo(Frozen):
    """struct bpf_btf_info.  `size` is in bytes; `kernel_btf` is of the kernel itself (name "vmlinux") or of a
    module (the module's name).  What a process has loaded has no name."""

    id: int
    size: int
    name: str
    kernel_btf: bool

    @property
    def owner(self) -> str:
        """Whose types they are: "kernel", "module" or "process"."""
        if not self.kernel_btf:
            return "process"
        return "kernel" if self.name == VMLINUX else "module"


def btf_info(fd: int) -> BtfInfo:
    """The facts of a BTF object.  Raises SyscallError."""
    name = empty_buffer(256)
    try:
        data = read_info(fd, uapi.BPF_BTF_INFO, uapi.BPF_BTF_INFO_SIZE, {"name": name}, name_len=256)
    except SyscallError as error:
        if error.errno != errno.E2BIG:
            raise
        # Before Linux 5.11 there were no names (kernel commit 5329722057d4 "bpf: Assign ID to vmlinux BTF and
        # return extra info for BTF in GET_OBJ_INFO").
        data = read_info(fd, uapi.BPF_BTF_INFO, uapi.BPF_BTF_INFO_SIZE)
    return decode_btf_info(data, name.value)


def decode_btf_info(data: bytes, name: bytes = b"") -> BtfInfo:
    """The facts in struct bpf_btf_info; `name` is what the kernel wrote where it points."""
    fields = Fields(data, uapi.BPF_BTF_INFO)
    return BtfInfo(
        fields["id"], fields["btf_size"], name.decode("utf-8", "replace"), bool(fields["kernel_btf"])
    )


def btf_data(fd: int) -> bytes:
    """The bytes of a BTF object.  Raises SyscallError."""
    size = btf_info(fd).size
    if size > _MAX_BYTES:
        raise FormatError(f"BTF: the kernel says that it has {size} bytes")
    area = empty_buffer(size)
    read_info(fd, uapi.BPF_BTF_INFO, uapi.BPF_BTF_INFO_SIZE, {"btf": area}, btf_size=size)
    return area.raw[:size]


_known: dict[int, Btf] = {}


def btf_by_id(btf_id: int) -> Btf:
    """The types of a BTF object, those of a module on top of the kernel's; kept, as they never change.

    Raises TargetError if there is none (any more), PermissionRefused, FormatError.
    """
    found = _known.get(btf_id)
    if found is None:
        from tracebee.btf.reader import Btf
        from tracebee.kernel.ids import open_id

        fd = open_id("btf", btf_id)
        try:
            base = kernel_btf() if btf_info(fd).owner == "module" else None
            found = Btf.from_bytes(btf_data(fd), base)
        finally:
            os.close(fd)
        _known[btf_id] = found
    return found


def kernel_btf() -> Btf:
    """The types of the kernel itself.  Raises as `btf_by_id`, and TargetError where the kernel has none."""
    from tracebee.errors import TargetError
    from tracebee.kernel.ids import walk

    for btf_id, fd in walk("btf"):
        if btf_info(fd).owner == "kernel":
            return btf_by_id(btf_id)
    raise TargetError("", "this kernel has no BTF of its own", "it is built with CONFIG_DEBUG_INFO_BTF")
