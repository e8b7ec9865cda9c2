"""Moving bytes: copies, zeros, constants, reads of other memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language.ir import FRAME, Address, MapSpot
from tracebee.language.lower.build import RODATA_MAP

if TYPE_CHECKING:
    from tracebee.language.ir import Operand, Reg
    from tracebee.language.lower.lowering import Lowering

UNROLLED = 128
"""Up to so many bytes are moved by single instructions; beyond them a helper call is shorter."""

READERS = {"kernel": "probe_read_kernel", "user": "probe_read_user", "": "probe_read"}
STRING_READERS = {"kernel": "probe_read_kernel_str", "user": "probe_read_user_str", "": "probe_read_str"}


def chunks(size: int, *addresses: Address, context: Reg | None = None) -> list[tuple[int, int]]:
    """Offsets and sizes (8, 4, 2, 1) that cover `size` bytes.

    The verifier wants accesses to the stack and to the program's context, whose register is `context`, aligned
    to their size; everything else may be unaligned.
    """
    alignment = 8
    for address in addresses:
        if address.base is FRAME or (context is not None and address.base is context):
            while address.offset % alignment:
                alignment //= 2
    found = []
    offset = 0
    while offset < size:
        step = alignment
        while step > size - offset:
            step //= 2
        found.append((offset, step))
        offset += step
    return found


def zero(low: Lowering, to: Address, size: int) -> None:
    """Clear `size` bytes."""
    if size <= UNROLLED:
        for offset, step in chunks(size, to):
            low.store(to.plus(offset), 0, step)
    else:
        # A read that fails clears all its bytes (bpf_probe_read_kernel_common), and nothing can be read at 0.
        low.call("probe_read_kernel", low.pointer(to), size, 0)


def zero_tail(low: Lowering, to: Address, start: int, size: int) -> None:
    """Clear from byte `start` up to `size`."""
    if start < size:
        zero(low, to.plus(start), size - start)


def bounded(low: Lowering, value: Operand, limit: int) -> Operand:
    """The value, cut at `limit`: a comparison that shows the verifier the bound."""
    if type(value) is int:
        return min(value, limit)
    result = low.move(value)
    fits = low.label("fits")
    low.branch("<=", result, limit, fits)
    low.set(result, limit)
    low.place_label(fits)
    return result


def is_in_context(low: Lowering, address: Address) -> bool:
    """Whether an address is the program's context, which the verifier lets nobody index by a variable."""
    return address.base is low.here.context


def copy(low: Lowering, to: Address, source: Address, size: int) -> None:
    """Copy between two places in BPF memory."""
    if to == source or size == 0:
        return
    if size <= UNROLLED:
        for offset, step in chunks(size, to, source, context=low.here.context):
            low.store(to.plus(offset), low.load(source.plus(offset), step), step)
    else:
        low.call("probe_read_kernel", low.pointer(to), size, low.pointer(source))


def store_bytes(low: Lowering, to: Address, data: bytes) -> None:
    """Store constant bytes."""
    if len(data) <= UNROLLED:
        for offset, step in chunks(len(data), to):
            low.store(to.plus(offset), int.from_bytes(data[offset : offset + step], "little"), step)
    else:
        low.call("probe_read_kernel", low.pointer(to), len(data), constant(low, data))


def constant(low: Lowering, data: bytes) -> MapSpot:
    """Constant bytes in read-only memory."""
    return MapSpot(RODATA_MAP, low.build.constant(data))


def read(low: Lowering, to: Address, space: str, source: Address, size: int) -> None:
    """Read memory that is not BPF's into BPF memory; zeros where it cannot be read."""
    result = low.call(READERS[space], low.pointer(to), size, low.pointer(source))
    warn_if_failed(low, READERS[space], result)


def warn_if_failed(low: Lowering, helper: str, result: Reg) -> None:
    """With -k: tell user space when a helper failed."""
    if not low.build.report_failures:
        return
    from tracebee.language.lower import events

    fine = low.label("fine")
    low.branch("s>=", result, 0, fine)
    with low.branch_scope():
        events.report_helper(low, helper, result)
    low.place_label(fine)


def read_scalar(low: Lowering, space: str, source: Address, size: int, signed: bool) -> Reg:
    """A number of 1, 2, 4 or 8 bytes in memory that is not BPF's."""
    with low.temporaries():
        slot = low.memory(8, on_stack=True)
        read(low, slot, space, source, size)
        return low.load(slot, size, signed)
