"""The memory of other processes: process_vm_readv(2), process_vm_writev(2); and whether two share theirs."""

from __future__ import annotations

import ctypes

from tracebee.syscalls.ptrace import Memory
from tracebee.syscalls.raw import number_of, syscall

_KCMP_VM = 1  # include/uapi/linux/kcmp.h

_long = ctypes.c_long
_libc = ctypes.PyDLL(None, use_errno=True)
_readv = _libc.process_vm_readv
_writev = _libc.process_vm_writev
for _function in (_readv, _writev):
    _function.restype = _long
    _function.argtypes = (_long,) * 6

# struct iovec for this side and for the other
_vectors = Memory(32)
_words = _vectors.view.cast("Q")
_LOCAL, _REMOTE = _vectors.address, _vectors.address + 16
_SMALL = 4096
_small = Memory(_SMALL)

get_errno = ctypes.get_errno


def read(pid: int, address: int, size: int) -> bytes | None:
    """The bytes at `address` up to the first that is not there; None if even that is not, or for no rights.

    get_errno() then says which: ESRCH for a thread that has no memory any more.
    """
    memory = _small if size <= _SMALL else Memory(size)
    _words[0], _words[1] = memory.address, size
    _words[2], _words[3] = address & 0xFFFFFFFFFFFFFFFF, size
    done = _readv(pid, _LOCAL, 1, _REMOTE, 1, 0)
    return memory.view[:done].tobytes() if done >= 0 else None


def write(pid: int, address: int, data: bytes) -> bool:
    """Whether all of it could be written.  Only to pages that the process itself may write."""
    size = len(data)
    memory = _small if size <= _SMALL else Memory(size)
    memory.view[:size] = data
    _words[0], _words[1] = memory.address, size
    _words[2], _words[3] = address & 0xFFFFFFFFFFFFFFFF, size
    done: int = _writev(pid, _LOCAL, 1, _REMOTE, 1, 0)
    return done == size


def shares_memory(first: int, second: int) -> bool | None:
    """Whether two threads have one address space (kcmp(2)); None where the kernel cannot say."""
    result = syscall(number_of("kcmp"), first, second, _KCMP_VM, 0, 0)
    return result == 0 if result >= 0 else None
