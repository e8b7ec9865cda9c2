"""What programs get to see of a made-up event, in bytes."""

from __future__ import annotations

import struct
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.spec.objects import FunctionUprobe, Kprobe, PerfEvent, RawTracepoint, Tracepoint, Uprobe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tracebee.language.machine import Arch, EventField
    from tracebee.session.testing.machine import MadeUpMachine
    from tracebee.session.testing.world import World
    from tracebee.spec.objects import Attach

    Value = int | str | bytes

MASK64 = (1 << 64) - 1


class Event:
    """What is said about a made-up event.

    `arguments` are a function's or a system call's, in order; `fields` are values by the names in a
    tracepoint's format; `returned` is a result; `registers` are values by name.  A string or bytes where there has
    to be a number is put into the world's memory, and its address taken.
    """

    def __init__(
        self,
        arguments: Sequence[Value] = (),
        fields: Mapping[str, Value] | None = None,
        returned: int | None = None,
        registers: Mapping[str, int] | None = None,
    ) -> None:
        self.arguments = arguments
        self.fields = fields or {}
        self.returned = returned
        self.registers = registers or {}


def make_context(place: Attach, event: Event, machine: MadeUpMachine, world: World) -> bytes:
    """The bytes that a program gets which is attached to `place`.

    Raises UsageError if what is said about the event does not belong to it.
    """
    number = _number_of(world)
    if isinstance(place, Tracepoint):
        return _tracepoint(place, event, machine, world, number)
    if isinstance(place, RawTracepoint):
        _refuse(event, fields=True, returned=True, registers=True)
        words = [number(value) for value in event.arguments]
        return struct.pack(f"<{len(words)}Q", *words).ljust(96, b"\0")
    if isinstance(place, Kprobe | Uprobe | FunctionUprobe):
        _refuse(event, fields=True)
        return _registers(event, machine.arch, number)
    if isinstance(place, PerfEvent):
        _refuse(event, fields=True, returned=True)
        # struct bpf_perf_event_data: the registers, u64 sample_period, u64 addr
        return _registers(event, machine.arch, number) + bytes(16)
    raise UsageError(f"events for {type(place).__name__} cannot be made up here", "give the bytes: context=…")


def _number_of(world: World) -> Callable[[Value], int]:
    def number(value: Value) -> int:
        if isinstance(value, str | bytes):
            return world.store(value)
        return value & MASK64

    return number


def _refuse(event: Event, *, fields: bool = False, returned: bool = False, registers: bool = False) -> None:
    if fields and event.fields:
        raise UsageError(f"this event has no fields: {', '.join(event.fields)}", "give arguments=(…)")
    if returned and event.returned is not None:
        raise UsageError("this event has no result")
    if registers and event.registers:
        raise UsageError("this event has no registers")


def _registers(event: Event, arch: Arch, number: Callable[[Value], int]) -> bytes:
    """A struct pt_regs.  Arguments that no register carries are not in it: they would be on the stack."""
    data = bytearray(max(arch.registers.values()) + 8)
    if len(event.arguments) > len(arch.function_arguments):
        raise UsageError(f"registers carry {len(arch.function_arguments)} arguments, no more")
    values = dict(zip(arch.function_arguments, map(number, event.arguments), strict=False))
    if event.returned is not None:
        values[arch.returned] = event.returned
    for name, value in {**values, **event.registers}.items():
        if name not in arch.registers:
            raise UsageError(f"{arch.name} has no register {name!r}")
        struct.pack_into("<Q", data, arch.registers[name], value & MASK64)
    return bytes(data)


def _tracepoint(
    place: Tracepoint, event: Event, machine: MadeUpMachine, world: World, number: Callable[[Value], int]
) -> bytes:
    form = machine.tracepoint_format(place.category, place.event)
    if form is None:
        raise UsageError(
            f"the format of {place.category}:{place.event} is not known here", "give the bytes: context=…"
        )
    _refuse(event, registers=True)
    by_name = {field.name: field for field in form.fields}
    values: dict[str, Value] = {"common_pid": world.tid or world.pid}
    if "__syscall_nr" in by_name:
        values["__syscall_nr"] = machine.shipped.syscall_of(place.event) or 0
    own = [field.name for field in form.fields if not field.is_common and field.name != "__syscall_nr"]
    if len(event.arguments) > len(own):
        raise UsageError(
            f"{place.event} has {len(own)} fields, and there are {len(event.arguments)} arguments"
        )
    values |= dict(zip(own, event.arguments, strict=False))
    if event.returned is not None:
        if "ret" not in by_name:
            raise UsageError(f"{place.event} has no result")
        values["ret"] = event.returned
    values |= event.fields
    data = bytearray(max(field.offset + field.size for field in form.fields))
    for name, value in values.items():
        field = by_name.get(name)
        if field is None:
            near = get_close_matches(name, by_name, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(own)}"
            raise UsageError(f"{place.event} has no field {name!r}", hint)
        _put_field(data, field, value, number)
    return bytes(data)


def _put_field(data: bytearray, field: EventField, value: Value, number: Callable[[Value], int]) -> None:
    """Write a field: text into an array of characters or behind the record, a number of the field's size."""
    if field.data_loc:
        text = _text(value, field)
        struct.pack_into("<I", data, field.offset, len(text) << 16 | len(data))
        data += text
    elif field.is_array:
        text = _text(value, field)
        if len(text) > field.size:
            raise UsageError(f"{field.name} has {field.size} bytes, and {value!r} takes {len(text)}")
        data[field.offset : field.offset + field.size] = text.ljust(field.size, b"\0")
    else:
        word = number(value) & (1 << 8 * field.size) - 1
        data[field.offset : field.offset + field.size] = word.to_bytes(field.size, "little")


def _text(value: Value, field: EventField) -> bytes:
    if isinstance(value, int):
        raise UsageError(f"{field.name} holds {field.c_type}: give a string or bytes, not {value}")
    return value.encode("utf-8", "surrogateescape") + b"\0" if isinstance(value, str) else value
