"""ptrace(2) and wait4(2), for a loop in which every microsecond counts.

The functions give the C result, -1 for an error; get_errno() says which.  PyDLL keeps the interpreter's lock: only
`wait` sleeps, and it alone gives the lock away.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[int, int | object, int, int | object], int]

# include/uapi/linux/ptrace.h
TRACEME = 0
POKEDATA = 5
CONT = 7
SINGLESTEP = 9
ATTACH = 16
DETACH = 17
SYSCALL = 24
GETEVENTMSG = 0x4201
GETSIGINFO = 0x4202
SETSIGINFO = 0x4203
GETREGSET = 0x4204
SETREGSET = 0x4205
SEIZE = 0x4206
INTERRUPT = 0x4207
LISTEN = 0x4208
GETSIGMASK = 0x420A
SETSIGMASK = 0x420B
GET_SYSCALL_INFO = 0x420E

SYSCALL_INFO_ENTRY = 1
SYSCALL_INFO_EXIT = 2
SYSCALL_INFO_SECCOMP = 3

EVENT_FORK = 1
EVENT_VFORK = 2
EVENT_CLONE = 3
EVENT_EXEC = 4
EVENT_EXIT = 6
EVENT_SECCOMP = 7
EVENT_STOP = 128

O_TRACESYSGOOD = 1
O_TRACEFORK = 1 << EVENT_FORK
O_TRACEVFORK = 1 << EVENT_VFORK
O_TRACECLONE = 1 << EVENT_CLONE
O_TRACEEXEC = 1 << EVENT_EXEC
O_TRACEEXIT = 1 << EVENT_EXIT
O_TRACESECCOMP = 1 << EVENT_SECCOMP

# arch/x86/include/uapi/asm/ptrace-abi.h: these always have the 64-bit layout, whatever the target runs
_X86_GETREGS = 12
_X86_SETREGS = 13
_NT_PRSTATUS = 1  # include/uapi/linux/elf.h

# include/uapi/linux/wait.h
WNOHANG = 1
WALL = 0x40000000

# include/uapi/linux/audit.h
AUDIT_ARCH_I386 = 0x40000003
AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_ARM = 0x40000028
AUDIT_ARCH_AARCH64 = 0xC00000B7
NATIVE_AUDIT_ARCH = {"x86_64": AUDIT_ARCH_X86_64, "aarch64": AUDIT_ARCH_AARCH64}

_long = ctypes.c_long
_keeping = ctypes.PyDLL(None, use_errno=True)
_giving = ctypes.CDLL(None, use_errno=True)

get_errno = ctypes.get_errno


def _function(library: ctypes.CDLL, name: str) -> Call:
    """A function without prototype: that halves the time of a call, and needs care with the arguments.

    Numbers are passed as int, which has to be enough; an address is what byref() gives.
    """
    function = library[name]
    function.restype = ctypes.c_int
    call: Call = function
    return call


ptrace: Call = _function(_keeping, "ptrace")
"""ptrace(request, tid, address, data)."""

look: Call = _function(_keeping, "wait4")
"""wait4(pid, status, options | WNOHANG, None): 0 when nobody has anything to tell."""

wait: Call = _function(_giving, "wait4")
"""wait4(pid, status, options, None), sleeping; -1 with EINTR when a handled signal has come."""

_poke = _keeping["ptrace"]
_poke.restype = _long
_poke.argtypes = (_long, _long, _long, _long)


class Memory:
    """Bytes that stay where they are: `view` is what Python sees, `reference` what functions take for the address."""

    def __init__(self, size: int) -> None:
        self._array = (ctypes.c_char * size)()
        self.size = size
        self.address = ctypes.addressof(self._array)
        self.reference = ctypes.byref(self._array)
        self.view = memoryview(self._array).cast("B")


status = Memory(4)
"""Where `look` and `wait` put the wait status."""

place = status.reference

status_word = status.view.cast("i")

call_info = Memory(88)
"""struct ptrace_syscall_info."""

read_call_info: Callable[[memoryview], tuple[int, ...]] = struct.Struct("=BxxxIQQq6QI4x").unpack_from
"""op, arch, instruction pointer, stack pointer, number, six arguments; of a filter's stop the data of its verdict."""

read_result: Callable[[memoryview], tuple[int, ...]] = struct.Struct("=24xqB").unpack_from
"""The result of a system call, and whether it is an error."""

_word = Memory(8)
_word_value = _word.view.cast("Q")
_siginfo = Memory(128)
_regset = Memory(512)
_vector = Memory(16)
_vector_words = _vector.view.cast("Q")

_IS_X86 = os.uname().machine == "x86_64"
REGISTERS_SIZE = 216 if _IS_X86 else 272
"""sizeof(struct user_regs_struct), sizeof(struct user_pt_regs)."""


def poke(tid: int, address: int, word: int) -> bool:
    """PTRACE_POKEDATA: write 8 bytes to a stopped thread's memory, whatever its protection."""
    return bool(_poke(POKEDATA, tid, address, word) == 0)


def event_message(tid: int) -> int:
    """PTRACE_GETEVENTMSG; -1 if the thread is gone."""
    return _word_value[0] if ptrace(GETEVENTMSG, tid, 0, _word.reference) == 0 else -1


def signal_info(tid: int) -> bytes | None:
    """siginfo_t of the signal that a thread has stopped for; None if there is none, or the thread is gone."""
    return _siginfo.view.tobytes() if ptrace(GETSIGINFO, tid, 0, _siginfo.reference) == 0 else None


def set_signal_info(tid: int, siginfo: bytes) -> bool:
    _siginfo.view[: len(siginfo)] = siginfo
    return ptrace(SETSIGINFO, tid, 0, _siginfo.reference) == 0


def signal_mask(tid: int) -> int:
    """The blocked signals, bit 0 for signal 1; -1 if the thread is gone."""
    return _word_value[0] if ptrace(GETSIGMASK, tid, 8, _word.reference) == 0 else -1


def set_signal_mask(tid: int, mask: int) -> bool:
    _word_value[0] = mask
    return ptrace(SETSIGMASK, tid, 8, _word.reference) == 0


def registers(tid: int) -> bytes | None:
    """struct user_regs_struct, on arm64 struct user_pt_regs; None if the thread is gone."""
    if _IS_X86:
        done = ptrace(_X86_GETREGS, tid, 0, _regset.reference)
    else:
        _vector_words[0], _vector_words[1] = _regset.address, REGISTERS_SIZE
        done = ptrace(GETREGSET, tid, _NT_PRSTATUS, _vector.reference)
    return _regset.view[:REGISTERS_SIZE].tobytes() if done == 0 else None


def set_registers(tid: int, data: bytes) -> bool:
    _regset.view[: len(data)] = data
    if _IS_X86:
        return ptrace(_X86_SETREGS, tid, 0, _regset.reference) == 0
    _vector_words[0], _vector_words[1] = _regset.address, REGISTERS_SIZE
    return ptrace(SETREGSET, tid, _NT_PRSTATUS, _vector.reference) == 0
