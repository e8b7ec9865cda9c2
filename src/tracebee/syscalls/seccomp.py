"""seccomp(2): filters, and the notifications of a filter (include/uapi/linux/seccomp.h)."""

from __future__ import annotations

import struct

from tracebee.syscalls.ptrace import Memory
from tracebee.syscalls.raw import address, buffer, checked, ioctl, number_of, syscall

SET_MODE_FILTER = 1
FLAG_NEW_LISTENER = 1 << 3

RET_USER_NOTIF = 0x7FC00000
RET_TRACE = 0x7FF00000
RET_ALLOW = 0x7FFF0000

_NOTIF_CONTINUE = 1
# SECCOMP_IOWR(0, struct seccomp_notif), SECCOMP_IOWR(1, struct seccomp_notif_resp)
_IOCTL_RECV = 0xC0502100
_IOCTL_SEND = 0xC0182101
_NOTIF_SIZE = 80

INSTRUCTION_SIZE = 8
"""sizeof(struct sock_filter), include/uapi/linux/filter.h."""


def filter_header(program: bytes, place: int) -> bytes:
    """struct sock_fprog of a program, an array of struct sock_filter, that lies at `place`."""
    return struct.pack("=H6xQ", len(program) // INSTRUCTION_SIZE, place)


def install_filter(program: bytes) -> None:
    """Put a filter on this thread and what it starts; it can never be taken off.

    Needs no_new_privs or CAP_SYS_ADMIN.  Raises SyscallError.
    """
    code = buffer(program)
    header = buffer(filter_header(program, address(code)))
    checked("seccomp(SECCOMP_SET_MODE_FILTER)", syscall(number_of("seccomp"), SET_MODE_FILTER, 0, header))


class Notifications:
    """The listener of a filter with RET_USER_NOTIF."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._notice = Memory(_NOTIF_SIZE)
        self._answer = Memory(24)

    def let_go_on(self) -> bool:
        """Take one notification, and have its system call done as if there were no filter.

        Waits for it.  False if there was none after all: its thread was killed.
        """
        self._notice.view[:] = bytes(_NOTIF_SIZE)  # the kernel refuses anything else
        if ioctl(self.fd, _IOCTL_RECV, self._notice.address) < 0:
            return False
        self._answer.view[:] = self._notice.view[:8].tobytes() + struct.pack("=qiI", 0, 0, _NOTIF_CONTINUE)
        return ioctl(self.fd, _IOCTL_SEND, self._answer.address) == 0
