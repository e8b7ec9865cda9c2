"""Makes the operations of a function fewer: constants, copies, addresses, jumps, dead code.

The lowering emits a register for every intermediate value, nearly all of them written once.  For those,
whatever they were set to can stand in their place everywhere, because an operation that reads a register is
always behind the one that writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language.ir import (
    FRAME,
    MIRRORED,
    NEGATED,
    Address,
    Alu,
    Argument,
    Atomic,
    Branch,
    Call,
    Convert,
    Jump,
    Label,
    Load,
    MapHandle,
    MapSpot,
    Move,
    Negate,
    Reg,
    Return,
    Store,
    Transfer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.language.ir import Function, Op, Operand

_MASK = (1 << 64) - 1
_COMMUTATIVE = frozenset("+*&|^")


def signed(value: int) -> int:
    """The low 64 bits of a number as a signed one."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def optimize(function: Function) -> None:
    """Apply all rules until nothing changes."""
    while True:
        changed = _propagate(function)
        changed |= _clean_jumps(function)
        changed |= _drop_dead(function)
        if not changed:
            return


def _definitions(function: Function) -> dict[Reg, Op | None]:
    """For each register written exactly once its operation; None for the others and for parameters."""
    found: dict[Reg, Op | None] = dict.fromkeys(function.parameters)
    for op in function.ops:
        if op.dst is not None:
            found[op.dst] = None if op.dst in found else op
    return found


def _propagate(function: Function) -> bool:
    single = _definitions(function)
    known: dict[Reg, Argument] = {}
    bases: dict[Reg, Address] = {}
    fixed = set(function.parameters)
    for reg, op in single.items():
        if op is not None:
            fixed.add(reg)

    def resolve(value: Argument) -> Argument:
        """What a value really is: follows registers set to constants, other registers or addresses."""
        while type(value) is Reg and value in known:
            value = known[value]
        return value

    def scalar(value: Operand) -> Operand:
        found = resolve(value)
        return found if type(found) is Reg or isinstance(found, int) else value

    def address(value: Address) -> Address:
        while type(value.base) is Reg:
            base = known.get(value.base)
            if type(base) is Reg:
                value = Address(base, value.offset)
            elif type(base) is Address:
                value = base.plus(value.offset)
            elif value.base in bases and -0x8000 <= bases[value.base].offset + value.offset <= 0x7FFF:
                value = bases[value.base].plus(value.offset)
            else:
                break
        return value

    changed = False
    for index, op in enumerate(function.ops):
        new = _rewritten(op, scalar, address, resolve)
        if new is not None:
            new.span = op.span
            function.ops[index] = op = new
            changed = True
        if op.dst is None or single.get(op.dst) is None:
            continue
        if type(op) is Move:
            source = op.source
            if type(source) is not Reg or source in fixed:
                if type(source) is Address and type(source.base) is Reg and source.base not in fixed:
                    continue
                known[op.dst] = source
        elif (
            type(op) is Alu
            and op.operator == "+"
            and type(op.left) is Reg
            and isinstance(op.right, int)
            and op.left in fixed
            and -0x8000 <= op.right <= 0x7FFF
        ):
            bases[op.dst] = Address(op.left, op.right)
    return changed


def _rewritten(
    op: Op,
    scalar: Callable[[Operand], Operand],
    address: Callable[[Address], Address],
    resolve: Callable[[Argument], Argument],
) -> Op | None:
    """A simpler operation that does the same, or None."""
    match op:
        case Move(dst, source):
            if type(source) is Address:
                new = address(source)
                if new.offset == 0 and type(new.base) is Reg:
                    return Move(dst, new.base)
                return Move(dst, new) if new != source else None
            found = resolve(source)
            if found is not source and found != source:
                return Move(dst, found)
        case Alu(dst, operator, left, right):
            new_left, new_right = scalar(left), scalar(right)
            folded = _fold(dst, operator, new_left, new_right)
            if folded is not None:
                return folded
            if new_left is not left or new_right is not right:
                return Alu(dst, operator, new_left, new_right)
        case Negate(dst, source):
            operand = scalar(source)
            if isinstance(operand, int):
                return Move(dst, signed(-operand))
            if operand is not source:
                return Negate(dst, operand)
        case Convert(dst, kind, source, bits):
            operand = scalar(source)
            if isinstance(operand, int):
                return Move(dst, _converted(kind, operand, bits))
            if operand is not source:
                return Convert(dst, kind, operand, bits)
        case Load(dst, at, size):
            new = address(at)
            if new is not at:
                return Load(dst, new, size)
        case Store(_, at, value, size):
            new, new_value = address(at), scalar(value)
            if new is not at or new_value is not value:
                return Store(None, new, new_value, size)
        case Atomic(dst, operator, at, value, size):
            new = address(at)
            found = scalar(value)
            new_value = found if type(found) is Reg else value
            if new is not at or new_value is not value:
                return Atomic(dst, operator, new, new_value, size)
        case Call(dst, helper, arguments):
            new_arguments = [_argument(item, resolve, address) for item in arguments]
            if any(a is not b for a, b in zip(new_arguments, arguments, strict=True)):
                return Call(dst, helper, new_arguments)
        case Branch(_, label, operator, left, right):
            new_left, new_right = scalar(left), scalar(right)
            if isinstance(new_left, int) and isinstance(new_right, int):
                if holds(operator, new_left, new_right):
                    return Jump(None, label)
                return Label(None, "")
            if isinstance(new_left, int):
                return Branch(None, label, MIRRORED[operator], new_right, new_left)
            if new_left is not left or new_right is not right:
                return Branch(None, label, operator, new_left, new_right)
        case Return(_, value):
            new_value = scalar(value)
            if new_value is not value:
                return Return(None, new_value)
    return None


def _argument(
    item: Argument, resolve: Callable[[Argument], Argument], address: Callable[[Address], Address]
) -> Argument:
    """An argument of a helper may be any symbol, so whatever the register was set to goes straight in."""
    if type(item) is Address:
        new = address(item)
        return item if new == item else new
    found = resolve(item)
    if type(found) is Reg and found is not item:
        return found
    if type(found) in (int, MapHandle, MapSpot):
        return item if found == item and type(item) is not Reg else found
    if type(found) is Address and found.base is FRAME:
        return found
    return item


def _fold(dst: Reg, operator: str, left: Operand, right: Operand) -> Op | None:
    if isinstance(left, int) and isinstance(right, int):
        value = evaluate(operator, left, right)
        return None if value is None else Move(dst, value)
    if isinstance(left, int) and operator in _COMMUTATIVE:
        return Alu(dst, operator, right, left)
    if isinstance(right, int) and type(left) is Reg:
        if right == 0 and operator in ("+", "-", "|", "^", "<<", ">>", "s>>"):
            return Move(dst, left)
        if right == 1 and operator in ("*", "/", "s/"):
            return Move(dst, left)
        if right == 0 and operator in ("*", "&"):
            return Move(dst, 0)
        if operator == "-" and -0x7FFFFFFF <= right <= 0x7FFFFFFF:
            return Alu(dst, "+", left, -right)
        if operator in ("*", "/", "%") and right > 1 and right & (right - 1) == 0:
            shift = right.bit_length() - 1
            if operator == "%":
                return Alu(dst, "&", left, right - 1)
            return Alu(dst, "<<" if operator == "*" else ">>", left, shift)
    return None


def evaluate(operator: str, left: int, right: int) -> int | None:
    """The 64-bit result of an Alu operation on constants, as a signed number; None for a division by zero."""
    a, b = left & _MASK, right & _MASK
    match operator:
        case "+":
            return signed(a + b)
        case "-":
            return signed(a - b)
        case "*":
            return signed(a * b)
        case "&":
            return signed(a & b)
        case "|":
            return signed(a | b)
        case "^":
            return signed(a ^ b)
        case "<<":
            return signed(a << (b & 63))
        case ">>":
            return signed(a >> (b & 63))
        case "s>>":
            return signed(signed(a) >> (b & 63))
        case "/" | "%":
            if b == 0:
                return None
            return signed(a // b if operator == "/" else a % b)
        case "s/" | "s%":
            if b == 0:
                return None
            quotient = abs(signed(a)) // abs(signed(b))
            if (signed(a) < 0) != (signed(b) < 0):
                quotient = -quotient
            return signed(quotient if operator == "s/" else signed(a) - quotient * signed(b))
    return None


def holds(operator: str, left: int, right: int) -> bool:
    """Whether a comparison of two constants is true."""
    a, b = left & _MASK, right & _MASK
    if operator == "&":
        return a & b != 0
    if operator.startswith("s"):
        a, b, operator = signed(a), signed(b), operator[1:]
    return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator]


def _converted(kind: str, value: int, bits: int) -> int:
    low = value & ((1 << bits) - 1)
    if kind == "swap":
        return signed(int.from_bytes(low.to_bytes(bits // 8, "little"), "big"))
    if kind == "sign" and low >> (bits - 1):
        return low - (1 << bits)
    return low


# --- jumps


def _clean_jumps(function: Function) -> bool:
    """Remove what cannot be reached, jumps to what follows anyway, and hops through other jumps."""
    ops = function.ops
    targets = {op.name: index for index, op in enumerate(ops) if type(op) is Label and op.name}

    def final(label: str) -> str:
        seen = set()
        while label not in seen:
            seen.add(label)
            at = targets[label] + 1
            while at < len(ops) and type(ops[at]) is Label:
                at += 1
            following = ops[at] if at < len(ops) else None
            if type(following) is not Jump:
                break
            label = following.label
        return label

    changed = False
    for op in ops:
        if type(op) is Jump or type(op) is Branch:
            label = final(op.label)
            if label != op.label:
                op.label = label
                changed = True
    kept: list[Op] = []
    reachable = True
    used = {op.label for op in ops if isinstance(op, Transfer)}
    for index, op in enumerate(ops):
        if type(op) is Label:
            if op.name not in used:
                changed = True
                continue
            reachable = True
        if not reachable:
            changed = True
            continue
        if (type(op) is Jump or type(op) is Branch) and _follows(ops, index, op.label):
            changed = True
            continue
        if type(op) is Branch and op.operator in NEGATED and index + 1 < len(ops):
            following = ops[index + 1]
            if type(following) is Jump and _follows(ops, index + 1, op.label):
                # if c goto A; goto B; A:  →  if !c goto B; A:
                op = Branch(None, following.label, NEGATED[op.operator], op.left, op.right)
                op.span = following.span
                ops[index] = op
                ops[index + 1] = Label(None, "")
                ops[index + 1].span = following.span
                changed = True
        kept.append(op)
        if type(op) in (Jump, Return):
            reachable = False
    function.ops = kept
    return changed


def _follows(ops: list[Op], index: int, label: str) -> bool:
    """Whether only labels lie between an operation and the label."""
    for at in range(index + 1, len(ops)):
        op = ops[at]
        if type(op) is not Label:
            return False
        if op.name == label:
            return True
    return False


def _drop_dead(function: Function) -> bool:
    """Remove operations without effect whose result nobody reads."""
    changed = False
    while True:
        used: set[Reg] = set()
        for op in function.ops:
            used.update(op.reads())
        kept = [op for op in function.ops if op.has_effect or op.dst in used]
        for op in kept:
            if op.dst is not None and op.dst not in used and type(op) in (Call, Atomic):
                op.dst = None
        if len(kept) == len(function.ops):
            return changed
        function.ops = kept
        changed = True
