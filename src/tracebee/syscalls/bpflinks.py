"""bpf(2) on attachments: what is done to a link once it is there, and the ways from before links.

Each raises SyscallError with the kernel's errno.
"""

from __future__ import annotations

from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpf import Attr
from tracebee.syscalls.raw import checked

BPF_F_ALLOW_OVERRIDE = 1
BPF_F_ALLOW_MULTI = 2
BPF_F_REPLACE = 4


def prog_attach(target_fd: int, prog_fd: int, attach_type: str, flags: int = 0, replaced_fd: int = 0) -> None:
    """BPF_PROG_ATTACH: to a control group, a map of sockets, an infrared receiver or the network namespace.

    The program stays there when everything that knows of it is gone.
    """
    attr = Attr(uapi.ATTR_PROG_ATTACH).set(
        target_fd=target_fd,
        attach_bpf_fd=prog_fd,
        attach_type=uapi.BPF_ATTACH_TYPE[attach_type],
        attach_flags=flags,
        replace_bpf_fd=replaced_fd,
    )
    _call(attr, "PROG_ATTACH", 16, attach_type)


def prog_detach(target_fd: int, prog_fd: int, attach_type: str) -> None:
    """BPF_PROG_DETACH: the program that prog_attach put there."""
    attr = Attr(uapi.ATTR_PROG_ATTACH).set(
        target_fd=target_fd, attach_bpf_fd=prog_fd, attach_type=uapi.BPF_ATTACH_TYPE[attach_type]
    )
    _call(attr, "PROG_DETACH", 16, attach_type)


def link_update(link_fd: int, prog_fd: int, replaced_fd: int = 0) -> None:
    """BPF_LINK_UPDATE (Linux 5.7): another program takes the place, between two runs.

    With `replaced_fd` only if that is the one which is there.
    """
    flags = BPF_F_REPLACE if replaced_fd else 0
    attr = Attr(uapi.ATTR_LINK_UPDATE).set(
        link_fd=link_fd, new_prog_fd=prog_fd, flags=flags, old_prog_fd=replaced_fd
    )
    _call(attr, "LINK_UPDATE", 16)


def link_detach(link_fd: int) -> None:
    """BPF_LINK_DETACH (Linux 5.9): the link stays, and is attached to nothing."""
    _call(Attr(uapi.ATTR_LINK_DETACH).set(link_fd=link_fd), "LINK_DETACH", 4)


def _call(attr: Attr, command: str, size: int, detail: str = "") -> None:
    attr.size = max(attr.size, size)
    checked(f"bpf(BPF_{command})", attr.call(command), detail)
