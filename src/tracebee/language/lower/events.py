"""Sending records to user space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.ir import Address, MapHandle, MapSpot, Reg
from tracebee.language.lower import memory
from tracebee.spec.events import HelperFailed, Layout, RuntimeWarning, Slot
from tracebee.spec.objects import GLOBALS_MAP, RING_MAP, Globals
from tracebee.spec.types import INT64, Buffer, Str, Type, align_up

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.source import Span
    from tracebee.spec.events import Action

HEADER = 4
"""Every record starts with the u32 number of its event."""

INLINE_TEXT = 32
"""Strings of up to this capacity have a fixed place in a record; longer ones cost their length."""


def send(low: Lowering, action: Action, values: list[tuple[tree.Expression, Type]]) -> None:
    """Send the values of expressions, each as one of its type, in a record of their own."""
    layout = lay_out([type_ for _, type_ in values])
    number = low.build.event(action, layout)
    if layout.is_fixed and not any(may_leave(node) for node, _ in values):
        send_fixed(low, number, layout, [node for node, _ in values])
    else:
        send_varying(low, number, layout, [node for node, _ in values])


def lay_out(types: list[Type]) -> Layout:
    """Places in a record, one after the other by C's rules."""
    offset = HEADER
    slots = []
    for type_ in types:
        dynamic = isinstance(type_, Str | Buffer) and type_.capacity > INLINE_TEXT
        alignment = 4 if dynamic else type_.align
        offset = align_up(offset, alignment)
        slots.append(Slot(type_, offset, dynamic))
        offset += 4 if dynamic else type_.size
    return Layout(tuple(slots), offset)


def may_leave(node: tree.Expression) -> bool:
    """Whether computing an expression may end the probe, which must not happen with a record reserved."""
    return any(isinstance(inner, tree.Jump | tree.Call) and _leaves(inner) for inner in tree.walk(node))


def _leaves(node: tree.Node) -> bool:
    return isinstance(node, tree.Jump) or (isinstance(node, tree.Call) and node.name in ("exit", "fail"))


def send_fixed(low: Lowering, number: int, layout: Layout, nodes: list[tree.Expression]) -> None:
    """Build the record in the ring buffer itself."""
    from tracebee.language.lower import expressions

    end, full = low.label("sent"), low.label("full")
    with low.branch_scope():
        numbers: dict[int, Operand] = {}
        for index, (node, slot) in enumerate(zip(nodes, layout.slots, strict=True)):
            if slot.type.is_scalar and not isinstance(node, tree.Number | tree.Truth | tree.Constant):
                numbers[index] = expressions.converted(low, node, slot.type)
        record = low.call("ringbuf_reserve", MapHandle(RING_MAP), layout.size, 0)
        low.branch("==", record, 0, full)
        low.store(Address(record, 0), number, 4)
        for index, (node, slot) in enumerate(zip(nodes, layout.slots, strict=True)):
            to = Address(record, slot.offset)
            if index in numbers:
                low.store(to, numbers[index], slot.type.size)
            else:
                expressions.store(low, node, slot.type, to)
        low.call("ringbuf_submit", record, 0)
        low.jump(end)
    low.place_label(full)
    count_lost(low)
    low.place_label(end)


def send_varying(low: Lowering, number: int, layout: Layout, nodes: list[tree.Expression]) -> None:
    """Build the record in scratch memory, strings at their length, and send what there is of it."""
    from tracebee.language.lower import expressions, strings

    with low.branch_scope():
        # A byte more for each: some helpers write a NUL behind what they write.
        room = align_up(layout.size, 8) + sum(slot.type.size + 1 for slot in layout.slots if slot.dynamic)
        record = low.memory(room, on_stack=False)
        total: Operand = layout.size
        for node, slot in zip(nodes, layout.slots, strict=True):
            if not slot.dynamic:
                expressions.store(low, node, slot.type, record.plus(slot.offset))
                continue
            with low.temporaries():
                to = Address(low.register(low.alu("+", low.pointer(record), total)), 0)
                assert isinstance(slot.type, Str | Buffer)
                length = strings.append(low, node, to, slot.type.capacity)
                low.store(record.plus(slot.offset), length, 4)
                total = low.alu("+", total, length)
        low.store(record, number, 4)
        output(low, record, total)


def output(low: Lowering, record: Address, size: Operand) -> None:
    """Copy a record that was built elsewhere into the ring buffer."""
    result = low.call("ringbuf_output", MapHandle(RING_MAP), low.pointer(record), size, 0)
    sent = low.label("sent")
    low.branch("==", result, 0, sent)
    count_lost(low)
    low.place_label(sent)


def count_lost(low: Lowering) -> None:
    """One more record did not fit."""
    with low.branch_scope():
        spot = low.move(MapSpot(GLOBALS_MAP, Globals.LOST))
        low.atomic("+", Address(spot, 0), 1)


def report_helper(low: Lowering, helper: str, result: Reg) -> None:
    """Tell user space that a helper failed, and how."""
    span = low.here.function.span
    assert span is not None
    layout = lay_out([INT64])
    number = low.build.event(HelperFailed(helper, span.location()), layout)
    _send_number(low, number, layout, result)


def report_warning(low: Lowering, message: str, span: Span) -> None:
    """Tell user space of something that the script would not expect."""
    layout = lay_out([])
    number = low.build.event(RuntimeWarning(message, span.location()), layout)
    _send_number(low, number, layout, None)


def _send_number(low: Lowering, number: int, layout: Layout, value: Reg | None) -> None:
    end, full = low.label("sent"), low.label("full")
    record = low.call("ringbuf_reserve", MapHandle(RING_MAP), layout.size, 0)
    low.branch("==", record, 0, full)
    low.store(Address(record, 0), number, 4)
    if value is not None:
        low.store(Address(record, layout.slots[0].offset), value, 8)
    low.call("ringbuf_submit", record, 0)
    low.jump(end)
    low.place_label(full)
    count_lost(low)
    low.place_label(end)


def send_plain(low: Lowering, action: Action) -> None:
    """Send a record that says nothing but that it happened."""
    layout = lay_out([])
    _send_number(low, low.build.event(action, layout), layout, None)


def copy_constant(low: Lowering, to: Address, data: bytes) -> None:
    memory.store_bytes(low, to, data)
