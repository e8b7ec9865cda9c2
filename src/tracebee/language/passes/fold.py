"""Pass: compute what is constant.

It runs before types are known, so that a folded constant gets the type of its value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tracebee.language import tree

if TYPE_CHECKING:
    from tracebee.language.diagnostics import Diagnostics

_Ordered = TypeVar("_Ordered", int, bytes)
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def fold(node: tree.Node, diagnostics: Diagnostics) -> None:
    """Replace constant expressions below a node by their values, in place."""
    tree.rewrite(node, lambda item: fold_one(item, diagnostics))


def fold_one(node: tree.Node, diagnostics: Diagnostics) -> tree.Node:
    """The value of an expression whose operands are constants; other nodes as they are."""
    match node:
        case tree.Unary(operator=operator, operand=tree.Number(value=value)):
            return _unary(node, operator, value)
        case tree.Unary(operator="!", operand=tree.Truth(value=value)):
            return tree.Truth(node.span, not value)
        case tree.Binary(operator=operator, left=tree.Text() as left, right=tree.Text() as right):
            return _texts(node, operator, left.value, right.value)
        case tree.Binary(operator=operator, left=left, right=right):
            first, second = _constant(left), _constant(right)
            if first is not None and second is not None:
                return _binary(node, operator, first, second, diagnostics)
            decides = {"&&": False, "||": True}.get(operator)
            if first is not None and bool(first) is decides and isinstance(left, tree.Truth | tree.Number):
                # The left side says it all: (false && x), (true || x).
                return tree.Truth(node.span, decides)
        case tree.Ternary(condition=condition, then=then, otherwise=otherwise):
            known = _constant(condition)
            if known is not None:
                chosen = then if known else otherwise
                return condition if chosen is None else chosen
    return node


def _constant(node: tree.Node) -> int | None:
    if isinstance(node, tree.Number):
        return node.value
    if isinstance(node, tree.Truth):
        return int(node.value)
    return None


def _unary(node: tree.Unary, operator: str, value: int) -> tree.Node:
    if operator == "-" and -value >= -(1 << 63):
        return tree.Number(node.span, -value)
    if operator == "~":
        # The complement of a constant is that of its 64 bits.
        return tree.Number(node.span, ~value & 0xFFFF_FFFF_FFFF_FFFF)
    if operator == "!":
        return tree.Truth(node.span, value == 0)
    return node


def _texts(node: tree.Binary, operator: str, left: bytes, right: bytes) -> tree.Node:
    if operator == "+":
        return tree.Text(node.span, left + right)
    if operator in _COMPARISONS:
        return tree.Truth(node.span, _compare(operator, left, right))
    return node


def _compare(operator: str, left: _Ordered, right: _Ordered) -> bool:
    match operator:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right


def _binary(node: tree.Binary, operator: str, left: int, right: int, diagnostics: Diagnostics) -> tree.Node:
    if operator in _COMPARISONS:
        return tree.Truth(node.span, _compare(operator, left, right))
    if operator == "&&":
        return tree.Truth(node.span, bool(left and right))
    if operator == "||":
        return tree.Truth(node.span, bool(left or right))
    value = _arithmetic(operator, left, right)
    if value is None or not -(1 << 63) <= value < 1 << 64:
        diagnostics.error("unable to fold literals due to overflow or underflow", node.span)
        return tree.Number(node.span, 0)
    return tree.Number(node.span, value)


def _arithmetic(operator: str, left: int, right: int) -> int | None:
    """The exact result; None where there is none."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/" | "%":
            if right == 0:
                return None
            quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
            return quotient if operator == "/" else left - quotient * right
        case "&":
            return left & right
        case "|":
            return left | right
        case "^":
            return left ^ right
        case "<<":
            return left << right if 0 <= right < 64 else None
        case ">>":
            # A right shift keeps the sign: (-8) >> 1 is -4.
            return left >> right if 0 <= right < 64 else None
    return None
