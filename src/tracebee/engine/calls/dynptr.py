"""Helper functions for pointers whose bounds are known when they are used (struct bpf_dynptr).

The structure is opaque to programs.  Here it is the address and the size of the memory, and what it is; whatever
a program makes of it by force is still checked as any other address.
"""

from __future__ import annotations

import errno
from struct import Struct
from typing import TYPE_CHECKING

from tracebee.engine.calls.base import MASK32, find_map, wrong_map
from tracebee.engine.faults import ProgramFault
from tracebee.engine.maps.ring import RingMap

if TYPE_CHECKING:
    from tracebee.engine.runtime import Helper, Runtime

DYNPTR = Struct("<QII")
LOCAL, RECORD = 1, 2
LARGEST = (1 << 24) - 1
"""DYNPTR_MAX_SIZE of kernel/bpf/helpers.c."""


def dynptr_from_mem(machine: Runtime) -> Helper:
    """(memory, its size, 0, dynptr)."""
    memory = machine.memory

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        size = r2 & MASK32
        memory.view(r1, size, writable=True)
        failed = -errno.E2BIG if size > LARGEST else -errno.EINVAL if r3 else 0
        memory.write(r4, bytes(DYNPTR.size) if failed else DYNPTR.pack(r1, size, LOCAL))
        return failed

    return call


def ringbuf_reserve_dynptr(machine: Runtime) -> Helper:
    """(ring, size, 0, dynptr): the dynptr is to be submitted or discarded also if this fails."""
    memory = machine.memory

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(machine.maps, r1)
        if not isinstance(table, RingMap):
            raise wrong_map(table, "ringbuf_reserve_dynptr")
        size = r2 & MASK32
        memory.view(r4, DYNPTR.size, writable=True)
        failed = -errno.EINVAL if r3 else -errno.E2BIG if size > LARGEST else 0
        address = 0 if failed else table.reserve(size, 0)
        memory.write(r4, DYNPTR.pack(address, size, RECORD) if address else bytes(DYNPTR.size))
        return failed or (0 if address else -errno.EINVAL)

    return call


def _finish(machine: Runtime, method: str) -> Helper:
    memory, records = machine.memory, machine.shared.records

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        address, _, _ = DYNPTR.unpack(memory.read(r1, DYNPTR.size))
        if address:
            ring = records.get(address)
            if ring is None:
                raise ProgramFault("the dynptr has no record that is reserved", r1)
            getattr(ring, method)(address)
            memory.write(r1, bytes(DYNPTR.size))
        return 0

    return call


def ringbuf_submit_dynptr(machine: Runtime) -> Helper:
    return _finish(machine, "submit")


def ringbuf_discard_dynptr(machine: Runtime) -> Helper:
    return _finish(machine, "discard")


def _part(machine: Runtime, dynptr: int, offset: int, size: int) -> tuple[int, int]:
    """The address of a part of the memory, or 0 and minus an errno."""
    address, whole, _ = DYNPTR.unpack(machine.memory.read(dynptr, DYNPTR.size))
    if not address:
        return 0, -errno.EINVAL
    if size > whole or offset > whole - size:
        return 0, -errno.E2BIG
    return address + offset, 0


def dynptr_read(machine: Runtime) -> Helper:
    """(destination, size, dynptr, offset, 0)."""
    memory = machine.memory

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        size = r2 & MASK32
        memory.view(r1, size, writable=True)
        address, failed = _part(machine, r3, r4 & MASK32, size)
        if r5:
            failed = -errno.EINVAL
        memory.write(r1, bytes(size) if failed else memory.read(address, size))
        return failed

    return call


def dynptr_write(machine: Runtime) -> Helper:
    """(dynptr, offset, source, size, 0)."""
    memory = machine.memory

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        size = r4 & MASK32
        data = memory.read(r3, size)
        address, failed = _part(machine, r1, r2 & MASK32, size)
        if r5:
            failed = -errno.EINVAL
        if not failed:
            memory.write(address, data)
        return failed

    return call


def dynptr_data(machine: Runtime) -> Helper:
    """(dynptr, offset, size): the address, or 0."""

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        return _part(machine, r1, r2 & MASK32, r3 & MASK32)[0]

    return call


MAKERS = {
    "dynptr_from_mem": dynptr_from_mem,
    "ringbuf_reserve_dynptr": ringbuf_reserve_dynptr,
    "ringbuf_submit_dynptr": ringbuf_submit_dynptr,
    "ringbuf_discard_dynptr": ringbuf_discard_dynptr,
    "dynptr_read": dynptr_read,
    "dynptr_write": dynptr_write,
    "dynptr_data": dynptr_data,
}
