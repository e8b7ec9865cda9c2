"""The user stack of a stopped thread: its frame pointers, followed as the kernel does (perf_callchain_user)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.language.machine import Arch

CHUNK = 1024
"""Bytes of stack that are read at once: most frames lie near each other."""

TASK_SIZE = (1 << 47) - 4096
"""TASK_SIZE_MAX with four levels of page tables: no frame lies behind it."""

USER32_CS = 0x23

PUSH_RBP = b"\x55"
ENDBR64 = b"\xf3\x0f\x1e\xfa"


def user_stack(
    registers: bytes, read: Callable[[int, int], bytes | None], most: int, arch: Arch, entry: bytes = b""
) -> list[int]:
    """Addresses, innermost first: where the thread is, then the return addresses.

    `registers` is a struct pt_regs, `read` gives bytes of the thread's memory or None.  `entry` are the bytes of
    the instruction that the thread is at, if that is a probed one: where it is the first of a function, whose
    frame is not there yet, the return address is on top of the stack (is_uprobe_at_func_entry(), Linux 6.12).
    """

    def register(name: str) -> int:
        return int.from_bytes(registers[arch.registers[name] : arch.registers[name] + 8], "little")

    is_x86 = arch.name == "x86_64"
    word = 4 if is_x86 and register("cs") == USER32_CS else 8
    instruction, stack = register(arch.instruction_pointer), register(arch.stack_pointer)
    frame = register("bp" if is_x86 else "fp")
    found = [instruction]
    window = Window(read, stack)
    if is_x86 and most > 1 and entry.startswith((PUSH_RBP, ENDBR64)):
        returns = window.bytes(stack, word)
        if returns is not None:
            found.append(int.from_bytes(returns, "little"))
    pair = struct.Struct("<II" if word == 4 else "<QQ")
    while len(found) < most:
        if not 0 < frame < TASK_SIZE or (not is_x86 and frame & 15):
            break
        data = window.bytes(frame, 2 * word)
        if data is None:
            break
        following, returns_to = pair.unpack(data)
        found.append(returns_to)
        if not is_x86 and following <= frame:
            break
        frame = following
    return found[:most]


class Window:
    """Memory read by chunks, from the first place that is asked for."""

    def __init__(self, read: Callable[[int, int], bytes | None], start: int) -> None:
        self._read = read
        self._start = start
        self._data: bytes | None = None

    def bytes(self, address: int, size: int) -> bytes | None:
        """`size` bytes at an address, or None."""
        if self._data is None:
            self._data = self._read(self._start, CHUNK) or b""
        at = address - self._start
        if 0 <= at <= len(self._data) - size:
            return self._data[at : at + size]
        data = self._read(address, CHUNK) if size <= CHUNK else None
        if data:
            self._start, self._data = address, data
            return data[:size]
        return self._read(address, size)
