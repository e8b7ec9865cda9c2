"""join(): an array of pointers to strings, sent as one record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language.ir import Address
from tracebee.language.lower import events, expressions, memory, places, strings
from tracebee.spec.events import Join, Layout, Slot
from tracebee.spec.types import UINT32, Array, Pointer, Str, align_up

if TYPE_CHECKING:
    from tracebee.language import tree
    from tracebee.language.lower.lowering import Lowering


def join(low: Lowering, subject: tree.Expression, delimiter: str, most: int, length: int) -> None:
    """Send up to `most` strings of up to `length` bytes; a null pointer ends the array."""
    slots = [Slot(UINT32, events.HEADER)]
    offset = events.HEADER + 4
    for _ in range(most):
        slots.append(Slot(Str(length), offset, True))
        offset += 4
    layout = Layout(tuple(slots), offset)
    number = low.build.event(Join(delimiter), layout)
    with low.branch_scope():
        base, space = _array(low, subject)
        record = low.memory(align_up(offset, 8) + most * (length + 1), on_stack=False)
        memory.zero(low, record, offset)
        low.store(record, number, 4)
        total = low.move(offset, "total")
        count = low.move(0, "count")
        done = low.label("joined")
        for index in range(most):
            with low.temporaries():
                pointer = memory.read_scalar(low, space, base.plus(8 * index), 8, False)
                low.branch("==", pointer, 0, done)
                to = low.address(low.alu("+", low.pointer(record), total))
                got = strings.read_string(low, to, space, Address(pointer, 0), length)
                low.store(record.plus(layout.slots[1 + index].offset), got, 4)
                low.set(total, low.alu("+", total, got))
                low.set(count, index + 1)
        low.place_label(done)
        low.store(record.plus(events.HEADER), count, 4)
        events.output(low, record, total)


def _array(low: Lowering, subject: tree.Expression) -> tuple[Address, str]:
    """Where the array of pointers lies, and in which address space."""
    if isinstance(subject.type, Array):
        place = places.any_place(low, subject)
        return place.address, "kernel" if place.is_direct else place.space
    space = subject.type.space if isinstance(subject.type, Pointer) else low.unit.kind.string_space
    return expressions.pointer_address(low, subject), space
