"""Helper functions that send something out: ring buffer, perf events, the trace pipe."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.engine.calls.base import MASK32, find_map, wrong_map
from tracebee.engine.calls.formats import format_text, formatter_of
from tracebee.engine.faults import ProgramFault
from tracebee.engine.maps.ring import PerfEventArrayMap, RingMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.runtime import Helper, Runtime

LARGEST_SAMPLE = 0xFFFF - 24
"""The size of a sample is 16 bits in a perf record, with its headers."""

LONGEST_PRINT = 1024


def ringbuf_reserve(machine: Runtime) -> Helper:
    maps = machine.maps

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = maps.get(r1)
        if not isinstance(table, RingMap):
            raise wrong_map(find_map(maps, r1), "ringbuf_reserve")
        return table.reserve(r2, r3)

    return call


def ringbuf_submit(machine: Runtime) -> Helper:
    records = machine.shared.records

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        ring = records.get(r1)
        if ring is None:
            raise _no_record(r1)
        ring.submit(r1)
        return 0

    return call


def ringbuf_discard(machine: Runtime) -> Helper:
    records = machine.shared.records

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        ring = records.get(r1)
        if ring is None:
            raise _no_record(r1)
        ring.discard(r1)
        return 0

    return call


def _no_record(address: int) -> ProgramFault:
    return ProgramFault("r1 holds no record of a ring buffer that is reserved", address)


def ringbuf_output(machine: Runtime) -> Helper:
    maps, read = machine.maps, machine.memory.read

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = maps.get(r1)
        if not isinstance(table, RingMap):
            raise wrong_map(find_map(maps, r1), "ringbuf_output")
        return table.output(read(r2, r3), r4)

    return call


def ringbuf_query(machine: Runtime) -> Helper:
    maps = machine.maps

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(maps, r1)
        if not isinstance(table, RingMap):
            raise wrong_map(table, "ringbuf_query")
        return table.query(r2)

    return call


def perf_event_output(machine: Runtime) -> Helper:
    maps, read = machine.maps, machine.memory.read

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(maps, r2, "r2")
        if not isinstance(table, PerfEventArrayMap):
            raise wrong_map(table, "perf_event_output")
        data = read(r4, r5)
        return table.output(data, r3) if len(data) <= LARGEST_SAMPLE else -errno.E2BIG

    return call


def _print(machine: Runtime, arguments: Callable[[int, int, int], list[int] | None]) -> Helper:
    """Text for the trace pipe: (format, its size with the NUL, …)."""
    memory, world = machine.memory, machine.world
    fill = formatter_of(machine)

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        form, nul, _ = memory.read(r1, r2 & MASK32).partition(b"\0")
        values = arguments(r3, r4, r5)
        text = format_text(form, values, fill) if nul and values is not None else None
        if text is None:
            return -errno.EINVAL
        world.trace_print(text[: LONGEST_PRINT - 1])
        return len(text)

    return call


def trace_printk(machine: Runtime) -> Helper:
    return _print(machine, lambda r3, r4, r5: [r3, r4, r5])


def trace_vprintk(machine: Runtime) -> Helper:
    return _print(machine, lambda r3, r4, r5: words_at(machine, r3, r4 & MASK32))


MOST_WORDS = 12
"""MAX_BPRINTF_VARARGS of linux/bpf.h."""


def words_at(machine: Runtime, address: int, size: int) -> list[int] | None:
    """The arguments of a print in memory, 8 bytes each; None if they cannot be that."""
    if size % 8 or size > 8 * MOST_WORDS or (size and not address):
        return None
    data = machine.memory.read(address, size) if size else b""
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, size, 8)]


def snprintf(machine: Runtime) -> Helper:
    """(destination, size, format, arguments, their size): the length of the whole text with its NUL."""
    memory = machine.memory
    fill = formatter_of(machine)

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        size = r2 & MASK32
        values = words_at(machine, r4, r5 & MASK32)
        if values is None:
            return -errno.EINVAL
        form = string_at(machine, r3)
        text = format_text(form, values, fill)
        if text is None:
            return -errno.EINVAL
        if size:
            memory.view(r1, size, writable=True)
            memory.write(r1, text[: size - 1] + b"\0")
        return len(text) + 1

    return call


def string_at(machine: Runtime, address: int) -> bytes:
    """A string in the program's own memory, such as a format."""
    data = machine.memory.readable.get(address >> 32)
    start = address & MASK32
    if data is None or start >= len(data):
        raise machine.memory.fault("read", address, 1)
    text, nul, _ = bytes(data[start:]).partition(b"\0")
    if not nul:
        raise machine.memory.fault("read", address, len(data) - start + 1)
    return text


MAKERS = {
    "ringbuf_reserve": ringbuf_reserve,
    "ringbuf_submit": ringbuf_submit,
    "ringbuf_discard": ringbuf_discard,
    "ringbuf_output": ringbuf_output,
    "ringbuf_query": ringbuf_query,
    "perf_event_output": perf_event_output,
    "trace_printk": trace_printk,
    "trace_vprintk": trace_vprintk,
    "snprintf": snprintf,
}
