"""Built-ins on strings and bytes, and numbers that print as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import (
    Builtin,
    address_argument,
    integer_argument,
    literal_number,
    literal_text,
)
from tracebee.language.ir import Address
from tracebee.language.rules import is_integer
from tracebee.spec.types import (
    INT64,
    UINT64,
    Array,
    Bool,
    Buffer,
    Named,
    Pointer,
    Timestamp,
    Type,
    Void,
)
from tracebee.spec.types import (
    Str as StrType,
)

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference


class Str(Builtin):
    name = "str"
    forms = ("str(address[, length])",)
    description = "the string at an address; with a length, at most length - 1 characters of it"
    minimum = 1
    maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        limit = infer.config.number("max_strlen")
        type_ = infer.number(call.arguments[0])
        if isinstance(type_, StrType | Named) and len(call.arguments) == 1:
            return StrType(type_.capacity)
        if not isinstance(type_, StrType | Named | Void | Array):
            type_ = address_argument(infer, call, 0)
        capacity = infer.usual_strlen
        if len(call.arguments) == 2:
            length = call.arguments[1]
            integer_argument(infer, call, 1)
            if isinstance(length, tree.Number):
                if length.value < 0:
                    infer.error("str() length must not be negative", length.span)
                elif length.value > limit:
                    infer.warning(
                        f"length param ({length.value}) is too long and will be shortened to {limit} bytes "
                        "(see BPFTRACE_MAX_STRLEN)",
                        call.span,
                    )
                else:
                    capacity = max(1, min(limit, length.value + 1))
        if isinstance(type_, StrType | Array) and not isinstance(type_, Void):
            capacity = min(capacity, max(1, type_.size))
        return StrType(capacity)

    def text(self, low: Lowering, call: tree.Call, to: Address, room: int) -> Operand:
        from tracebee.language.lower import expressions, memory, places, strings

        subject = call.arguments[0]
        type_ = subject.type
        size: Operand = min(room, call.type.size)
        exact = False
        if len(call.arguments) == 2:
            length = call.arguments[1]
            if isinstance(length, tree.Number):
                if length.value <= low.config.number("max_strlen"):
                    size, exact = min(max(1, length.value), room), True
            else:
                wanted = expressions.number(low, length)
                size, exact = memory.bounded(low, wanted, min(room, call.type.size)), True
        if isinstance(subject, tree.Text | tree.Call) and isinstance(type_, StrType | Named):
            return self._shortened(low, subject, to, size)
        if isinstance(type_, StrType | Array):
            place = places.any_place(low, subject)
            space = "kernel" if place.is_direct else place.space
            if type(size) is int:
                size = min(size, max(1, type_.size))
            return strings.read_string(low, to, space, place.address, size, exact)
        address = expressions.pointer_address(low, subject)
        space = type_.space if isinstance(type_, Pointer) else low.unit.kind.string_space
        return strings.read_string(low, to, space, address, size, exact)

    def _shortened(self, low: Lowering, subject: tree.Expression, to: Address, size: Operand) -> Operand:
        from tracebee.language.lower import strings

        literal = strings.constant_text(low, subject)
        if literal is not None and type(size) is int:
            return strings.append_literal(low, literal[: size if size >= len(literal) + 1 else size - 1], to)
        found = strings.materialized(low, strings.text_of(low, subject))
        assert found.address is not None
        return strings.read_string(low, to, "kernel", found.address, size, True)


class Buf(Builtin):
    name = "buf"
    forms = ("buf(address, length)", "buf(array[, length])")
    description = "the bytes at an address"
    minimum = 1
    maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        limit = infer.config.number("max_strlen")
        type_ = infer.number(call.arguments[0])
        if not isinstance(type_, StrType | Array | Pointer | Buffer | Void) and not is_integer(type_):
            infer.error(
                f"buf() expects an integer, a pointer, a string or an array ({infer.noun(type_)} provided)",
                call.span,
            )
        if len(call.arguments) == 1:
            if not isinstance(type_, Array | Void):
                infer.error(
                    f"buf() expects a length argument for non-array type {infer.noun(type_)}", call.span
                )
            return Buffer(min(limit, type_.size))
        length = call.arguments[1]
        infer.number(length)
        if isinstance(length, tree.Number):
            if length.value < 0:
                infer.error("buf() length must not be negative", length.span)
            if length.value > limit:
                infer.warning(
                    f"length param ({length.value}) is too long and will be shortened to {limit} bytes "
                    "(see BPFTRACE_MAX_STRLEN)",
                    call.span,
                )
            return Buffer(max(0, min(limit, length.value)))
        integer_argument(infer, call, 1)
        return Buffer(limit)

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        length = self.append(low, call, to.plus(Buffer.HEADER), call.type.size - Buffer.HEADER)
        low.store(to, length, 4)

    def append(self, low: Lowering, call: tree.Call, to: Address, capacity: int) -> Operand:
        """Put the bytes at an address; how many there are."""
        from tracebee.language.lower import expressions, memory, places, strings

        subject = call.arguments[0]
        type_ = subject.type
        size: Operand = capacity
        if len(call.arguments) == 2 and not isinstance(call.arguments[1], tree.Number):
            size = memory.bounded(low, expressions.number(low, call.arguments[1]), capacity)
        if isinstance(type_, StrType | Array):
            literal = strings.constant_text(low, subject)
            if isinstance(subject, tree.Text):
                literal = subject.value
            if literal is not None and type(size) is int:
                memory.store_bytes(low, to, literal[:size].ljust(size, b"\0"))
                return size
            place = places.any_place(low, subject)
            available = type_.size
            size = min(size, available) if type(size) is int else memory.bounded(low, size, available)
            if place.is_direct and type(size) is int:
                memory.copy(low, to, place.address, size)
            else:
                self._read(low, to, size, "kernel" if place.is_direct else place.space, place.address)
            return size
        address = expressions.pointer_address(low, subject)
        space = type_.space if isinstance(type_, Pointer) else low.unit.kind.string_space
        self._read(low, to, size, space, address)
        return size

    @staticmethod
    def _read(low: Lowering, to: Address, size: Operand, space: str, source: Address) -> None:
        from tracebee.language.lower import memory

        helper = memory.READERS[space]
        result = low.call(helper, low.pointer(to), size, low.pointer(source))
        memory.warn_if_failed(low, helper, result)


class Strlen(Builtin):
    name = "strlen"
    forms = ("strlen(string)",)
    description = "number of characters before the end of a string"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        string_argument(infer, call, 0)
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import strings

        with low.temporaries():
            found = strings.text_of(low, call.arguments[0])
            if found.literal is not None:
                return len(found.literal)
            assert found.address is not None
            return strings.terminated_length(low, strings.indexable_address(low, found), found.capacity)


class Strcap(Strlen):
    name = "strcap"
    forms = ("strcap(string)",)
    description = "number of bytes that a string's type holds"

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        return _capacity(call.arguments[0].type)


class Strncmp(Builtin):
    name = "strncmp"
    forms = ("strncmp(a, b, length)",)
    description = "0 if the first characters of two strings are equal, 1 otherwise"
    minimum = maximum = 3

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        string_argument(infer, call, 0)
        string_argument(infer, call, 1)
        length = literal_number(infer, call, 2)
        if length is not None and length < 0:
            infer.error("Builtin strncmp requires a non-negative size", call.span)
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import strings

        length = call.arguments[2]
        assert isinstance(length, tree.Number)
        result = low.move(1, "differ")
        end = low.label("differ")
        strings.compare(low, call.arguments[0], call.arguments[1], True, end, length.value)
        low.set(result, 0)
        low.place_label(end)
        return result


class Strcontains(Builtin):
    name = "strcontains"
    forms = ("strcontains(haystack, needle)",)
    description = "whether a string contains another"
    minimum = maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        string_argument(infer, call, 0)
        string_argument(infer, call, 1)
        return Bool()

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        result = low.move(1, "contains")
        end = low.label("contains")
        low.branch("s>=", position(low, call), 0, end)
        low.set(result, 0)
        low.place_label(end)
        return result


class Strstr(Strcontains):
    name = "strstr"
    forms = ("strstr(haystack, needle)",)
    description = "the position at which a string contains another, or -2"

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        super().infer(infer, call)
        return INT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        result = low.move(position(low, call))
        end = low.label("position")
        low.branch("s>=", result, 0, end)
        low.set(result, -2)  # -ENOENT, what bpf_strstr() gives
        low.place_label(end)
        return result


def position(low: Lowering, call: tree.Call) -> Operand:
    from tracebee.language.lower import strings

    with low.temporaries():
        haystack = strings.text_of(low, call.arguments[0])
        needle = strings.text_of(low, call.arguments[1])
        return strings.find(low, haystack, needle)


class StrConcat(Builtin):
    name = "str_concat"
    forms = ("str_concat(a, b)",)
    description = "two strings one after the other"
    minimum = maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        string_argument(infer, call, 0)
        string_argument(infer, call, 1)
        both = _capacity(call.arguments[0].type) + _capacity(call.arguments[1].type)
        return StrType(max(1, min(both, infer.config.number("max_strlen"))))

    def text(self, low: Lowering, call: tree.Call, to: Address, room: int) -> Operand:
        from tracebee.language.lower import memory, strings

        first, second = call.arguments
        size = min(room, call.type.size)
        # Both are put together where there is room for both, and cut to what may be kept.
        together = low.memory(_capacity(first.type) + _capacity(second.type) + 8, on_stack=False)
        length = strings.append(low, first, together, _capacity(first.type))
        behind = low.address(low.alu("+", low.pointer(together), length))
        more = strings.append(low, second, behind, _capacity(second.type))
        total = memory.bounded(low, low.alu("+", length, more), size)
        low.call("probe_read_kernel", low.pointer(to), total, low.pointer(together))
        return total


class Memcmp(Builtin):
    name = "memcmp"
    forms = ("memcmp(a, b, length)",)
    description = "how two pieces of memory compare: negative, 0 or positive"
    minimum = maximum = 3

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        for index in (0, 1):
            type_ = infer.number(call.arguments[index])
            if not isinstance(type_, StrType | Array | Buffer | Void):
                infer.error(
                    f"memcmp() expects a string or an array ({infer.noun(type_)} provided)", call.span
                )
        literal_number(infer, call, 2)
        return INT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import places

        count = call.arguments[2]
        assert isinstance(count, tree.Number)
        with low.temporaries():
            sides = [places.local(low, places.any_place(low, node)).address for node in call.arguments[:2]]
            size = min(count.value, *(node.type.size for node in call.arguments[:2]))
            result = low.move(0, "order")
            end = low.label("compared")
            for offset in range(size):
                a, b = low.load(sides[0].plus(offset), 1), low.load(sides[1].plus(offset), 1)
                low.set(result, low.alu("-", a, b))
                low.branch("!=", result, 0, end)
            low.place_label(end)
            return result


class _Named(Builtin):
    """A number that is shown by its name; the name is looked up when it is printed."""

    minimum = maximum = 1
    table = ""

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        integer_argument(infer, call, 0)
        return Named(self.table)

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import expressions

        low.store(to, expressions.number(low, call.arguments[0]), 8)


class Strerror(_Named):
    name = "strerror"
    forms = ("strerror(errno)",)
    description = "the text of an error number"
    table = "strerror"


class SignalName(_Named):
    name = "signal_name"
    forms = ("signal_name(signal)",)
    description = "the text of a signal"
    table = "signal"


class SyscallName(_Named):
    name = "syscall_name"
    forms = ("syscall_name(number)",)
    description = "the name of a system call"
    table = "syscall"


class Strftime(Builtin):
    name = "strftime"
    forms = ("strftime(format, nsecs)",)
    description = "a point in time as text; %f is microseconds"
    minimum = maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        literal_text(infer, call, 0)
        type_ = infer.number(call.arguments[1])
        if not is_integer(type_) and not isinstance(type_, Void):
            infer.error(
                f"strftime() only supports integer arguments ({infer.noun(type_)} provided)", call.span
            )
        return Timestamp()

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import expressions

        pattern, moment = call.arguments
        assert isinstance(pattern, tree.Text)
        low.store(to, expressions.number(low, moment), 8)
        low.store(to.plus(8), low.build.string(pattern.text), 4)
        low.store(to.plus(12), int(_is_wall_clock(moment)), 4)


def _is_wall_clock(moment: tree.Expression) -> bool:
    """Whether a time comes from nsecs(tai), which counts from 1970."""
    return any(
        isinstance(node, tree.Call)
        and node.name == "nsecs"
        and bool(node.arguments)
        and getattr(node.arguments[0], "name", "") in ("tai", "sw_tai")
        for node in tree.walk(moment)
    )


def string_argument(infer: Inference, call: tree.Call, index: int) -> Type:
    """An argument that must be a string."""
    argument = call.arguments[index]
    type_ = infer.visit(argument)
    if not isinstance(type_, StrType | Named | Void):
        infer.error(
            f"{call.name}() expects a string ({infer.noun(type_)} provided)",
            call.span,
            "use str() for an address",
        )
    return type_


def _capacity(type_: Type) -> int:
    return type_.capacity if isinstance(type_, StrType | Named) else type_.size
