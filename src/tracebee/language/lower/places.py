"""Where values lie: turning expressions into places, and reading from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.ir import FRAME, Address, Reg
from tracebee.language.lower import memory
from tracebee.language.rules import is_signed
from tracebee.records import Frozen
from tracebee.spec.types import Array, Enum, Field, Int, Pointer, Record, Str, Struct, Tuple, Type

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering


class Place(Frozen):
    """Bytes somewhere, of a type.

    `space` is "bpf" for memory that instructions can read, "btf" for kernel memory behind a pointer that the
    verifier knows the type of, and "kernel", "user" or "" (unknown) for memory that takes a helper.  `bits`
    and `bit_offset` are those of a bitfield.
    """

    address: Address
    type: Type
    space: str = "bpf"
    bits: int = 0
    bit_offset: int = 0

    @property
    def is_direct(self) -> bool:
        return self.space in ("bpf", "btf")

    def at(self, offset: int, type_: Type) -> Place:
        return Place(self.address.plus(offset), type_, self.space)

    def member(self, field: Field) -> Place:
        return Place(self.address.plus(field.offset), field.type, self.space, field.bits, field.bit_offset)


def find_place(low: Lowering, node: tree.Expression) -> Place | None:
    """The place of an expression that names one; None if its value has to be computed."""
    match node:
        case tree.Variable():
            home = variable_home(low, node)
            return Place(home, node.type) if isinstance(home, Address) else None
        case tree.MapAccess() if not node.type.is_scalar:
            from tracebee.language.lower import maps

            return Place(maps.address_of(low, node), node.type)
        case tree.Member():
            return member_place(low, node)
        case tree.Element():
            place = any_place(low, node.operand)
            type_ = node.operand.type
            assert isinstance(type_, Tuple | Record)
            return place.at(type_.offsets[node.index], type_.elements[node.index])
        case tree.Index():
            return index_place(low, node)
        case tree.Unary(operator="*", operand=operand):
            return dereferenced(low, node, operand)
        case tree.Block(statements=[], value=value) if value is not None:
            return find_place(low, value)
        case tree.Cast() if not node.type.is_scalar and node.type.size == node.operand.type.size:
            inner = find_place(low, node.operand)
            if inner is not None:
                return Place(inner.address, node.type, inner.space)
    return None


def any_place(low: Lowering, node: tree.Expression) -> Place:
    """The place of an expression; a computed value is put into memory of its own."""
    found = find_place(low, node)
    if found is not None:
        return found
    from tracebee.language.lower import expressions

    to = low.memory(node.type.size)
    expressions.store(low, node, node.type, to)
    return Place(to, node.type)


def local(low: Lowering, place: Place) -> Place:
    """The same value in BPF memory."""
    if place.is_direct:
        return place
    to = low.memory(place.type.size)
    memory.read(low, to, place.space, place.address, place.type.size)
    return Place(to, place.type)


def variable_home(low: Lowering, node: tree.Variable) -> Reg | Address:
    """The register or address of a variable, as seen from the function that is being lowered."""
    home = low.variables[node.binding]
    if isinstance(home, Address):
        return low.outer_address(home, low.variable_levels[node.binding])
    return home


def member_place(low: Lowering, node: tree.Member) -> Place:
    from tracebee.language.lower import expressions

    operand = node.operand
    if isinstance(operand, tree.Call) and operand.name == "args":
        place: Place = low.unit.kind.load_member(low, node.name)
        return place
    type_ = operand.type
    if isinstance(type_, Pointer):
        struct = type_.target
        assert isinstance(struct, Struct)
        base = Place(expressions.pointer_address(low, operand), struct, pointer_space(low, operand))
    else:
        base = any_place(low, operand)
        if isinstance(type_, Record):
            index = type_.names.index(node.name)
            return base.at(type_.offsets[index], type_.elements[index])
        assert isinstance(type_, Struct)
        struct = type_
    field = struct.find(node.name)
    assert field is not None
    return base.member(field)


def pointer_space(low: Lowering, node: tree.Expression) -> str:
    """The address space that a pointer expression points into."""
    type_ = node.type
    if low.null_label and isinstance(node, tree.Member):
        return "btf"
    return type_.space if isinstance(type_, Pointer) else ""


def dereferenced(low: Lowering, node: tree.Unary, operand: tree.Expression) -> Place:
    from tracebee.language.lower import expressions

    if isinstance(operand.type, Array):
        return any_place(low, operand).at(0, node.type)
    space = pointer_space(low, operand) if isinstance(operand.type, Pointer) else low.unit.kind.space
    return Place(expressions.pointer_address(low, operand), node.type, space)


def index_place(low: Lowering, node: tree.Index) -> Place:
    """The element of an array, a tuple, a string, or of the array that a pointer points to."""
    from tracebee.language.lower import expressions

    type_ = node.operand.type
    if isinstance(type_, Tuple):
        assert isinstance(node.index, tree.Number)
        index = node.index.value
        return any_place(low, node.operand).at(type_.offsets[index], type_.elements[index])
    element = node.type
    if isinstance(type_, Pointer):
        base = Place(
            expressions.pointer_address(low, node.operand), element, pointer_space(low, node.operand)
        )
        count = 0
    else:
        base = any_place(low, node.operand)
        count = type_.count if isinstance(type_, Array) else type_.size
        if not isinstance(type_, Array | Str):
            base = base.at(type_.size - getattr(type_, "capacity", type_.size), element)
            count = getattr(type_, "capacity", 0)
    size = element.size
    if isinstance(node.index, tree.Number):
        return base.at(node.index.value * size, element)
    index_value = expressions.value(low, node.index)
    if count and base.is_direct:
        index_value = checked_index(low, node, index_value, count)
        if base.address.base is FRAME or base.space == "btf" or memory.is_in_context(low, base.address):
            # The verifier wants constant offsets there; a copy elsewhere may be indexed.
            moved = low.memory(type_.size, on_stack=False)
            memory.copy(low, moved, base.address, type_.size)
            base = Place(moved, base.type)
    elif count:
        index_value = checked_index(low, node, index_value, count)
    scaled = low.alu("*", index_value, size)
    moved_base = low.alu("+", low.pointer(base.address), scaled)
    assert type(moved_base) is Reg
    return Place(Address(moved_base, 0), element, base.space)


def checked_index(low: Lowering, node: tree.Index, index: Operand, count: int) -> Operand:
    """An index, replaced by 0 with a warning at run time if it lies outside."""
    from tracebee.language.lower import events

    result = low.move(index)
    fine = low.label("inside")
    low.branch("<", result, count, fine)
    with low.branch_scope():
        events.report_warning(
            low, "Array access out of bounds. This can lead to unexpected results.", node.span
        )
    low.set(result, 0)
    low.place_label(fine)
    return result


def load(low: Lowering, place: Place) -> Operand:
    """The number at a place."""
    type_ = place.type
    size = type_.size
    signed = is_signed(type_)
    if place.bits:
        return load_bitfield(low, place)
    if place.is_direct:
        value = low.load(place.address, size, signed)
        if isinstance(type_, Pointer) and (
            low.null_label or (place.space == "bpf" and low.unit.kind.nullable_pointers)
        ):
            return tested_pointer(low, value)
        return value
    return memory.read_scalar(low, place.space, place.address, size, signed)


def tested_pointer(low: Lowering, pointer: Reg) -> Reg:
    """A pointer of the context after a test: with one that may be null the verifier allows no arithmetic."""
    if low.null_label:
        low.branch("==", pointer, 0, low.null_label)
        return pointer
    result = low.move(pointer)
    usable = low.label("usable")
    low.branch("!=", result, 0, usable)
    low.set(result, 0)
    low.place_label(usable)
    return result


def load_bitfield(low: Lowering, place: Place) -> Operand:
    """The bits of a bitfield, extended by their sign if the type has one."""
    type_ = place.type
    size = max(1, type_.size)
    # Bits may reach behind the unit that the type gives (packed structures).
    while place.bit_offset + place.bits > size * 8:
        size *= 2
    if place.is_direct:
        value: Operand = low.load(place.address, size)
    else:
        value = memory.read_scalar(low, place.space, place.address, size, False)
    left = 64 - place.bit_offset - place.bits
    shifted = low.alu("<<", value, left)
    signed = isinstance(type_, Int | Enum) and type_.signed
    return low.alu("s>>" if signed else ">>", shifted, 64 - place.bits)
