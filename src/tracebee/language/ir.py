"""The intermediate representation: BPF operations on any number of virtual registers.

A `Function` is a list of operations with labels in between; the last operation of every path is a Return.
Registers hold 64 bits.  Most are defined once; variables of the script that live in registers are defined
several times.  Memory is named by `Address`: a register, or the function's own stack frame, plus an offset.

Each class says which registers it reads and writes; the optimiser and the register allocator know nothing
else about operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from tracebee.records import Frozen, Mutable

if TYPE_CHECKING:
    from tracebee.language.source import Span


@final
class Reg:
    """A virtual register.  `name` only serves whoever reads a dump."""

    __slots__ = ("name", "number")

    def __init__(self, number: int, name: str = "") -> None:
        self.number = number
        self.name = name

    def __repr__(self) -> str:
        return f"v{self.number}{'.' + self.name if self.name else ''}"


Operand = Reg | int
"""A register or a constant of up to 64 bits, signed or unsigned."""


@final
class Frame:
    """Stands for the frame pointer in an Address."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "fp"


FRAME = Frame()


@final
class Address(Frozen):
    """`offset` bytes behind a register or the frame pointer."""

    base: Reg | Frame
    offset: int

    def plus(self, offset: int) -> Address:
        return Address(self.base, self.offset + offset)

    def __repr__(self) -> str:
        return f"[{self.base!r}{self.offset:+d}]"


@final
class MapHandle(Frozen):
    """The map `name` itself, as an argument of a helper."""

    name: str


@final
class MapSpot(Frozen):
    """The address of byte `offset` of the only entry of the array map `name`."""

    name: str
    offset: int


@final
class KernelVariable(Frozen):
    """The address of a variable of the kernel, known by its BTF."""

    name: str


@final
class FunctionHandle(Frozen):
    """The address of another function, as an argument of a helper that calls it."""

    name: str


Argument = Reg | int | Address | MapHandle | MapSpot | KernelVariable | FunctionHandle
"""What can be passed to a helper: a value, the address that an Address means, or a symbol."""


class Op(Mutable):
    """Base of operations.  `span` is the place in the script that it comes from."""

    __slots__ = ("span",)

    dst: Reg | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.span: Span | None = None

    def reads(self) -> list[Reg]:
        """The registers whose value it needs."""
        return []

    def substitute(self, old: Reg, new: Reg) -> None:
        """Read `new` wherever it reads `old`."""
        for field in self._fields:
            if field == "dst":
                continue
            value = getattr(self, field)
            if value is old:
                setattr(self, field, new)
            elif type(value) is Address and value.base is old:
                setattr(self, field, Address(new, value.offset))
            elif type(value) is list:
                setattr(self, field, [_swap(item, old, new) for item in value])

    @property
    def has_effect(self) -> bool:
        """Whether it must stay even if nobody reads its result."""
        return True


def _swap(item: Argument, old: Reg, new: Reg) -> Argument:
    if item is old:
        return new
    if type(item) is Address and item.base is old:
        return Address(new, item.offset)
    return item


def _registers(*values: object) -> list[Reg]:
    found = []
    for value in values:
        if type(value) is Reg:
            found.append(value)
        elif type(value) is Address and type(value.base) is Reg:
            found.append(value.base)
    return found


@final
class Move(Op):
    """dst = source."""

    dst: Reg
    source: Argument

    def reads(self) -> list[Reg]:
        return _registers(self.source)

    @property
    def has_effect(self) -> bool:
        return False


@final
class Alu(Op):
    """dst = left operator right; operators are + - * / % & | ^ << >> s>> (64 bits, unsigned), s/ s%."""

    dst: Reg
    operator: str
    left: Operand
    right: Operand

    def reads(self) -> list[Reg]:
        return _registers(self.left, self.right)

    @property
    def has_effect(self) -> bool:
        return False


@final
class Negate(Op):
    """dst = -source."""

    dst: Reg
    source: Reg

    def reads(self) -> list[Reg]:
        return [self.source]

    @property
    def has_effect(self) -> bool:
        return False


@final
class Convert(Op):
    """dst = the low `bits` bits of source, as `kind` says.

    "zero" and "sign" extend to 64 bits; "swap" reverses the bytes and extends with zeros.
    """

    dst: Reg
    kind: str
    source: Reg
    bits: int

    def reads(self) -> list[Reg]:
        return [self.source]

    @property
    def has_effect(self) -> bool:
        return False


@final
class Load(Op):
    """dst = the `size` bytes at address, extended with zeros."""

    dst: Reg
    address: Address
    size: int

    def reads(self) -> list[Reg]:
        return _registers(self.address)

    @property
    def has_effect(self) -> bool:
        return False


@final
class Store(Op):
    """The low `size` bytes of value go to address."""

    dst: None
    address: Address
    value: Operand
    size: int

    def reads(self) -> list[Reg]:
        return _registers(self.address, self.value)


@final
class Atomic(Op):
    """The bytes at address are combined with value in one step; dst, if any, gets what was there before.

    Operators are + & | ^ and "xchg"; `size` is 4 or 8.
    """

    dst: Reg | None
    operator: str
    address: Address
    value: Reg
    size: int

    def reads(self) -> list[Reg]:
        return _registers(self.address, self.value)


@final
class Call(Op):
    """dst = the helper called `helper` (uapi name without bpf_) with up to five arguments."""

    dst: Reg | None
    helper: str
    arguments: list[Argument]

    def reads(self) -> list[Reg]:
        return _registers(*self.arguments)


@final
class Label(Op):
    """A place that jumps can name."""

    dst: None
    name: str


class Transfer(Op):
    """Base of the operations that may go on at `label`."""

    dst: None
    label: str


@final
class Jump(Transfer):
    """Go on at label."""


@final
class Branch(Transfer):
    """Go on at label if ``left operator right``, else behind this operation.

    Operators are == != < <= > >= (unsigned), s< s<= s> s>= (signed), and & (any common bit).
    """

    operator: str
    left: Operand
    right: Operand

    def reads(self) -> list[Reg]:
        return _registers(self.left, self.right)


@final
class MayGoto(Transfer):
    """Leave a loop for label when the kernel has lost patience; makes any loop acceptable (Linux 6.9)."""


@final
class Return(Op):
    """End of the function with a value in r0."""

    dst: None
    value: Operand

    def reads(self) -> list[Reg]:
        return _registers(self.value)


NEGATED = {
    "==": "!=",
    "!=": "==",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
    "s<": "s>=",
    "s>=": "s<",
    "s>": "s<=",
    "s<=": "s>",
}
"""The comparison that is true exactly when the given one is false."""

MIRRORED = {
    "==": "==",
    "!=": "!=",
    "&": "&",
    "<": ">",
    ">": "<",
    "<=": ">=",
    ">=": "<=",
    "s<": "s>",
    "s>": "s<",
    "s<=": "s>=",
    "s>=": "s<=",
}
"""The comparison that holds for (right, left) when the given one holds for (left, right)."""


class Function:
    """A program or a callback: its operations, and the stack bytes that its code has laid out."""

    def __init__(self, name: str, parameters: tuple[str, ...] = ("ctx",)) -> None:
        self.name = name
        self.ops: list[Op] = []
        self.frame_size = 0
        self.registers = 0
        self.labels = 0
        self.span: Span | None = None
        self.parameters = tuple(self.reg(parameter) for parameter in parameters)

    def reg(self, name: str = "") -> Reg:
        """A new virtual register."""
        self.registers += 1
        return Reg(self.registers - 1, name)

    def label(self, name: str) -> str:
        """A new label name."""
        self.labels += 1
        return f"{name}_{self.labels}"

    def add(self, op: Op) -> None:
        op.span = self.span
        self.ops.append(op)

    def dump(self) -> str:
        """The operations as text, one a line."""
        lines = [f"{self.name}({', '.join(map(repr, self.parameters))}):"]
        for op in self.ops:
            if isinstance(op, Label):
                lines.append(f"{op.name}:")
            else:
                lines.append(f"    {describe(op)}")
        return "\n".join(lines)


def describe(op: Op) -> str:
    """One operation as text."""
    match op:
        case Move(dst, source):
            return f"{dst!r} = {source!r}"
        case Alu(dst, operator, left, right):
            return f"{dst!r} = {left!r} {operator} {right!r}"
        case Negate(dst, source):
            return f"{dst!r} = -{source!r}"
        case Convert(dst, kind, source, bits):
            return f"{dst!r} = {kind}{bits}({source!r})"
        case Load(dst, address, size):
            return f"{dst!r} = u{size * 8} {address!r}"
        case Store(_, address, value, size):
            return f"u{size * 8} {address!r} = {value!r}"
        case Atomic(dst, operator, address, value, size):
            before = f"{dst!r} = " if dst is not None else ""
            return f"{before}atomic u{size * 8} {address!r} {operator}= {value!r}"
        case Call(dst, helper, arguments):
            before = f"{dst!r} = " if dst is not None else ""
            return f"{before}{helper}({', '.join(map(repr, arguments))})"
        case Jump(_, label):
            return f"goto {label}"
        case Branch(_, label, operator, left, right):
            return f"if {left!r} {operator} {right!r} goto {label}"
        case MayGoto(_, label):
            return f"may_goto {label}"
        case Return(_, value):
            return f"return {value!r}"
    return repr(op)
