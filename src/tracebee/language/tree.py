"""The syntax tree.

Every node keeps the span it was parsed from.  Expressions carry the type that type inference found for them
and, where a name stands for a known thing (a built-in, a macro's parameter), what it stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tracebee.records import Mutable
from tracebee.spec.types import Type, Void

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.language.scratch import Scratch
    from tracebee.language.source import Span

UNKNOWN = Void()
"""The type of an expression before inference has reached it."""


class Node(Mutable):
    """Base of all nodes."""

    span: Span


class Expression(Node):
    """A node with a value.

    Type inference fills `type`, and `space`: the address space ("kernel", "user" or "" if unknown) in which
    pointers found inside the value point.
    """

    __slots__ = ("space", "type")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.type: Type = UNKNOWN
        self.space = ""


class Statement(Node):
    """A node that does something."""

    __slots__ = ()


# --- expressions


class Number(Expression):
    """An integer literal; durations are nanoseconds."""

    value: int


class Truth(Expression):
    """``true`` or ``false``."""

    value: bool


class Text(Expression):
    """A string literal: its bytes in UTF-8, with the escapes resolved, without a final NUL."""

    value: bytes

    @property
    def text(self) -> str:
        """The value as text; bytes that are not UTF-8 become lone surrogates, as in file names."""
        return self.value.decode("utf-8", "surrogateescape")


class Name(Expression):
    """A bare word: a built-in, an enumerator, a ``#define``, a macro, a mode word."""

    name: str


class Constant(Expression):
    """An enumerator, after its name was looked up: a number of the enumeration `of`."""

    value: int
    of: Type


class Positional(Expression):
    """``$1``: a parameter from the command line, counted from 1."""

    index: int


class PositionalCount(Expression):
    """``$#``."""

    __slots__ = ()


class Variable(Expression):
    """``$name``.  `binding` is the Scratch that scope analysis gave it."""

    __slots__ = ("binding",)

    name: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.binding: Scratch


class MapAccess(Expression):
    """``@name`` or ``@name[key]``; several keys are one TupleLiteral."""

    name: str
    key: Expression | None


class Call(Expression):
    """``name(arguments)``."""

    name: str
    arguments: list[Expression]

    def word(self, default: str) -> str:
        """The bare word that is the first argument."""
        first = self.arguments[0] if self.arguments else None
        return first.name if isinstance(first, Name) else default

    def literal(self, index: int, default: str) -> str:
        """The string literal that is an argument."""
        found = self.arguments[index] if index < len(self.arguments) else None
        return found.text if isinstance(found, Text) else default


class Unary(Expression):
    """``-x ! ~ * & ++x --x`` and, with `postfix`, ``x++ x--``."""

    operator: str
    operand: Expression
    postfix: bool = False


class Binary(Expression):
    """``left operator right``."""

    operator: str
    left: Expression
    right: Expression


class Ternary(Expression):
    """``condition ? then : otherwise``; `then` is None in ``x ?: y``."""

    condition: Expression
    then: Expression | None
    otherwise: Expression


class Cast(Expression):
    """``(type)operand``."""

    target: TypeName
    operand: Expression


class Member(Expression):
    """``operand.name`` or ``operand->name``."""

    operand: Expression
    name: str


class Element(Expression):
    """``operand.0``: an element of a tuple."""

    operand: Expression
    index: int


class Index(Expression):
    """``operand[index]``."""

    operand: Expression
    index: Expression


class TupleLiteral(Expression):
    """``(a, b)``."""

    elements: list[Expression]


class RecordLiteral(Expression):
    """``(name=a, other=b)``."""

    names: list[str]
    elements: list[Expression]


class Block(Expression):
    """``{ statements; value }``; `value` is None where the last statement ends in a semicolon.

    `scope` is filled by scope analysis.
    """

    statements: list[Statement]
    value: Expression | None


class If(Expression):
    """``if condition { } else { }``, as a statement or for its value.

    `compile_time` is ``if comptime``: the condition is decided at compile time and only one branch is kept.
    """

    condition: Expression
    then: Block
    otherwise: Block | None
    compile_time: bool = False


class SizeOf(Expression):
    """``sizeof(type or expression)``."""

    target: TypeName | Expression


class OffsetOf(Expression):
    """``offsetof(type or expression, member.member)``."""

    target: TypeName | Expression
    members: list[str]


class TypeOf(Expression):
    """``typeof(…)`` where a value stands: only as an argument of a macro."""

    target: TypeName


class TypeInfo(Expression):
    """``typeinfo(type or expression)``."""

    target: TypeName | Expression


# --- types as written


class TypeName(Node):
    """A type as the script spells it: `base` such as "uint8", "struct file", "string".

    `of` is the expression of ``typeof(of)``, and then `base` is empty.  `suffixes` holds, in the order
    written, "*" for a pointer, a number for an array of so many, None for ``[]``.
    """

    base: str
    of: TypeName | Expression | None
    suffixes: list[str | int | None]


# --- statements


class ExpressionStatement(Statement):
    """An expression for its effect."""

    value: Expression


class Assign(Statement):
    """``target operator value``; `operator` is "=" or such as "+="."""

    target: Expression
    operator: str
    value: Expression


class Discard(Statement):
    """``_ = value``."""

    value: Expression


class Let(Statement):
    """``let $x``, ``let $x = e``, ``let $x : type = e``."""

    variable: Variable
    declared: TypeName | None
    value: Expression | None


class LongLoop(Statement):
    """A loop that may be long; scope analysis sets `as_function` where its rounds are to be calls of a function."""

    __slots__ = ("as_function",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.as_function = False


class While(LongLoop):
    """``while (condition) { }``"""

    condition: Expression
    body: Block


class Unroll(Statement):
    """``unroll (count) { }``."""

    count: Expression
    body: Block


class ForMap(Statement):
    """``for ($kv : @map) { }``."""

    variable: Variable
    map: MapAccess
    body: Block


class ForRange(LongLoop):
    """``for ($i : first..last) { }``, `last` excluded"""

    variable: Variable
    first: Expression
    last: Expression
    body: Block


class Jump(Statement):
    """``break``, ``continue`` or ``return`` (with an optional value)."""

    kind: str
    value: Expression | None = None


# --- top level


class AttachPoint(Node):
    """One attach point as written, such as ``kprobe:vfs_*``."""

    text: str


class Probe(Node):
    """``name=point,point /predicate/ { body }``."""

    name: str
    points: list[AttachPoint]
    predicate: Expression | None
    body: Block


class Parameter(Node):
    """A parameter of a macro: `name` starts with ``$`` or ``@``, or is a plain word for an expression."""

    name: str


class Macro(Node):
    """``macro name(parameters) { body }``; `bare` when it may be used without parentheses."""

    name: str
    parameters: list[Parameter]
    body: Block


class MapDeclaration(Node):
    """``let @name = kind(max_entries);``, and ``let @name[key, key]: value;``, where either part may be missing.

    Without a kind `max_entries` is None; `value` is None without types, `keys` empty without keys.
    """

    name: str
    keys: list[TypeName]
    value: TypeName | None
    kind: str
    max_entries: Expression | None


class ConfigEntry(Node):
    """``key = value`` in the config block; `value` as written, without quotes."""

    key: str
    value: str


class Import(Node):
    """``import "target";``."""

    target: str


class CText(Node):
    """The part of the script in C: directives and declarations, by its span."""

    __slots__ = ()


class Program(Node):
    """A whole script."""

    c_parts: list[CText]
    config: list[ConfigEntry]
    imports: list[Import]
    maps: list[MapDeclaration]
    macros: list[Macro]
    probes: list[Probe]


# --- walking and copying

N = TypeVar("N", bound=Node)


def children(node: Node) -> Iterator[Node]:
    """The direct sub-nodes, in source order."""
    for field in node._fields:
        value = getattr(node, field)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, Node):
                    yield item


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, parents first, without recursion."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(reversed(list(children(current))))


def clone(node: N) -> N:
    """A copy of the tree below a node; types and bindings are not copied."""
    fields: list[Any] = []
    for field in node._fields:
        value = getattr(node, field)
        if isinstance(value, Node):
            value = clone(value)
        elif isinstance(value, list):
            value = [clone(item) if isinstance(item, Node) else item for item in value]
        fields.append(value)
    return type(node)(*fields)


def rewrite(node: Node, change: Any) -> None:
    """Replace sub-nodes in place, bottom up: `change` gets each one and returns what is to stand there."""
    for field in node._fields:
        value = getattr(node, field)
        if isinstance(value, Node):
            rewrite(value, change)
            setattr(node, field, change(value))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, Node):
                    rewrite(item, change)
                    value[index] = change(item)
