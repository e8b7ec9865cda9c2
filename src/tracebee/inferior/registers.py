"""Where the registers lie that a tracer needs: struct user_regs_struct, and arm64's struct user_pt_regs.

Sources: arch/x86/include/asm/user_64.h, arch/arm64/include/uapi/asm/ptrace.h; the conventions of system calls are
those of syscall(2).
"""

from __future__ import annotations

import os

from tracebee.records import Frozen


class Layout(Frozen):
    """Byte offsets of registers of 8 bytes."""

    pointer: int
    stack: int
    number: int
    """What the kernel takes for the number of the current system call when it starts it again."""
    call: int
    """What says which system call is wanted."""
    result: int
    arguments: tuple[int, ...]


X86_64 = Layout(16 * 8, 19 * 8, 15 * 8, 10 * 8, 10 * 8, (14 * 8, 13 * 8, 12 * 8, 7 * 8, 9 * 8, 8 * 8))
ARM64 = Layout(32 * 8, 31 * 8, 8 * 8, 8 * 8, 0, tuple(range(0, 48, 8)))

LAYOUT = ARM64 if os.uname().machine == "aarch64" else X86_64

_MASK = (1 << 64) - 1


def get(registers: bytes, offset: int) -> int:
    return int.from_bytes(registers[offset : offset + 8], "little")


def put(registers: bytes, *values: tuple[int, int]) -> bytes:
    """The registers with other values at some offsets."""
    changed = bytearray(registers)
    for offset, value in values:
        changed[offset : offset + 8] = (value & _MASK).to_bytes(8, "little")
    return bytes(changed)
