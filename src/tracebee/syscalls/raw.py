"""syscall(2): numbers, errno, and memory that the kernel reads and writes."""

from __future__ import annotations

import ctypes
import errno as errno_names
import os

from tracebee.errors import NotSupportedError, SyscallError

# asm/unistd_64.h and asm-generic/unistd.h
NUMBERS = {
    "x86_64": {
        "bpf": 321,
        "perf_event_open": 298,
        "mount": 165,
        "fsopen": 430,
        "fsconfig": 431,
        "fsmount": 432,
        "setns": 308,
        "tgkill": 234,
        "seccomp": 317,
        "kcmp": 312,
        "pidfd_getfd": 438,
        "rt_tgsigqueueinfo": 297,
    },
    "aarch64": {
        "bpf": 280,
        "perf_event_open": 241,
        "mount": 40,
        "fsopen": 430,
        "fsconfig": 431,
        "fsmount": 432,
        "setns": 268,
        "tgkill": 131,
        "seccomp": 277,
        "kcmp": 272,
        "pidfd_getfd": 438,
        "rt_tgsigqueueinfo": 240,
    },
}

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def number_of(name: str) -> int:
    """The number of a system call on this machine; raises NotSupportedError elsewhere."""
    machine = os.uname().machine
    table = NUMBERS.get(machine)
    if table is None:
        raise NotSupportedError(f"tracebee does not know the system calls of {machine}")
    return table[name]


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char]) -> int:
    """Make a system call; the result, or minus the errno.  EINTR is not retried."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _syscall(ctypes.c_long(number), *converted)
    return -ctypes.get_errno() if result == -1 else result


def checked(call: str, result: int, detail: str = "") -> int:
    """The result of a system call, or SyscallError."""
    if result < 0:
        raise SyscallError(call, -result, detail)
    return result


def ioctl(fd: int, request: int, argument: int) -> int:
    """ioctl(2) with a plain number; the result, or minus the errno."""
    result: int = _libc.ioctl(ctypes.c_int(fd), ctypes.c_ulong(request), ctypes.c_long(argument))
    return -ctypes.get_errno() if result == -1 else result


def prctl(option: int, argument: int | ctypes.Array[ctypes.c_char]) -> int:
    """prctl(2); the result, or minus the errno."""
    value = ctypes.c_ulong(argument) if isinstance(argument, int) else argument
    result: int = _libc.prctl(ctypes.c_int(option), value, 0, 0, 0)
    return -ctypes.get_errno() if result == -1 else result


def buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Memory with these bytes that stays where it is."""
    return (ctypes.c_char * max(1, len(data))).from_buffer_copy(data or b"\0")


def empty_buffer(size: int) -> ctypes.Array[ctypes.c_char]:
    """`size` zero bytes that stay where they are."""
    return (ctypes.c_char * max(1, size))()


def write(memory: ctypes.Array[ctypes.c_char], offset: int, data: bytes) -> None:
    """Overwrite bytes of a buffer."""
    assert 0 <= offset <= len(memory) - len(data)
    ctypes.memmove(ctypes.addressof(memory) + offset, data, len(data))


def address(memory: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(memory)


def errno_name(number: int) -> str:
    """The symbolic name of an errno."""
    return errno_names.errorcode.get(number, str(number))


def describe_errno(number: int) -> str:
    """Text and name of an errno."""
    return f"{os.strerror(number)} ({errno_name(number)})"
