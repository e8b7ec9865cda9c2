"""Values of expressions: numbers into registers, everything else into the memory where it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins import find_builtin
from tracebee.language.ir import Address, MapSpot, Reg
from tracebee.language.lower import memory, places
from tracebee.language.lower.build import has_padding
from tracebee.language.rules import as_integer, is_signed
from tracebee.spec.types import (
    Aggregation,
    Array,
    Bool,
    Buffer,
    Enum,
    Int,
    Named,
    Pointer,
    Record,
    Str,
    Tuple,
    Type,
    align_up,
)

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.lower.places import Place

ARITHMETIC = {"+": "+", "-": "-", "*": "*", "&": "&", "|": "|", "^": "^", "<<": "<<", ">>": ">>"}
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def value(low: Lowering, node: tree.Expression) -> Operand:
    """The number that an expression is, as its type has it: extended to 64 bits."""
    with low.at(node.span):
        return _value(low, node)


def _value(low: Lowering, node: tree.Expression) -> Operand:
    match node:
        case tree.Number() | tree.Constant():
            return node.value
        case tree.Truth():
            return int(node.value)
        case tree.Variable():
            home = places.variable_home(low, node)
            if isinstance(home, Reg):
                # What is read now must not change when the variable does.
                return low.move(home)
            return places.load(low, places.Place(home, node.type))
        case tree.MapAccess():
            from tracebee.language.lower import maps

            return maps.read(low, node)
        case tree.Call():
            builtin = find_builtin(node.name)
            assert builtin is not None
            return builtin.value(low, node)
        case tree.Unary():
            return unary(low, node)
        case tree.Binary():
            return binary(low, node)
        case tree.Ternary():
            return choice(low, node)
        case tree.Cast():
            return cast(low, node)
        case tree.If():
            return if_value(low, node)
        case tree.Block():
            return block_value(low, node)
        case tree.SizeOf() | tree.OffsetOf():
            return constant_of(low, node)
    if isinstance(node, tree.Member) and isinstance(node.operand, tree.Call) and node.operand.name == "args":
        found = low.unit.kind.member_value(low, node.name)
        if found is not None:
            return found
    place = places.find_place(low, node)
    assert place is not None, node
    return places.load(low, place)


def constant_of(low: Lowering, node: tree.SizeOf | tree.OffsetOf) -> int:
    inference = low.build.inference
    return inference.size_of(node) if isinstance(node, tree.SizeOf) else inference.offset_of(node)


def number(low: Lowering, node: tree.Expression) -> Operand:
    """The number of an expression that is to be computed with."""
    if isinstance(node, tree.MapAccess):
        from tracebee.language.lower import maps

        plan = low.build.maps[node.name]
        if isinstance(plan.value, Aggregation):
            with low.at(node.span):
                return maps.read_aggregation(low, node)
    return value(low, node)


def pointer_address(low: Lowering, node: tree.Expression) -> Address:
    """The address that a pointer expression is, for reading what lies there."""
    found = number(low, node)
    return Address(low.register(found), 0)


# --- operators


def unary(low: Lowering, node: tree.Unary) -> Operand:
    operator, operand = node.operator, node.operand
    if operator in ("++", "--"):
        return step(low, node)
    if operator == "*":
        return places.load(low, places.dereferenced(low, node, operand))
    if operator == "&":
        assert isinstance(operand, tree.Variable)
        home = places.variable_home(low, operand)
        assert isinstance(home, Address)
        return low.pointer(home)
    if operator == "!":
        return truth(low, node)
    source = number(low, operand)
    type_ = as_integer(operand.type)
    result = low.negate(source) if operator == "-" else low.alu("^", source, -1)
    if not is_signed(operand.type) and type_.width < 8:
        return low.convert("zero", result, type_.bits)
    return result


def step(low: Lowering, node: tree.Unary) -> Operand:
    """``++`` and ``--``: the value before or after."""
    amount = 1 if node.operator == "++" else -1
    type_ = node.type
    if isinstance(type_, Pointer):
        amount *= max(1, type_.target.size)
    if isinstance(node.operand, tree.MapAccess):
        from tracebee.language.lower import maps

        before = maps.add(low, node.operand, amount, wanted=True)
        assert before is not None
        return before if node.postfix else low.alu("+", before, amount)
    assert isinstance(node.operand, tree.Variable)
    before = value(low, node.operand)
    after = low.alu("+", before, amount)
    set_variable(low, node.operand, after)
    return before if node.postfix else after


def set_variable(low: Lowering, node: tree.Variable, new: Operand) -> None:
    """Assign a number to a variable."""
    home = places.variable_home(low, node)
    if isinstance(home, Reg):
        low.set(home, new)
    else:
        low.store(home, new, node.binding.type.size)


def binary(low: Lowering, node: tree.Binary) -> Operand:
    operator = node.operator
    if operator in ("&&", "||") or operator in COMPARISONS:
        return truth(low, node)
    left_type, right_type = node.left.type, node.right.type
    left, right = number(low, node.left), number(low, node.right)
    if isinstance(left_type, Pointer) and not isinstance(right_type, Pointer) and operator in ("+", "-"):
        right = low.alu("*", right, max(1, left_type.target.size))
    elif isinstance(right_type, Pointer) and not isinstance(left_type, Pointer) and operator == "+":
        left = low.alu("*", left, max(1, right_type.target.size))
    return arithmetic(low, operator, left, right, node.type, node)


def arithmetic(
    low: Lowering, operator: str, left: Operand, right: Operand, type_: Type, node: tree.Node
) -> Operand:
    """left operator right in 64 bits."""
    if operator in ("/", "%"):
        return divide(low, operator, left, right, is_signed(type_), node)
    return low.alu(ARITHMETIC[operator], left, right)


def divide(
    low: Lowering, operator: str, left: Operand, right: Operand, signed: bool, node: tree.Node
) -> Operand:
    """Division toward zero; by zero it gives 1 and a warning at run time."""
    from tracebee.language.lower import events

    if type(right) is int and right != 0:
        return _quotient(low, operator, left, right, signed)
    result = low.reg("quotient")
    end, fine = low.label("divided"), low.label("nonzero")
    low.branch("!=", right, 0, fine)
    with low.branch_scope():
        events.report_warning(
            low,
            "Divide or modulo by 0 detected. This can lead to unexpected results. 1 is being used as the result.",
            node.span,
        )
    low.set(result, 1)
    low.jump(end)
    low.place_label(fine)
    with low.branch_scope():
        low.set(result, _quotient(low, operator, left, right, signed))
    low.place_label(end)
    return result


def _quotient(low: Lowering, operator: str, left: Operand, right: Operand, signed: bool) -> Operand:
    if not signed:
        return low.alu(operator, left, right)
    if type(left) is int and type(right) is int:
        from tracebee.language.codegen.optimize import evaluate

        folded = evaluate("s" + operator, left, right)
        assert folded is not None
        return folded
    # BPF divides without signs before ISA v4 (Linux 6.6), so the signs are put aside.
    negative_left = low.move(0)
    a, b = low.move(left), low.move(right)
    quotient_sign = low.move(0)
    positive = low.label("positive")
    low.branch("s>=", a, 0, positive)
    low.set(a, low.negate(a))
    low.set(negative_left, 1)
    low.set(quotient_sign, 1)
    low.place_label(positive)
    positive_right = low.label("positive")
    low.branch("s>=", b, 0, positive_right)
    low.set(b, low.negate(b))
    low.set(quotient_sign, low.alu("^", quotient_sign, 1))
    low.place_label(positive_right)
    result = low.move(low.alu(operator, a, b))
    done = low.label("signed")
    low.branch("==", quotient_sign if operator == "/" else negative_left, 0, done)
    low.set(result, low.negate(result))
    low.place_label(done)
    return result


# --- truth


def truth(low: Lowering, node: tree.Expression) -> Operand:
    """1 or 0."""
    result = low.reg("truth")
    false, end = low.label("false"), low.label("truth")
    condition(low, node, false)
    low.set(result, 1)
    low.jump(end)
    low.place_label(false)
    low.set(result, 0)
    low.place_label(end)
    return result


def condition(low: Lowering, node: tree.Expression, otherwise: str) -> None:
    """Go on if the expression is true, to the label if it is not."""
    with low.at(node.span):
        _condition(low, node, otherwise)


def _condition(low: Lowering, node: tree.Expression, otherwise: str) -> None:
    match node:
        case tree.Unary(operator="!", operand=operand):
            true = low.label("true")
            condition(low, operand, true)
            low.jump(otherwise)
            low.place_label(true)
        case tree.Binary(operator="&&", left=left, right=right):
            condition(low, left, otherwise)
            with low.branch_scope():
                condition(low, right, otherwise)
        case tree.Binary(operator="||", left=left, right=right):
            true, next_one = low.label("true"), low.label("or")
            condition(low, left, next_one)
            low.jump(true)
            low.place_label(next_one)
            with low.branch_scope():
                condition(low, right, otherwise)
            low.place_label(true)
        case tree.Binary(operator=operator, left=left, right=right) if operator in COMPARISONS:
            compare(low, operator, left, right, otherwise)
        case tree.Truth() | tree.Number():
            if not node.value:
                low.jump(otherwise)
        case _:
            low.branch("==", number(low, node), 0, otherwise)


def compare(
    low: Lowering, operator: str, left: tree.Expression, right: tree.Expression, otherwise: str
) -> None:
    if isinstance(left.type, Str | Named) or isinstance(right.type, Str | Named):
        from tracebee.language.lower import strings

        strings.compare(low, left, right, operator == "==", otherwise)
        return
    if not left.type.is_scalar and not isinstance(left.type, Aggregation):
        compare_memory(low, left, right, operator == "==", otherwise)
        return
    signed = is_signed(left.type) or is_signed(right.type)
    for one, other in ((left, right), (right, left)):
        # A constant that is not negative does not make an unsigned comparison a signed one.
        if isinstance(one, tree.Number) and one.value >= 0:
            signed = is_signed(other.type)
    if isinstance(left.type, Pointer) or isinstance(right.type, Pointer):
        signed = False
    a, b = number(low, left), number(low, right)
    inverse = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}[operator]
    if signed and inverse not in ("==", "!="):
        inverse = "s" + inverse
    low.branch(inverse, a, b, otherwise)


def compare_memory(
    low: Lowering, left: tree.Expression, right: tree.Expression, equal: bool, otherwise: str
) -> None:
    """Tuples, arrays and structures: byte by byte, strings inside them up to their end."""
    from tracebee.language.rules import merge

    type_ = merge(left.type, right.type)
    assert type_ is not None
    with low.temporaries():
        sides = []
        for node in (left, right):
            place = places.find_place(low, node) if node.type == type_ and not has_padding(type_) else None
            if place is not None:
                sides.append(places.local(low, place).address)
                continue
            to = low.memory(type_.size)
            memory.zero(low, to, type_.size)
            store(low, node, type_, to)
            sides.append(to)
        differ = otherwise if equal else low.label("differ")
        for offset, step in memory.chunks(type_.size, *sides, context=low.here.context):
            a = low.load(sides[0].plus(offset), step)
            b = low.load(sides[1].plus(offset), step)
            low.branch("!=", a, b, differ)
        if not equal:
            low.jump(otherwise)
            low.place_label(differ)


# --- choices


def choice(low: Lowering, node: tree.Ternary) -> Operand:
    result = low.reg("choice")
    other, end = low.label("else"), low.label("end")
    if node.then is None:
        first = low.move(number(low, node.condition))
        low.branch("==", first, 0, other)
        low.set(result, first)
    else:
        condition(low, node.condition, other)
        with low.branch_scope():
            low.set(result, converted(low, node.then, node.type))
    low.jump(end)
    low.place_label(other)
    with low.branch_scope():
        low.set(result, converted(low, node.otherwise, node.type))
    low.place_label(end)
    return result


def if_value(low: Lowering, node: tree.If) -> Operand:
    from tracebee.language.lower import statements

    if node.compile_time:
        chosen = statements.chosen_branch(node)
        return block_value(low, chosen) if chosen is not None else 0
    assert node.otherwise is not None
    result = low.reg("choice")
    other, end = low.label("else"), low.label("end")
    condition(low, node.condition, other)
    with low.branch_scope():
        low.set(result, block_value(low, node.then))
    low.jump(end)
    low.place_label(other)
    with low.branch_scope():
        low.set(result, block_value(low, node.otherwise))
    low.place_label(end)
    return result


def block_value(low: Lowering, node: tree.Block) -> Operand:
    from tracebee.language.lower import statements

    statements.block_statements(low, node)
    assert node.value is not None
    return number(low, node.value)


def converted(low: Lowering, node: tree.Expression, type_: Type) -> Operand:
    """The number of an expression as one of another integer type."""
    found = number(low, node)
    return narrowed(low, found, node.type, type_)


def narrowed(low: Lowering, found: Operand, source: Type, target: Type) -> Operand:
    """A number of one type as one of another: cut to its width if it may not fit."""
    if not isinstance(target, Int | Enum | Bool):
        return found
    if isinstance(target, Bool):
        return found if isinstance(source, Bool) else boolean(low, found)
    wanted = as_integer(target)
    given = as_integer(source) if not isinstance(source, Pointer) else Int(8, False)
    if wanted.width == 8 or (
        given.width <= wanted.width
        and (given.signed == wanted.signed or (not given.signed and given.width < wanted.width))
    ):
        return found
    if type(found) is int:
        low_bits = found & ((1 << wanted.bits) - 1)
        return low_bits - (1 << wanted.bits) if wanted.signed and low_bits >> (wanted.bits - 1) else low_bits
    return low.convert("sign" if wanted.signed else "zero", found, wanted.bits)


def boolean(low: Lowering, found: Operand) -> Operand:
    if type(found) is int:
        return int(found != 0)
    result = low.move(1)
    true = low.label("true")
    low.branch("!=", found, 0, true)
    low.set(result, 0)
    low.place_label(true)
    return result


def cast(low: Lowering, node: tree.Cast) -> Operand:
    """A number out of a number, a pointer, or the bytes of a small array."""
    source = node.operand.type
    if isinstance(source, Array):
        place = places.any_place(low, node.operand)
        width = source.size
        found = places.load(low, places.Place(place.address, Int(width, False), place.space))
        return narrowed(low, found, Int(width, False), node.type)
    return narrowed(low, number(low, node.operand), source, node.type)


# --- into memory


def store(low: Lowering, node: tree.Expression, type_: Type, to: Address) -> None:
    """Put the value of an expression, as one of `type_`, at an address in BPF memory.

    Padding, and the bytes behind the end of a string, become zero only in strings: whoever compares whole
    values clears the memory first.
    """
    with low.at(node.span):
        _store(low, node, type_, to)


def _store(low: Lowering, node: tree.Expression, type_: Type, to: Address) -> None:
    if type_.is_scalar:
        low.store(to, converted(low, node, type_), type_.size)
        return
    if isinstance(type_, Str):
        from tracebee.language.lower import strings

        strings.store(low, node, type_, to)
        return
    match node:
        case tree.TupleLiteral():
            assert isinstance(type_, Tuple)
            for element, element_type, offset in zip(
                node.elements, type_.elements, type_.offsets, strict=True
            ):
                store(low, element, element_type, to.plus(offset))
            return
        case tree.RecordLiteral():
            store_record(low, node, type_, to)
            return
        case tree.Ternary():
            store_choice(low, node, type_, to)
            return
        case tree.If():
            store_if(low, node, type_, to)
            return
        case tree.Block():
            from tracebee.language.lower import statements

            with low.temporaries():
                statements.block_statements(low, node)
                assert node.value is not None
                store(low, node.value, type_, to)
            return
        case tree.Call() if not isinstance(node.type, Str):
            builtin = find_builtin(node.name)
            assert builtin is not None
            builtin.store(low, node, to)
            return
        case tree.Cast() if isinstance(node.type, Array) and node.operand.type.is_scalar:
            found = number(low, node.operand)
            if node.operand.type.size < type_.size:
                memory.zero(low, to, type_.size)
            low.store(to, found, node.operand.type.size)
            return
        case tree.TypeInfo():
            base, full = low.build.inference.type_info(node)
            assert isinstance(type_, Record)
            for text, offset, field in zip((base, full), type_.offsets, type_.elements, strict=True):
                memory.store_bytes(low, to.plus(offset), text.encode().ljust(field.size, b"\0"))
            return
    with low.temporaries():
        place = places.find_place(low, node)
        if place is None and isinstance(node, tree.Cast):
            place = places.any_place(low, node.operand)
            place = places.Place(place.address, node.type, place.space)
        assert place is not None, node
        store_place(low, place, type_, to)


def store_place(low: Lowering, place: Place, type_: Type, to: Address) -> None:
    """Copy what lies at a place, converted to another type of the same shape."""
    source = place.type
    if type_.is_scalar:
        low.store(to, narrowed(low, places.load(low, place), source, type_), type_.size)
    elif source == type_ or not isinstance(type_, Tuple | Record | Str | Buffer):
        if place.is_direct:
            memory.copy(low, to, place.address, type_.size)
        else:
            memory.read(low, to, place.space, place.address, type_.size)
    elif isinstance(type_, Str):
        from tracebee.language.lower import strings

        strings.store_place(low, place, type_, to)
    elif isinstance(type_, Buffer):
        memory.copy(low, to, places.local(low, place).address, min(source.size, type_.size))
    else:
        assert isinstance(source, Tuple | Record)
        order = list(range(len(type_.elements)))
        if isinstance(source, Record) and isinstance(type_, Record):
            order = [source.names.index(name) for name in type_.names]
        for index, element, offset in zip(order, type_.elements, type_.offsets, strict=True):
            part = place.at(source.offsets[index], source.elements[index])
            store_place(low, part, element, to.plus(offset))


def store_record(low: Lowering, node: tree.RecordLiteral, type_: Type, to: Address) -> None:
    """The values are computed in the order written, which need not be the order in memory."""
    assert isinstance(type_, Record)
    for name, element in zip(node.names, node.elements, strict=True):
        index = type_.names.index(name)
        store(low, element, type_.elements[index], to.plus(type_.offsets[index]))


def store_choice(low: Lowering, node: tree.Ternary, type_: Type, to: Address) -> None:
    other, end = low.label("else"), low.label("end")
    if node.then is None:
        # The first operand is a condition, so it is a number; a string as the second makes no type.
        low.store(to, number(low, node.condition), type_.size)
        return
    condition(low, node.condition, other)
    with low.branch_scope():
        store(low, node.then, type_, to)
    low.jump(end)
    low.place_label(other)
    with low.branch_scope():
        store(low, node.otherwise, type_, to)
    low.place_label(end)


def store_if(low: Lowering, node: tree.If, type_: Type, to: Address) -> None:
    from tracebee.language.lower import statements

    if node.compile_time:
        chosen = statements.chosen_branch(node)
        assert chosen is not None
        store(low, chosen, type_, to)
        return
    assert node.otherwise is not None
    other, end = low.label("else"), low.label("end")
    condition(low, node.condition, other)
    with low.branch_scope():
        store(low, node.then, type_, to)
    low.jump(end)
    low.place_label(other)
    with low.branch_scope():
        store(low, node.otherwise, type_, to)
    low.place_label(end)


def store_padded(low: Lowering, node: tree.Expression, type_: Type, to: Address) -> None:
    """Like store, with all padding zero, so that equal values have equal bytes."""
    if has_padding(type_):
        memory.zero(low, to, type_.size)
    store(low, node, type_, to)


def rodata(low: Lowering, data: bytes) -> MapSpot:
    return memory.constant(low, data)


def padded_size(type_: Type) -> int:
    return align_up(type_.size, 8)
