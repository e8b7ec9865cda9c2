"""Helper functions that read and write memory which is not the program's own.

An address is first looked for in the program's own memory, whose addresses nobody else has; the others are
for the world to answer.  Where that fails the destination is zeroed, as the kernel does it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.engine.memory import MASK32

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.calls.base import Make
    from tracebee.engine.runtime import Helper, Runtime

USER_LIMIT = 1 << 63
"""Processes have the lower half of the address space, the kernel the upper one."""

PAGE = 4096


def kernel_reader(machine: Runtime) -> Callable[[int, int], bytes | None]:
    """Bytes at an address that is the program's own or the kernel's; None if they are not all there."""
    readable = machine.memory.readable
    read_kernel = machine.world.read_kernel

    def read(address: int, size: int) -> bytes | None:
        data = readable.get(address >> 32)
        if data is None:
            return read_kernel(address, size)
        start = address & MASK32
        return bytes(data[start : start + size]) if start + size <= len(data) else None

    return read


def kernel_string_reader(machine: Runtime) -> Callable[[int, int], bytes | None]:
    """The bytes in front of the first NUL, at most `size`; None if memory ends before that."""
    readable = machine.memory.readable
    read_kernel = machine.world.read_kernel

    def read(address: int, size: int) -> bytes | None:
        data = readable.get(address >> 32)
        if data is not None:
            start = address & MASK32
            text, nul, _ = bytes(data[start : start + size]).partition(b"\0")
            return text if nul or len(text) == size else None
        found = b""
        while len(found) < size:
            at = address + len(found)
            # What lies behind the string may be no memory: look at less and less of it, from a page on.
            ask = min(size - len(found), PAGE - at % PAGE)
            part = read_kernel(at, ask)
            while part is None and ask > 1:
                ask //= 2
                part = read_kernel(at, ask)
            if part is None:
                return None
            text, nul, _ = part.partition(b"\0")
            found += text
            if nul:
                break
        return found

    return read


def _any_reader(machine: Runtime) -> Callable[[int, int], bytes | None]:
    read_kernel, read_user = kernel_reader(machine), machine.world.read_user
    return lambda address, size: (read_user if address < USER_LIMIT else read_kernel)(address, size)


def _any_string_reader(machine: Runtime) -> Callable[[int, int], bytes | None]:
    read_kernel, read_user = kernel_string_reader(machine), machine.world.read_user_string
    return lambda address, size: (read_user if address < USER_LIMIT else read_kernel)(address, size)


def _copier(reader: Callable[[Runtime], Callable[[int, int], bytes | None]]) -> Make:
    """A helper (destination, size, address) that copies bytes."""

    def make(machine: Runtime) -> Helper:
        memory, read = machine.memory, reader(machine)
        writable, write = memory.writable, memory.write

        def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
            size = r2 & MASK32
            target = writable.get(r1 >> 32)
            start = r1 & MASK32
            # Looked at first: a size that is too large is a fault of the program, and nothing to ask for.
            if target is None or start + size > len(target):
                raise memory.fault("write", r1, size)
            if not size:
                return 0
            data = read(r3, size)
            if data is None:
                write(r1, bytes(size))
                return -errno.EFAULT
            target[start : start + size] = data
            return 0

        return call

    return make


def _string_copier(reader: Callable[[Runtime], Callable[[int, int], bytes | None]]) -> Make:
    """A helper (destination, size, address) that copies a string and gives its length with the NUL.

    What is behind the NUL in the destination stays.
    """

    def make(machine: Runtime) -> Helper:
        memory, read = machine.memory, reader(machine)
        writable, write = memory.writable, memory.write

        def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
            size = r2 & MASK32
            target = writable.get(r1 >> 32)
            start = r1 & MASK32
            if target is None or start + size > len(target):
                raise memory.fault("write", r1, size)
            if not size:
                return 0
            text = read(r3, size - 1)
            if text is None:
                write(r1, bytes(size))
                return -errno.EFAULT
            length = len(text) + 1
            target[start : start + length] = text + b"\0"
            return length

        return call

    return make


def _user_reader(machine: Runtime) -> Callable[[int, int], bytes | None]:
    return machine.world.read_user


def _user_string_reader(machine: Runtime) -> Callable[[int, int], bytes | None]:
    return machine.world.read_user_string


def probe_write_user(machine: Runtime) -> Helper:
    read, write_user = machine.memory.read, machine.world.write_user

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        data = read(r2, r3 & MASK32)
        return 0 if write_user(r1, data) else -errno.EFAULT

    return call


MAKERS = {
    "probe_read": _copier(_any_reader),
    "probe_read_kernel": _copier(kernel_reader),
    "probe_read_user": _copier(_user_reader),
    "copy_from_user": _copier(_user_reader),
    "probe_read_str": _string_copier(_any_string_reader),
    "probe_read_kernel_str": _string_copier(kernel_string_reader),
    "probe_read_user_str": _string_copier(_user_string_reader),
    "probe_write_user": probe_write_user,
}
