"""Strings: storing, appending to records, comparing, searching.

A string in a variable, a map or a key has zeros behind its end, so that equal strings are equal bytes.  A
string on its way to user space is moved with its length and costs no more than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins import find_builtin
from tracebee.language.ir import FRAME, Address, MapSpot, Reg
from tracebee.language.lower import memory, places
from tracebee.language.lower.build import RODATA_MAP
from tracebee.records import Frozen
from tracebee.spec.types import Buffer, Named, Record, Str, Tuple, Type, align_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.lower.places import Place

SHORT_LOOP = 128
"""Loops of so few rounds are left to the verifier to go through."""

WORDS_LIMIT = 64
"""Strings up to this capacity are compared word by word without a loop."""


class Text(Frozen):
    """A string in BPF memory, or a constant (`literal`, without NUL).

    `padded` says that everything behind its end, up to `capacity`, is zero.
    """

    address: Address | None
    capacity: int
    padded: bool
    literal: bytes | None = None


def capacity_of(type_: Type) -> int:
    assert isinstance(type_, Str | Named)
    return type_.capacity


def constant_text(low: Lowering, node: tree.Expression) -> bytes | None:
    """The bytes of a string that is known at compile time."""
    if isinstance(node, tree.Text):
        return node.value.partition(b"\0")[0]
    if isinstance(node, tree.Block) and not node.statements and node.value is not None:
        return constant_text(low, node.value)
    if isinstance(node, tree.Call) and isinstance(node.type, Named) and node.type.table in OF_POINTS:
        names = names_of_points(low, node.type.table)
        if len(names) == 1:
            return names[0].encode()
    return None


OF_POINTS = ("probe", "func")
"""Tables that have a row for each point of the script."""


def names_of_points(low: Lowering, table: str) -> list[str]:
    """The rows of the unit's points."""
    return [point.name if table == "probe" else point.function for point in low.unit.points]


def store(low: Lowering, node: tree.Expression, type_: Str, to: Address) -> None:
    """Put a string into `type_.capacity` bytes, padded with zeros."""
    capacity = type_.capacity
    literal = constant_text(low, node)
    if literal is not None:
        data = literal[:capacity]
        memory.store_bytes(low, to, data)
        memory.zero_tail(low, to, len(data), capacity)
        return
    match node:
        case tree.Ternary():
            from tracebee.language.lower import expressions

            expressions.store_choice(low, node, type_, to)
            return
        case tree.If():
            from tracebee.language.lower import expressions

            expressions.store_if(low, node, type_, to)
            return
        case tree.Block():
            from tracebee.language.lower import statements

            with low.temporaries():
                statements.block_statements(low, node)
                assert node.value is not None
                store(low, node.value, type_, to)
            return
        case tree.Call():
            store_call(low, node, type_, to)
            return
        case tree.Cast():
            store(low, node.operand, type_, to)
            return
    with low.temporaries():
        place = places.find_place(low, node)
        assert place is not None, node
        store_place(low, place, type_, to, is_character_array(node))


def store_call(low: Lowering, node: tree.Call, type_: Str, to: Address) -> None:
    if isinstance(node.type, Named):
        table = named_text(low, node)
        assert table.address is not None
        memory.copy(low, to, table.address, min(table.capacity, type_.capacity))
        memory.zero_tail(low, to, table.capacity, type_.capacity)
        return
    builtin = find_builtin(node.name)
    assert builtin is not None
    if builtin.pads_text:
        builtin.text(low, node, to, type_.capacity)
        memory.zero_tail(low, to, capacity_of(node.type), type_.capacity)
        return
    # Not the tail afterwards: the verifier would have to see that start and length add up to the size.
    memory.zero(low, to, type_.capacity)
    builtin.text(low, node, to, type_.capacity)


def is_character_array(node: tree.Expression) -> bool:
    """Whether a place is a C array, which need not be clean behind its NUL; strings of ours are."""
    match node:
        case tree.Member():
            return not isinstance(node.operand.type, Record)
        case tree.Index():
            return not isinstance(node.operand.type, Tuple)
        case tree.Unary():
            return True
        case tree.Block(value=value) if value is not None:
            return is_character_array(value)
    return False


def store_place(low: Lowering, place: Place, type_: Str, to: Address, is_array: bool = False) -> None:
    """Copy a string that lies somewhere, cut or padded to another capacity."""
    size = min(place.type.size, type_.capacity)
    if place.space == "bpf" and not is_array and not memory.is_in_context(low, place.address):
        memory.copy(low, to, place.address, size)
        memory.zero_tail(low, to, size, type_.capacity)
    else:
        memory.zero(low, to, type_.capacity)
        read_string(low, to, "kernel" if place.is_direct else place.space, place.address, size)


def read_string(
    low: Lowering, to: Address, space: str, source: Address, size: Operand, exact: bool = False
) -> Operand:
    """Read a NUL-terminated string of up to `size` bytes into as many bytes; returns its length.

    The kernel's helpers write size - 1 characters and a NUL.  Where they hit that limit, the last byte is
    read by itself, unless `exact`: it is a NUL, or the sign that there is more.
    """
    low.store(to, 0, 1)
    helper = memory.STRING_READERS[space]
    got = low.call(helper, low.pointer(to), size, low.pointer(source))
    memory.warn_if_failed(low, helper, got)
    length = low.reg("length")
    empty, end = low.label("empty"), low.label("read")
    low.branch("s<=", got, 0, empty)
    low.set(length, low.alu("-", got, 1))
    if type(size) is int and not exact:
        low.branch("!=", got, size, end)
        last = low.alu("+", low.pointer(to), size - 1)
        with low.branch_scope():
            low.call(memory.READERS[space], last, 1, low.alu("+", low.pointer(source), size - 1))
            assert type(last) is Reg
            low.branch("==", low.load(Address(last, 0), 1), 0, end)
        low.set(length, size)
    low.jump(end)
    low.place_label(empty)
    low.set(length, 0)
    low.place_label(end)
    return length


def named_text(low: Lowering, node: tree.Expression) -> Text:
    """The text of a number that names something, from a table in read-only memory."""
    assert isinstance(node.type, Named)
    if node.type.table in OF_POINTS:
        if not isinstance(node, tree.Call):
            low.context.diagnostics.fail(
                f"a kept {node.type.table} name can only be printed or be a key",
                node.span,
                f"compare `{node.type.table}` itself",
            )
        names = names_of_points(low, node.type.table)
        index = low.unit.kind.load_probe_id(low)
    else:
        names = list(low.machine.names_by_number(node.type.table))
        # The last row is for numbers that the table does not have, and that is where they are cut.
        index = _named_number(low, node)
    rows = [name.encode()[: node.type.capacity - 1] for name in names]
    stride = align_up(max(map(len, rows)) + 1, 8)
    offset = low.build.constant(b"".join(row.ljust(stride, b"\0") for row in rows))
    checked = memory.bounded(low, index, len(rows) - 1)
    start = low.move(MapSpot(RODATA_MAP, offset))
    base = low.alu("+", start, low.alu("*", checked, stride))
    assert type(base) is Reg
    return Text(Address(base, 0), stride, True)


def _named_number(low: Lowering, node: tree.Expression) -> Reg:
    """The number behind a name, without the sign of an error."""
    assert isinstance(node.type, Named)
    if isinstance(node, tree.Call):
        to = low.memory(8)
        builtin = find_builtin(node.name)
        assert builtin is not None
        builtin.store(low, node, to)
        index = low.load(to, 8)
    else:
        index = low.load(places.local(low, places.any_place(low, node)).address, 8)
    if node.type.table == "strerror":
        positive = low.label("positive")
        low.branch("s>=", index, 0, positive)
        low.set(index, low.negate(index))
        low.place_label(positive)
    return index


def text_of(low: Lowering, node: tree.Expression) -> Text:
    """A string in BPF memory, for looking at."""
    literal = constant_text(low, node)
    if literal is not None:
        return Text(None, len(literal) + 1, True, literal)
    if isinstance(node.type, Named):
        return named_text(low, node)
    if isinstance(node, tree.Call):
        capacity = capacity_of(node.type)
        builtin = find_builtin(node.name)
        assert builtin is not None
        home = builtin.home(low, node)
        if home is not None:
            return Text(home, capacity, True)
        to = low.memory(capacity)
        builtin.text(low, node, to, capacity)
        return Text(to, capacity, builtin.pads_text)
    place = places.find_place(low, node)
    if place is not None and place.space == "bpf" and not memory.is_in_context(low, place.address):
        return Text(place.address, place.type.size, not is_character_array(node))
    capacity = capacity_of(node.type)
    to = low.memory(capacity)
    if place is not None:
        read_string(low, to, "kernel" if place.is_direct else place.space, place.address, capacity)
        return Text(to, capacity, False)
    store(low, node, Str(capacity), to)
    return Text(to, capacity, True)


def append_literal(low: Lowering, literal: bytes, to: Address) -> int:
    """Put constant text at an address; its length."""
    memory.store_bytes(low, to, literal + b"\0")
    return len(literal)


def indexable_address(low: Lowering, text: Text) -> Address:
    """Where a string lies, in memory that may be indexed by a variable."""
    return Address(indexable(low, text), 0)


def append(low: Lowering, node: tree.Expression, to: Address, capacity: int) -> Operand:
    """Put a string, or a buffer's bytes, at the end of a record; how many bytes, at most `capacity`."""
    if isinstance(node.type, Buffer):
        return append_buffer(low, node, to, capacity)
    literal = constant_text(low, node)
    if literal is not None:
        data = literal[:capacity]
        memory.store_bytes(low, to, data)
        return len(data)
    if isinstance(node, tree.Call) and isinstance(node.type, Str):
        builtin = find_builtin(node.name)
        assert builtin is not None
        length = builtin.text(low, node, to, capacity)
        if not builtin.pads_text:
            return length
        return terminated_length(low, to, capacity_of(node.type))
    if not isinstance(node, tree.Call):
        place = places.find_place(low, node)
        if place is not None:
            space = "kernel" if place.is_direct else place.space
            return read_string(low, to, space, place.address, min(capacity, place.type.size))
    store(low, node, Str(capacity), to)
    return terminated_length(low, to, capacity)


def append_buffer(low: Lowering, node: tree.Expression, to: Address, capacity: int) -> Operand:
    """Put the bytes of a buffer at the end of a record; how many."""
    if isinstance(node, tree.Call):
        builtin = find_builtin(node.name)
        assert builtin is not None
        return builtin.append(low, node, to, capacity)
    place = places.local(low, places.any_place(low, node))
    length = memory.bounded(low, low.load(place.address, 4), capacity)
    low.call("probe_read_kernel", low.pointer(to), length, place.address.plus(Buffer.HEADER))
    return length


def terminated_length(low: Lowering, address: Address, capacity: int) -> Operand:
    """The number of characters before the NUL."""
    counter = low.move(0, "length")
    base = low.pointer(address)

    def body(index: Reg, leave: str) -> None:
        at = low.alu("+", base, index)
        assert type(at) is Reg
        low.branch("==", low.load(Address(at, 0), 1), 0, leave)
        low.set(counter, low.alu("+", index, 1))

    counted_loop(low, capacity, body)
    return memory.bounded(low, counter, capacity)


def counted_loop(low: Lowering, limit: Operand, body: Callable[[Reg, str], None]) -> None:
    """Run `body(index, leave)` for index 0, 1, …; it may jump to the label `leave`.

    The bound makes any kernel from 5.3 on accept it; in a long loop may_goto, where there is one, spares the
    verifier from going through all rounds.
    """
    index = low.move(0, "index")
    again, leave = low.label("again"), low.label("leave")
    low.place_label(again)
    low.branch(">=", index, limit, leave)
    if not (type(limit) is int and limit <= SHORT_LOOP):
        low.loop_guard(leave)
    with low.branch_scope():
        body(index, leave)
        low.set(index, low.alu("+", index, 1))
        low.jump(again)
    low.place_label(leave)


# --- comparison


def compare(
    low: Lowering,
    left: tree.Expression,
    right: tree.Expression,
    equal: bool,
    otherwise: str,
    limit: int | None = None,
) -> None:
    """Jump to the label unless the strings are equal (or, with `equal` false, different).

    With a limit only so many first characters count.
    """
    with low.temporaries():
        a, b = text_of(low, left), text_of(low, right)
        differ = otherwise if equal else low.label("differ")
        compare_texts(low, a, b, differ, limit)
        if not equal:
            low.jump(otherwise)
            low.place_label(differ)


def compare_texts(low: Lowering, a: Text, b: Text, differ: str, limit: int | None = None) -> None:
    """Jump to the label if two strings differ."""
    if a.literal is not None and b.literal is not None:
        first, second = a.literal, b.literal
        if limit is not None:
            first, second = first[:limit], second[:limit]
        if first != second:
            low.jump(differ)
        return
    if a.literal is not None:
        a, b = b, a
    if b.literal is not None:
        compare_literal(low, a, b.literal, differ, limit)
        return
    assert a.address is not None and b.address is not None
    shortest = min(a.capacity, b.capacity)
    if limit is not None and limit < shortest:
        shortest = limit
    if a.padded and b.padded and shortest <= WORDS_LIMIT and limit is None:
        for offset, step in memory.chunks(shortest, a.address, b.address, context=low.here.context):
            low.branch(
                "!=", low.load(a.address.plus(offset), step), low.load(b.address.plus(offset), step), differ
            )
        check_end(low, a, b, shortest, differ)
        return
    equal = low.label("equal")
    base_a, base_b = indexable(low, a), indexable(low, b)

    def body(index: Reg, leave: str) -> None:
        at_a, at_b = low.alu("+", base_a, index), low.alu("+", base_b, index)
        assert type(at_a) is Reg and type(at_b) is Reg
        one = low.load(Address(at_a, 0), 1)
        low.branch("!=", one, low.load(Address(at_b, 0), 1), differ)
        low.branch("==", one, 0, equal)

    counted_loop(low, shortest, body)
    if limit is None or limit > shortest:
        check_end(low, a, b, shortest, differ)
    low.place_label(equal)


def check_end(low: Lowering, a: Text, b: Text, compared: int, differ: str) -> None:
    """After `compared` equal bytes the longer string must be at its end."""
    longer = a if a.capacity > b.capacity else b
    if longer.capacity > compared:
        assert longer.address is not None
        low.branch("!=", low.load(longer.address.plus(compared), 1), 0, differ)


def indexable(low: Lowering, text: Text) -> Reg:
    """A register with the string's address that may be indexed by a variable; the stack may not."""
    assert text.address is not None
    if text.address.base is not FRAME:
        return low.pointer(text.address)
    moved = low.memory(text.capacity, on_stack=False)
    memory.copy(low, moved, text.address, text.capacity)
    return low.pointer(moved)


def compare_literal(low: Lowering, text: Text, literal: bytes, differ: str, limit: int | None) -> None:
    """Compare with a constant: its characters and, unless cut by the limit, the NUL behind it."""
    assert text.address is not None
    wanted = literal + b"\0"
    if limit is not None:
        wanted = wanted[:limit]
    if len(wanted) > text.capacity:
        if len(literal) != text.capacity or (limit is not None and limit < len(literal)):
            low.jump(differ)
            return
        wanted = literal
    if len(wanted) <= 256:
        for offset, step in memory.chunks(len(wanted), text.address, context=low.here.context):
            expected = int.from_bytes(wanted[offset : offset + step], "little")
            low.branch("!=", low.load(text.address.plus(offset), step), expected, differ)
        return
    spot = low.move(memory.constant(low, wanted))
    base = indexable(low, text)

    def body(index: Reg, leave: str) -> None:
        at, other = low.alu("+", base, index), low.alu("+", spot, index)
        assert type(at) is Reg and type(other) is Reg
        low.branch("!=", low.load(Address(at, 0), 1), low.load(Address(other, 0), 1), differ)

    counted_loop(low, len(wanted), body)


# --- search


def find(low: Lowering, haystack: Text, needle: Text) -> Operand:
    """The position at which a string contains another, or -1."""
    result = low.move(-1, "position")
    end = low.label("found")
    if needle.literal is not None and haystack.literal is not None:
        return haystack.literal.find(needle.literal)
    if needle.literal == b"":
        return 0
    hay = indexable(low, materialized(low, haystack))
    if needle.literal is not None:
        literal = needle.literal
        if len(literal) > haystack.capacity:
            return -1

        def body(index: Reg, leave: str) -> None:
            miss = low.label("miss")
            at = low.alu("+", hay, index)
            assert type(at) is Reg
            first = low.load(Address(at, 0), 1)
            low.branch("==", first, 0, leave)
            low.branch("!=", first, literal[0], miss)
            for offset, char in enumerate(literal[1:], 1):
                low.branch("!=", low.load(Address(at, offset), 1), char, miss)
            low.set(result, index)
            low.jump(end)
            low.place_label(miss)

        counted_loop(low, haystack.capacity - len(literal) + 1, body)
        low.place_label(end)
        return result
    other = indexable(low, needle)
    low_capacity = haystack.capacity

    def outer(index: Reg, leave: str) -> None:
        miss, hit = low.label("miss"), low.label("hit")

        def inner(offset: Reg, leave_inner: str) -> None:
            at_needle = low.alu("+", other, offset)
            assert type(at_needle) is Reg
            wanted = low.load(Address(at_needle, 0), 1)
            low.branch("==", wanted, 0, hit)
            position = low.alu("+", index, offset)
            low.branch(">=", position, low_capacity, miss)
            at = low.alu("+", hay, position)
            assert type(at) is Reg
            low.branch("!=", low.load(Address(at, 0), 1), wanted, miss)

        counted_loop(low, needle.capacity, inner)
        low.place_label(hit)
        low.set(result, index)
        low.jump(end)
        low.place_label(miss)
        at = low.alu("+", hay, index)
        assert type(at) is Reg
        low.branch("==", low.load(Address(at, 0), 1), 0, leave)

    counted_loop(low, haystack.capacity, outer)
    low.place_label(end)
    return result


def materialized(low: Lowering, text: Text) -> Text:
    """A string that lies in memory even if it is a constant."""
    if text.address is not None or text.literal is None:
        return text
    spot = low.move(memory.constant(low, text.literal + b"\0"))
    return Text(Address(spot, 0), len(text.literal) + 1, True)
