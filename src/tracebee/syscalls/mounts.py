"""Private mounts: a file system to read from that nobody else sees and that goes with the process."""

from __future__ import annotations

import os

from tracebee.syscalls.raw import buffer, checked, number_of, syscall

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_CMD_CREATE = 6


def mount_detached(filesystem: str) -> int:
    """A directory descriptor of a fresh, detached mount of a file system such as "tracefs" (Linux 5.2).

    Raises SyscallError; EPERM without CAP_SYS_ADMIN.
    """
    context = checked(
        f"fsopen({filesystem})",
        syscall(number_of("fsopen"), buffer(filesystem.encode() + b"\0"), FSOPEN_CLOEXEC),
    )
    try:
        checked(
            f"fsconfig({filesystem})",
            syscall(number_of("fsconfig"), context, FSCONFIG_CMD_CREATE, 0, 0, 0),
        )
        mount = checked(f"fsmount({filesystem})", syscall(number_of("fsmount"), context, FSMOUNT_CLOEXEC, 0))
    finally:
        os.close(context)
    try:
        # fsmount gives an O_PATH descriptor, which cannot be listed.
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)
