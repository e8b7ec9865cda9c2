"""The memory of other processes: process_vm_readv(2), process_vm_writev(2); and whether two share theirs."""

from __future__ import annotations

import ctypes

from tracebee.syscalls.ptrace import Memory
from tracebee.syscalls.raw import number_of, syscall

_KCMP_VM = 1  # include/uapi/linux/kcmp.h

_libc = ctypes.PyDLL(None, use_errno=True)
# Without prototypes, as in tracebee.syscalls.ptrace; the results fit an int as the sizes do.
_readv = _libc.process_vm_readv
_writev = _libc.process_vm_writev

# struct iovec for this side and for the other
_local, _remote = Memory(16), Memory(16)
_local_words, _remote_words = _local.view.cast("Q"), _remote.view.cast("Q")
_LOCAL, _REMOTE = _local.reference, _remote.reference
_SMALL = 4096
_small = Memory(_SMALL)

get_errno = ctypes.get_errno


def read(pid: int, address: int, size: int) -> bytes | None:
    """The bytes at `address` up to the first that is not there; None if even that is not, or for no rights.

    get_errno() then says which: ESRCH for a thread that has no memory any more.
    """
    memory = _small if size <= _SMALL else Memory(size)
    _local_words[0], _local_words[1] = memory.address, size
    _remote_words[0], _remote_words[1] = address & 0xFFFFFFFFFFFFFFFF, size
    done = _readv(pid, _LOCAL, 1, _REMOTE, 1, 0)
    return memory.view[:done].tobytes() if done >= 0 else None


def write(pid: int, address: int, data: bytes) -> bool:
    """Whether all of it could be written.  Only to pages that the process itself may write."""
    size = len(data)
    memory = _small if size <= _SMALL else Memory(size)
    memory.view[:size] = data
    _local_words[0], _local_words[1] = memory.address, size
    _remote_words[0], _remote_words[1] = address & 0xFFFFFFFFFFFFFFFF, size
    done: int = _writev(pid, _LOCAL, 1, _REMOTE, 1, 0)
    return done == size


def shares_memory(first: int, second: int) -> bool | None:
    """Whether two threads have one address space (kcmp(2)); None where the kernel cannot say."""
    result = syscall(number_of("kcmp"), first, second, _KCMP_VM, 0, 0)
    return result == 0 if result >= 0 else None
