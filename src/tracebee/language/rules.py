"""The rules of types: which ones go together, and what comes out.

They are bpftrace's.  An integer has the smallest signed type that holds it; whatever is computed is 64 bits
wide; a subtraction is signed; where signed and unsigned meet, the result is signed unless the signed one is a
constant that is not negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.spec.types import (
    INT64,
    UINT64,
    Aggregation,
    Array,
    Bool,
    Buffer,
    Enum,
    Int,
    Named,
    Pointer,
    Record,
    Stack,
    Str,
    Struct,
    Tuple,
    Type,
    Void,
)

if TYPE_CHECKING:
    from tracebee.language.tree import Expression

BOOL = Bool()

PLAIN_ROUNDS = 32
"""Loops of up to so many rounds, those around them counted in, the verifier walks through one by one."""


def literal_type(value: int) -> Int:
    """The smallest signed type that holds a constant; uint64 beyond them."""
    for width in (1, 2, 4, 8):
        candidate = Int(width, True)
        if candidate.minimum <= value <= candidate.maximum:
            return candidate
    return UINT64


def is_integer(type_: Type) -> bool:
    """Whether arithmetic works on it."""
    return isinstance(type_, Int | Enum | Bool)


def is_signed(type_: Type) -> bool:
    return isinstance(type_, Int | Enum) and type_.signed


def as_integer(type_: Type) -> Int:
    """The plain integer behind a number, a truth value, an enumerator, a pointer or an aggregation."""
    if isinstance(type_, Int):
        return type_
    if isinstance(type_, Enum):
        return Int(type_.width, type_.signed)
    if isinstance(type_, Bool):
        return Int(1, False)
    if isinstance(type_, Aggregation):
        return INT64 if type_.signed_result else UINT64
    return UINT64


def is_natural(value: Expression | None) -> bool:
    """Whether an expression is a constant that is not negative."""
    return isinstance(value, tree.Number) and value.value >= 0


def computed(left: Expression, right: Expression, operator: str) -> Int:
    """The type of an arithmetic result, to which both operands are converted."""
    if operator == "-":
        return INT64
    left_signed, right_signed = is_signed(left.type), is_signed(right.type)
    if left_signed and right_signed:
        return INT64
    if not left_signed and not right_signed:
        return UINT64
    constant = left if left_signed else right
    return UINT64 if is_natural(constant) else INT64


def merge(old: Type, new: Type, new_value: Expression | None = None, old_adapts: bool = False) -> Type | None:
    """The type that holds values of both types, or None if none does.

    Constants that are not negative adapt to the sign of the other side: `new_value` is the expression of type
    `new`, if it is known; `old_adapts` says that nothing but such constants made up `old`.
    """
    if old == new or isinstance(new, Void):
        return old
    if isinstance(old, Void):
        return new
    match old, new:
        case (Int() | Enum(), Int() | Enum()):
            return merge_integers(as_integer(old), as_integer(new), new_value, old_adapts)
        case (Bool(), Int()) | (Int(), Bool()):
            return None
        case (Str(), Str()):
            return old if old.capacity >= new.capacity else new
        case (Named(capacity=one), Str(capacity=other)) | (Str(capacity=one), Named(capacity=other)):
            return Str(max(one, other))
        case (Named(), Named()):
            if old.table != new.table:
                return None
            return old if old.capacity >= new.capacity else new
        case (Buffer(), Buffer()):
            return old if old.capacity >= new.capacity else new
        case (Tuple(), Tuple()):
            if len(old.elements) != len(new.elements):
                return None
            values = (
                new_value.elements if isinstance(new_value, tree.TupleLiteral) else [None] * len(old.elements)
            )
            merged = [merge(a, b, v) for a, b, v in zip(old.elements, new.elements, values, strict=False)]
            elements = tuple(element for element in merged if element is not None)
            return Tuple(elements) if len(elements) == len(merged) else None
        case (Record(), Record()):
            return merge_records(old, new)
        case (Pointer(), Pointer()):
            return old if not isinstance(old.target, Void) else new
        case (Stack(), Stack()):
            if old.user == new.user and old.mode == new.mode:
                return old if old.limit >= new.limit else new
        case (Array(), Array()):
            if old.element == new.element and old.count == new.count:
                return old
        case (Struct(), Struct()):
            if old.kind == new.kind and old.name == new.name and old.size == new.size:
                return old
    return None


def merge_integers(old: Int, new: Int, new_value: Expression | None, old_adapts: bool) -> Int:
    if old.signed == new.signed:
        return old if old.width >= new.width else new
    signed, unsigned = (old, new) if old.signed else (new, old)
    if old_adapts if signed is old else is_natural(new_value):
        return Int(max(unsigned.width, signed.width), False)
    if unsigned.width < signed.width:
        return signed
    return Int(min(8, unsigned.width * 2), True)


def merge_records(old: Record, new: Record) -> Record | None:
    """Records match by name, in whatever order."""
    if set(old.names) != set(new.names):
        return None
    by_name = dict(zip(new.names, new.elements, strict=True))
    merged = [merge(element, by_name[name]) for name, element in zip(old.names, old.elements, strict=True)]
    elements = tuple(element for element in merged if element is not None)
    return Record(old.names, elements) if len(elements) == len(merged) else None
