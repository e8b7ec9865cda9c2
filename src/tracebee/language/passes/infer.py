"""Pass: find the type of every expression, variable and map.

Variables and maps get the widest of the types that are assigned to them, anywhere in the script; so the
probes are gone through until nothing changes, and only then, in a last round, are mistakes reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins import find_builtin
from tracebee.language.config import OPTIONS
from tracebee.language.diagnostics import nearest
from tracebee.language.rules import (
    BOOL,
    as_integer,
    computed,
    is_integer,
    is_natural,
    is_signed,
    literal_type,
    merge,
)
from tracebee.language.typetable import VOID
from tracebee.records import Mutable
from tracebee.spec.types import (
    INT8,
    INT64,
    UINT8,
    UINT64,
    Aggregation,
    Array,
    Average,
    Bool,
    Buffer,
    Enum,
    Hist,
    Inet,
    Int,
    LHist,
    MacAddr,
    Named,
    Pointer,
    Record,
    Str,
    Struct,
    Timestamp,
    TSeries,
    Tuple,
    Type,
    Void,
)

if TYPE_CHECKING:
    from tracebee.language.probes.base import Expansion, Unit
    from tracebee.language.source import Span

MAX_ROUNDS = 40
"""Types only widen, so the rounds come to an end long before this."""


SHORT_STRLEN = 200
"""Where map keys have 512 bytes at most, two strings are to fit into one."""


class MapState(Mutable):
    """What is known of a map: whether it has keys, the types of key and value, and its declaration.

    The types of a `declared` map are final.
    """

    name: str
    span: Span
    keyed: bool | None = None
    key: Type = VOID
    value: Type = VOID
    key_adapts: bool = True
    value_adapts: bool = True
    declared: bool = False
    kind: str = ""
    max_entries: int = 0


class Inference:
    """Type inference over all units of a script."""

    def __init__(self, context: Expansion) -> None:
        self.context = context
        self.types = context.types
        self.config = context.config
        self.maps: dict[str, MapState] = {}
        self.final = False
        self.changed = False
        self.unit: Unit | None = None
        self.visitors = {
            tree.Number: self._number,
            tree.Constant: lambda node: node.of,
            tree.Truth: lambda node: BOOL,
            tree.Text: self._text,
            tree.Name: lambda node: VOID,
            tree.Variable: self._variable,
            tree.MapAccess: self._map_access,
            tree.Call: self._call,
            tree.Unary: self._unary,
            tree.Binary: self._binary,
            tree.Ternary: self._ternary,
            tree.Cast: self._cast,
            tree.Member: self._member,
            tree.Element: self._element,
            tree.Index: self._index,
            tree.TupleLiteral: self._tuple,
            tree.RecordLiteral: self._record,
            tree.Block: self._block,
            tree.If: self._if,
            tree.SizeOf: self._sizeof,
            tree.OffsetOf: self._offsetof,
            tree.TypeInfo: self._typeinfo,
            tree.TypeOf: self._misplaced_type,
            tree.ExpressionStatement: self._expression_statement,
            tree.Assign: self._assign,
            tree.Discard: lambda node: self.visit(node.value),
            tree.Let: self._let,
            tree.While: self._while,
            tree.Unroll: self._unroll,
            tree.ForMap: self._for_map,
            tree.ForRange: self._for_range,
            tree.Jump: self._jump,
        }

    @property
    def usual_strlen(self) -> int:
        """The limit of a string for which nobody gave one."""
        limit = self.config.number("max_strlen")
        if limit == OPTIONS["max_strlen"].default and not self.context.machine.feature("large_keys"):
            return SHORT_STRLEN
        return limit

    def run(self, units: list[Unit]) -> None:
        """Infer all units; mistakes go to the diagnostics."""
        for _ in range(MAX_ROUNDS):
            self.changed = False
            for unit in units:
                self._visit_unit(unit)
            if not self.changed:
                break
        self._settle_maps()
        self.final = True
        for unit in units:
            self._visit_unit(unit)

    def _visit_unit(self, unit: Unit) -> None:
        self.unit = unit
        if unit.probe.predicate is not None:
            self.condition(unit.probe.predicate)
        self.visit(unit.probe.body)

    def _settle_maps(self) -> None:
        """A map that is only read holds numbers: reading gives zero."""
        for state in self.maps.values():
            if isinstance(state.value, Void):
                state.value = INT64

    # --- reporting

    def error(self, message: str, span: Span | None, hint: str = "") -> None:
        if self.final:
            self.context.diagnostics.error(message, span, hint)

    def warning(self, message: str, span: Span | None, hint: str = "") -> None:
        if self.final:
            self.context.diagnostics.warning(message, span, hint)

    def unstable(self, feature: str, span: Span) -> None:
        """Say that a feature is unstable, as the configuration wants it said."""
        mode = self.config.text(f"unstable_{feature}")
        if mode == "error":
            self.error(
                f"{feature} feature is not enabled by default. To enable this unstable feature, set the config flag "
                f"to enable. unstable_{feature}=enable",
                span,
            )
        elif mode == "warn":
            self.warning(
                f"Script is using an unstable feature: {feature}. To prevent this warning you must explicitly enable "
                f"it in the config e.g. unstable_{feature}=enable",
                None,
            )

    def noun(self, type_: Type) -> str:
        """What a message calls a type: "int", "string", "pointer" …"""
        match type_:
            case Bool():
                return "bool"
            case Int() | Enum():
                return "int"
            case Str() | Named():
                return "string"
            case Buffer():
                return "buffer"
            case Pointer():
                return "pointer"
            case Array():
                return "array"
            case Tuple():
                return "tuple"
            case Record() | Struct():
                return "record"
            case Void():
                return "none"
        return str(type_)

    # --- entry points

    def visit(self, node: tree.Node) -> Type:
        """Infer a node; an expression's type is kept on it and returned."""
        found = self.visitors[type(node)](node)
        if isinstance(node, tree.Expression):
            node.type = found
            return node.type
        return VOID

    def number(self, node: tree.Expression) -> Type:
        """Infer an expression that is to be computed with: an aggregation reads as its number."""
        type_ = self.visit(node)
        return as_integer(type_) if isinstance(type_, Aggregation) else type_

    def condition(self, node: tree.Expression) -> None:
        """Infer an expression whose truth is asked for."""
        type_ = self.number(node)
        if not is_integer(type_) and not isinstance(type_, Pointer | Void):
            self.error(f"Invalid condition: value of type '{type_}' is neither true nor false", node.span)

    def printable(self, node: tree.Expression, what: str, span: Span) -> Type:
        """Infer an expression that is to be shown."""
        type_ = self.visit(node)
        if isinstance(type_, Void) and self.final and not self.context.diagnostics.complained_in(node.span):
            self.error(f"{self.noun(type_)} type passed to {what}() is not printable", span)
        return type_

    def type_named(self, name: tree.TypeName) -> Type:
        """The type that a TypeName means; complains about unknown ones."""
        if name.of is not None:
            if isinstance(name.of, tree.TypeName):
                base: Type = self.type_named(name.of)
            elif isinstance(name.of, tree.TypeOf):
                base = self.type_named(name.of.target)
            else:
                base = self.visit(name.of)
        else:
            base = self._base_type(name)
        suffixes = list(name.suffixes)
        if name.base in ("string", "buffer") and suffixes and isinstance(suffixes[0], int):
            capacity = suffixes.pop(0)
            assert isinstance(capacity, int)
            base = Str(capacity) if name.base == "string" else Buffer(capacity)
        for suffix in suffixes:
            if suffix == "*":
                base = Pointer(base, "")
            else:
                base = Array(base, int(suffix or 0))
        return base

    def _base_type(self, name: tree.TypeName) -> Type:
        if name.base == "string":
            return Str(self.config.number("max_strlen")) if not name.suffixes else VOID
        if name.base == "buffer":
            return Buffer(self.config.number("max_strlen")) if not name.suffixes else VOID
        found = self.types.find(name.base)
        if found is None:
            hint = ""
            if self.types.btf is None:
                hint = "the kernel's own types (BTF) cannot be read here; declare the type in the script"
            self.error(f'Cannot resolve unknown type "{name.base}"', name.span, hint)
            return VOID
        return found

    # --- leaves

    def _number(self, node: tree.Number) -> Type:
        return literal_type(node.value)

    def _text(self, node: tree.Text) -> Type:
        limit = self.config.number("max_strlen")
        if len(node.value) > limit:
            self.error(f"String is too long (over {limit} bytes): {node.text[:40]}…", node.span)
        return Str(len(node.value) + 1)

    def _variable(self, node: tree.Variable) -> Type:
        node.space = "kernel"
        return node.binding.type

    def _map_access(self, node: tree.MapAccess) -> Type:
        """A map that is read."""
        state = self.map_state(node)
        self._check_key(node, state)
        node.space = "kernel"
        return state.value

    def map_state(self, node: tree.MapAccess) -> MapState:
        state = self.maps.get(node.name)
        if state is None:
            state = self.maps[node.name] = MapState(node.name, node.span)
        return state

    def _check_key(self, node: tree.MapAccess, state: MapState) -> None:
        """Visit the key, widen the map's key type by it, and complain if it does not fit."""
        keyed = node.key is not None
        if state.keyed is None:
            state.keyed = keyed
            self.changed = True
        elif state.keyed != keyed:
            now = "with an explicit key (non-scalar map)" if keyed else "without an explicit key (scalar map)"
            before = (
                "without an explicit key (scalar map)" if keyed else "with an explicit key (non-scalar map)"
            )
            self.error(f"{node.name} used as a map {now}, previously used {before}", node.span)
        if node.key is None:
            return
        type_ = self.number(node.key)
        if isinstance(type_, Aggregation):
            type_ = as_integer(type_)
        if isinstance(type_, Void):
            if self.final:
                self.error(f"Invalid map key type: {self.noun(type_)}", node.key.span)
            return
        merged = merge(state.key, type_, node.key, state.key_adapts)
        if state.declared and not _fits_declared(state.key, type_, node.key):
            merged = None
        if merged is None:
            self.error(
                f"Argument mismatch for {node.name}: trying to access with arguments: '{type_}' when map expects "
                f"arguments: '{state.key}'",
                node.span,
            )
            return
        if state.declared:
            return
        if not is_natural(node.key):
            state.key_adapts = False
        if merged != state.key:
            state.key = merged
            self.changed = True

    # --- calls

    def _call(self, node: tree.Call) -> Type:
        builtin = find_builtin(node.name)
        assert builtin is not None
        if not builtin.check(self, node):
            return VOID
        return builtin.infer(self, node)

    # --- operators

    def _unary(self, node: tree.Unary) -> Type:
        operator = node.operator
        if operator == "&":
            return self._address_of(node)
        type_ = self.number(node.operand)
        if operator in ("++", "--"):
            return self._step(node, type_)
        if operator == "!":
            self.condition(node.operand)
            return BOOL
        if operator == "*":
            return self._dereference(node, type_)
        if not is_integer(type_) and not isinstance(type_, Void):
            self.error(f"The {operator} operator can not be used on expressions of type '{type_}'", node.span)
        return INT64 if is_signed(type_) else UINT64

    def _address_of(self, node: tree.Unary) -> Type:
        operand = node.operand
        type_ = self.visit(operand)
        if not isinstance(operand, tree.Variable):
            self.error("The & operator can only be used on variables", node.span)
        return Pointer(type_, "kernel")

    def _step(self, node: tree.Unary, type_: Type) -> Type:
        if isinstance(type_, Pointer):
            return type_
        if not is_integer(type_) and not isinstance(type_, Void):
            self.error(
                f"The {node.operator} operator can not be used on expressions of type '{type_}'", node.span
            )
            return VOID
        wide = INT64 if is_signed(type_) or isinstance(type_, Void) else UINT64
        if isinstance(node.operand, tree.Variable):
            self._widen_variable(node.operand, wide, None, node.span)
        elif isinstance(node.operand, tree.MapAccess):
            self._widen_map(node.operand, wide, None, node.span)
        node.operand.type = wide
        return wide

    def _dereference(self, node: tree.Unary, type_: Type) -> Type:
        if isinstance(type_, Pointer):
            node.space = type_.space
            target = type_.target
            if isinstance(target, Pointer):
                return Pointer(target.target, target.space if type_.space != "user" else "user")
            if isinstance(target, Void):
                self.error(
                    "Cannot dereference a pointer to void", node.span, "cast it to a pointer to a type"
                )
            return target
        if is_integer(type_):
            node.space = self._space()
            return UINT64
        if isinstance(type_, Array):
            node.space = node.operand.space
            return type_.element
        if not isinstance(type_, Void):
            self.error(f"Can not dereference expression of type '{type_}'", node.span)
        return VOID

    def _space(self) -> str:
        return "" if self.unit is None else self.unit.kind.space

    def _binary(self, node: tree.Binary) -> Type:
        operator = node.operator
        if operator in ("&&", "||"):
            self.condition(node.left)
            self.condition(node.right)
            return BOOL
        left, right = self.number(node.left), self.number(node.right)
        if isinstance(left, Void) or isinstance(right, Void):
            return BOOL if operator in ("==", "!=", "<", "<=", ">", ">=") else INT64
        if operator in ("==", "!=", "<", "<=", ">", ">="):
            self._compare(node, left, right)
            return BOOL
        if isinstance(left, Pointer) or isinstance(right, Pointer):
            return self._pointer_arithmetic(node, left, right)
        if not (is_integer(left) and is_integer(right)):
            self._mismatch(node, left, right)
            return INT64
        if operator in ("/", "%") and isinstance(node.right, tree.Number) and node.right.value == 0:
            self.error("Division by zero", node.right.span)
        if operator in ("<<", ">>"):
            return INT64 if is_signed(left) and not is_natural(node.left) else UINT64
        return computed(node.left, node.right, operator)

    def _mismatch(self, node: tree.Binary, left: Type, right: Type) -> None:
        self.error(
            f"Type mismatch for '{node.operator}': comparing {left} with {right}",
            node.span,
            f"left ({left}), right ({right})",
        )

    def _compare(self, node: tree.Binary, left: Type, right: Type) -> None:
        if is_integer(left) and is_integer(right):
            return
        pointers = (Pointer, Int, Enum, Bool)
        if isinstance(left, pointers) and isinstance(right, pointers):
            return
        if node.operator in ("==", "!="):
            texts = (Str, Named)
            if isinstance(left, texts) and isinstance(right, texts):
                return
            if type(left) is type(right) and merge(left, right) is not None:
                return
            if isinstance(left, Array) and isinstance(right, Array) and left == right:
                return
        elif type(left) is type(right):
            self.error(
                f"The {node.operator} operator can not be used on expressions of type '{left}'", node.span
            )
            return
        self._mismatch(node, left, right)

    def _pointer_arithmetic(self, node: tree.Binary, left: Type, right: Type) -> Type:
        pointer = left if isinstance(left, Pointer) else right
        other = right if pointer is left else left
        if isinstance(other, Pointer):
            if node.operator == "-":
                return INT64
            self.error(f"The {node.operator} operator can not be used on two pointers", node.span)
            return VOID
        if not is_integer(other):
            self._mismatch(node, left, right)
        if node.operator == "-" and pointer is right:
            self.error("A pointer can not be subtracted from a number", node.span)
        if node.operator in ("+", "-"):
            return pointer
        if node.operator in ("&", "|", "^", "%", "/", "*", "<<", ">>"):
            return UINT64
        return VOID

    def _ternary(self, node: tree.Ternary) -> Type:
        if node.then is None:
            condition = self.number(node.condition)
            return self._join(node, condition, node.condition, self.visit(node.otherwise), node.otherwise)
        self.condition(node.condition)
        return self._join(node, self.visit(node.then), node.then, self.visit(node.otherwise), node.otherwise)

    def _join(
        self,
        node: tree.Expression,
        a: Type,
        first: tree.Expression | None,
        b: Type,
        second: tree.Expression | None,
    ) -> Type:
        """The type of an expression that is one of two."""
        if isinstance(a, Aggregation):
            a = as_integer(a)
        if isinstance(b, Aggregation):
            b = as_integer(b)
        joined = merge(a, b, second, is_natural(first))
        if joined is None:
            self.error(f"Branches must return the same type: have '{a}' and '{b}'", node.span)
            return a
        if is_integer(a) and is_integer(b) and a != b and not isinstance(a, Bool):
            # Like any other computed number.
            assert first is not None and second is not None
            return joined if isinstance(joined, Int) and not _mixed(a, b) else computed(first, second, "+")
        return joined

    # --- casts and places

    def _cast(self, node: tree.Cast) -> Type:
        target = self.type_named(node.target)
        source = self.number(node.operand)
        if isinstance(target, Void) or isinstance(source, Void):
            return target
        if isinstance(target, Pointer):
            space = source.space if isinstance(source, Pointer) else ""
            if not space:
                space = node.operand.space if isinstance(source, Pointer) else self._space()
            if not (is_integer(source) or isinstance(source, Pointer | Array)):
                self._bad_cast(node, source, target)
            node.space = space
            return Pointer(target.target, space)
        if isinstance(target, Array) and target.count == 0 and target.element.size:
            size = source.size
            if size % target.element.size == 0:
                target = Array(target.element, size // target.element.size)
        if not _castable(source, target):
            self._bad_cast(node, source, target)
        return target

    def _bad_cast(self, node: tree.Cast, source: Type, target: Type) -> None:
        self.error(f'Cannot cast from "{source}" to "{target}"', node.span)

    def _member(self, node: tree.Member) -> Type:
        type_ = self.visit(node.operand)
        space = node.operand.space
        if isinstance(type_, Pointer):
            space = type_.space or space
            type_ = type_.target
        node.space = space
        if isinstance(type_, Void):
            return VOID
        if isinstance(type_, Record):
            if node.name in type_.names:
                return type_.elements[type_.names.index(node.name)]
            self.error(
                f"Record does not contain a field named '{node.name}'",
                node.span,
                nearest(node.name, type_.names),
            )
            return VOID
        if not isinstance(type_, Struct):
            self.error(f"Can not access field '{node.name}' on expression of type '{type_}'", node.span)
            return VOID
        field = type_.find(node.name)
        if field is None:
            names = [one.name for one in type_.fields if one.name]
            self.error(
                self._no_member_reason(node)
                or f"Struct/union of type '{type_}' does not contain a field named '{node.name}'",
                node.span,
                nearest(node.name, names),
            )
            return VOID
        if isinstance(field.type, Pointer):
            return Pointer(field.type.target, "user" if space == "user" else field.type.space or space)
        return field.type

    def _no_member_reason(self, node: tree.Member) -> str:
        is_args = isinstance(node.operand, tree.Call) and node.operand.name == "args"
        return (
            self.unit.kind.no_member_reason(self.unit, node.name) if is_args and self.unit is not None else ""
        )

    def _element(self, node: tree.Element) -> Type:
        type_ = self.visit(node.operand)
        node.space = node.operand.space
        if isinstance(type_, Void):
            return VOID
        if not isinstance(type_, Tuple | Record):
            self.error(f"Can not access index '{node.index}' on expression of type '{type_}'", node.span)
            return VOID
        if node.index >= len(type_.elements):
            self.error(
                f"Invalid tuple index: {node.index}. Found {len(type_.elements)} elements in tuple.",
                node.span,
            )
            return VOID
        return type_.elements[node.index]

    def _index(self, node: tree.Index) -> Type:
        type_ = self.visit(node.operand)
        index = self.number(node.index)
        node.space = node.operand.space
        if isinstance(type_, Void):
            return VOID
        if not is_integer(index) and not isinstance(index, Void):
            self.error("The array index operator [] only accepts positive integer indices.", node.index.span)
            return VOID
        constant = node.index.value if isinstance(node.index, tree.Number) else None
        if constant is not None and constant < 0 and not isinstance(type_, Pointer):
            self.error("The array index operator [] only accepts positive integer indices.", node.index.span)
        match type_:
            case Array(element, count):
                if constant is not None and count and constant >= count:
                    self.error(f"the index {constant} is out of bounds for array of size {count}", node.span)
                if isinstance(element, Pointer):
                    return Pointer(element.target, element.space or node.space)
                return element
            case Pointer(target, space):
                node.space = space
                if isinstance(target, Void):
                    self.error("Cannot index a pointer to void", node.span, "cast it to a pointer to a type")
                if isinstance(target, Pointer):
                    return Pointer(target.target, "user" if space == "user" else target.space or space)
                return target
            case Tuple(elements):
                if constant is None:
                    self.error("A tuple can only be indexed by a constant", node.index.span)
                    return VOID
                if constant >= len(elements):
                    self.error(
                        f"Invalid tuple index: {constant}. Found {len(elements)} elements in tuple.",
                        node.span,
                    )
                    return VOID
                return elements[constant]
            case Str():
                return INT8
            case Buffer():
                return UINT8
        self.error(
            f"The array index operator [] can only be used on arrays, pointers, and tuples, found {type_}.",
            node.span,
        )
        return VOID

    def _tuple(self, node: tree.TupleLiteral) -> Type:
        elements = [self.number(element) for element in node.elements]
        if not elements:
            return Tuple(())
        return VOID if any(isinstance(e, Void) for e in elements) else Tuple(tuple(elements))

    def _record(self, node: tree.RecordLiteral) -> Type:
        elements = [self.number(element) for element in node.elements]
        if len(set(node.names)) != len(node.names):
            twice = next(name for name in node.names if node.names.count(name) > 1)
            self.error(f"Record has two fields named '{twice}'", node.span)
            return VOID
        if any(isinstance(element, Void) for element in elements):
            return VOID
        return Record(tuple(node.names), tuple(elements))

    # --- blocks and branches

    def _block(self, node: tree.Block) -> Type:
        for statement in node.statements:
            self.visit(statement)
        if node.value is None:
            return VOID
        type_ = self.visit(node.value)
        node.space = node.value.space
        return type_

    def _if(self, node: tree.If) -> Type:
        self.condition(node.condition)
        if node.compile_time:
            return self._compile_time_if(node)
        then = self.visit(node.then)
        if node.otherwise is None:
            return VOID
        otherwise = self.visit(node.otherwise)
        if isinstance(then, Void) or isinstance(otherwise, Void):
            return VOID
        joined = merge(then, otherwise, node.otherwise.value, is_natural(node.then.value))
        if joined is None:
            return VOID  # a statement whose branches happen to end in values
        return self._join(node, then, node.then.value, otherwise, node.otherwise.value)

    def _compile_time_if(self, node: tree.If) -> Type:
        """Types may still be found out that the condition asks for, so it is put into the tree at the end."""
        condition = self._reduced(node.condition)
        if condition is None:
            return VOID
        if not isinstance(condition, tree.Truth | tree.Number):
            self.error("The condition of 'if comptime' must be known at compile time", node.condition.span)
            return VOID
        if self.final:
            node.condition = condition
        if condition.value:
            return self.visit(node.then)
        return VOID if node.otherwise is None else self.visit(node.otherwise)

    def _reduced(self, node: tree.Expression) -> tree.Expression | None:
        """An expression with questions about types answered and constants folded; None if it is too early."""
        from tracebee.language.passes.fold import fold_one

        match node:
            case tree.Unary(operator=operator, operand=operand) if operator in ("!", "-", "~"):
                only = self._reduced(operand)
                built: tree.Expression | None = only and tree.Unary(node.span, operator, only)
            case tree.Binary(operator=operator, left=left, right=right):
                first, second = self._reduced(left), self._reduced(right)
                built = first and second and tree.Binary(node.span, operator, first, second)
            case _:
                return self._answered(node)
        if built is None:
            return None
        folded = fold_one(built, self.context.diagnostics)
        assert isinstance(folded, tree.Expression)
        return folded

    def _answered(self, node: tree.Expression) -> tree.Expression | None:
        """A question about types, replaced by its answer; None while the type is not known yet."""
        if isinstance(node, tree.Constant):
            return tree.Number(node.span, node.value)
        if isinstance(node, tree.SizeOf | tree.OffsetOf):
            if self._is_open(node.target):
                return None
            value = self.size_of(node) if isinstance(node, tree.SizeOf) else self.offset_of(node)
            return tree.Number(node.span, value)
        if isinstance(node, tree.Call):
            answer = getattr(find_builtin(node.name), "answer", None)
            if answer is not None:
                if any(self._is_open(argument) for argument in node.arguments):
                    return None
                return tree.Truth(node.span, answer(self, node))
        if isinstance(node, tree.Member) and isinstance(node.operand, tree.TypeInfo):
            if self._is_open(node.operand.target):
                return None
            base, full = self.type_info(node.operand)
            text = base if node.name == "base_type" else full
            return tree.Text(node.span, text.encode())
        return node

    def _is_open(self, target: tree.TypeName | tree.Expression) -> bool:
        """Whether a later round may still find out the type that is asked about."""
        return not self.final and isinstance(self._target_type(target), Void)

    # --- types as values

    def _sizeof(self, node: tree.SizeOf) -> Type:
        return literal_type(self.size_of(node))

    def size_of(self, node: tree.SizeOf) -> int:
        """The value of a sizeof."""
        type_ = self._target_type(node.target)
        return type_.capacity if isinstance(type_, Named) else type_.size

    def _target_type(self, target: tree.TypeName | tree.Expression) -> Type:
        if isinstance(target, tree.TypeName):
            return self.type_named(target)
        if isinstance(target, tree.TypeOf):
            return self.type_named(target.target)
        if isinstance(target, tree.Constant):
            # An enumerator has the size of what computes with it.
            return UINT64
        return self.visit(target)

    def _offsetof(self, node: tree.OffsetOf) -> Type:
        return literal_type(self.offset_of(node))

    def offset_of(self, node: tree.OffsetOf) -> int:
        """The value of an offsetof."""
        type_ = self._target_type(node.target)
        if isinstance(type_, Pointer):
            type_ = type_.target
        offset = 0
        for name in node.members:
            field = type_.find(name) if isinstance(type_, Struct) else None
            if field is None:
                hint = nearest(name, [f.name for f in type_.fields]) if isinstance(type_, Struct) else ""
                self.error(f"'{type_}' has no field named '{name}'", node.span, hint)
                return 0
            offset += field.offset
            type_ = field.type
        return offset

    def _typeinfo(self, node: tree.TypeInfo) -> Type:
        self.unstable("typeinfo", node.span)
        base, full = self.type_info(node)
        return Record(("base_type", "full_type"), (Str(len(base) + 1), Str(len(full) + 1)))

    def type_info(self, node: tree.TypeInfo) -> tuple[str, str]:
        """The words that a typeinfo gives: the noun of the type and its full name."""
        type_ = self._target_type(node.target)
        return self.noun(type_), str(type_)

    def _misplaced_type(self, node: tree.TypeOf) -> Type:
        self.error("A type can not be used as a value", node.span, "use sizeof(), or pass it to a macro")
        return VOID

    # --- statements

    def _expression_statement(self, node: tree.ExpressionStatement) -> Type:
        self.visit(node.value)
        if isinstance(node.value, tree.Call):
            builtin = find_builtin(node.value.name)
            assert builtin is not None
            if not builtin.has_effect and not isinstance(node.value.type, Void | Aggregation):
                self.warning("Return value discarded.", node.value.span)
        return VOID

    def _assign(self, node: tree.Assign) -> Type:
        if node.operator != "=":
            return self._compound(node)
        if isinstance(node.target, tree.MapAccess):
            type_ = self._assigned_type(node)
            self._widen_map(node.target, type_, node.value, node.span)
            node.target.type = self.map_state(node.target).value
        elif isinstance(node.target, tree.Variable):
            type_ = self.number(node.value)
            if isinstance(type_, Void) and self.final:
                self._not_a_value(node)
            self._widen_variable(node.target, type_, node.value, node.span)
            node.target.type = node.target.binding.type
        return VOID

    def _not_a_value(self, node: tree.Assign) -> None:
        if not self.context.diagnostics.has_errors:
            self.error("Value 'void' cannot be assigned to a scratch variable.", node.span)

    def _assigned_type(self, node: tree.Assign) -> Type:
        """The type that a map gets: of an aggregation if the value is a call of one."""
        if isinstance(node.value, tree.Call):
            builtin = find_builtin(node.value.name)
            aggregation = getattr(builtin, "aggregation", None)
            if aggregation is not None:
                assert builtin is not None
                if not builtin.check(self, node.value):
                    return VOID
                node.value.type = aggregation(self, node.value)
                return node.value.type
        return self.number(node.value)

    def _compound(self, node: tree.Assign) -> Type:
        binary = tree.Binary(node.span, node.operator[:-1], node.target, node.value)
        type_ = self._binary(binary)
        if isinstance(node.target.type, Void):
            type_ = INT64
        if isinstance(node.target, tree.MapAccess):
            self._widen_map(node.target, type_, None, node.span)
        elif isinstance(node.target, tree.Variable):
            self._widen_variable(node.target, type_, None, node.span)
        return VOID

    def _widen_map(
        self, access: tree.MapAccess, type_: Type, value: tree.Expression | None, span: Span
    ) -> None:
        state = self.map_state(access)
        self._check_key(access, state)
        if isinstance(type_, Void):
            return
        merged = self._merge_values(state.value, type_, value, state.value_adapts)
        if state.declared and not _fits_declared(state.value, type_, value):
            merged = None
        if merged is None:
            self.error(
                f"Type mismatch for {access.name}: trying to assign value of type '{type_}' when map already has "
                f"a type '{state.value}'",
                span,
            )
            return
        if state.declared:
            return
        if not is_natural(value):
            state.value_adapts = False
        if merged != state.value:
            state.value = merged
            self.changed = True

    def _merge_values(self, old: Type, new: Type, value: tree.Expression | None, adapts: bool) -> Type | None:
        if isinstance(old, Aggregation) or isinstance(new, Aggregation):
            if isinstance(old, Void) or old == new:
                return new
            return None
        return merge(old, new, value, adapts)

    def _widen_variable(
        self, variable: tree.Variable, type_: Type, value: tree.Expression | None, span: Span
    ) -> None:
        binding = variable.binding
        if isinstance(type_, Void):
            return
        if binding.declared is not None:
            if not _fits_declared(binding.declared, type_, value):
                self.error(
                    f"Type mismatch for {variable.name}: trying to assign value of type '{type_}' when variable "
                    f"already has a type '{binding.declared}'",
                    span,
                )
            return
        merged = merge(binding.type, type_, value, binding.adapts)
        if merged is None:
            self.error(
                f"Type mismatch for {variable.name}: trying to assign value of type '{type_}' when variable "
                f"already has a type '{binding.type}'",
                span,
            )
            return
        if not is_natural(value):
            binding.adapts = False
        if merged != binding.type:
            binding.type = merged
            self.changed = True

    def _let(self, node: tree.Let) -> Type:
        binding = node.variable.binding
        if node.declared is not None and binding.declared is None:
            declared = self.type_named(node.declared)
            if not isinstance(declared, Void):
                binding.declared = binding.type = declared
                self.changed = True
        if node.value is not None:
            self._widen_variable(node.variable, self.number(node.value), node.value, node.span)
        elif self.final and isinstance(binding.type, Void):
            self.warning(f"Variable {node.variable.name} was never assigned to.", node.span)
            binding.type = INT64
        return VOID

    def _while(self, node: tree.While) -> Type:
        self.condition(node.condition)
        self.visit(node.body)
        return VOID

    def _unroll(self, node: tree.Unroll) -> Type:
        self.visit(node.count)
        if not isinstance(node.count, tree.Number):
            self.error("invalid unroll value", node.span, "the number of rounds must be a constant")
        elif node.count.value < 1:
            self.error("unroll minimum value is 1", node.span)
        elif node.count.value > 100:
            self.error("unroll maximum value is 100", node.span)
        self.visit(node.body)
        return VOID

    def _for_map(self, node: tree.ForMap) -> Type:
        state = self.map_state(node.map)
        if state.keyed is None and self.final:
            self.error(f"Undefined map: {node.map.name}", node.map.span)
        elif state.keyed is False:
            self.error(
                f"{node.map.name} has no explicit keys (scalar map), and cannot be used for iteration",
                node.map.span,
            )
        value = as_integer(state.value) if isinstance(state.value, Aggregation) else state.value
        if isinstance(state.value, Hist | LHist | TSeries) or (
            isinstance(state.value, Average) and state.value.full
        ):
            self.error(f"Loop expression does not support type: {state.value}", node.map.span)
        binding = node.variable.binding
        if not isinstance(state.key, Void) and not isinstance(value, Void):
            pair = Tuple((state.key, value))
            if binding.type != pair:
                binding.type = pair
                self.changed = True
        self.visit(node.body)
        return VOID

    def _for_range(self, node: tree.ForRange) -> Type:
        first, last = self.number(node.first), self.number(node.last)
        for bound, type_ in ((node.first, first), (node.last, last)):
            if not is_integer(type_) and not isinstance(type_, Void):
                self.error("Loop range requires an integer", bound.span)
        if node.variable.binding.type != INT64:
            node.variable.binding.type = INT64
            self.changed = True
        self.visit(node.body)
        return VOID

    def _jump(self, node: tree.Jump) -> Type:
        if node.value is not None:
            self.number(node.value)
        return VOID


def _mixed(a: Type, b: Type) -> bool:
    return is_signed(a) != is_signed(b)


def _fits_declared(declared: Type, type_: Type, value: tree.Expression | None) -> bool:
    """Whether a value may be assigned to a variable or a map of a declared type: nothing may get lost."""
    if isinstance(declared, Tuple) and isinstance(type_, Tuple):
        values = value.elements if isinstance(value, tree.TupleLiteral) else [None] * len(type_.elements)
        return len(declared.elements) == len(type_.elements) and all(
            map(_fits_declared, declared.elements, type_.elements, values)
        )
    if isinstance(declared, Int) and isinstance(type_, Int | Enum):
        if isinstance(value, tree.Number):
            return declared.minimum <= value.value <= declared.maximum
        given = as_integer(type_)
        if given.signed == declared.signed:
            return given.width <= declared.width
        return declared.signed and given.width < declared.width
    if isinstance(declared, Str) and isinstance(type_, Str | Named):
        return type_.capacity <= declared.capacity
    if isinstance(declared, Pointer) and isinstance(type_, Pointer):
        return True
    merged = merge(declared, type_, value)
    return merged == declared


_RAW = (Timestamp, Inet, MacAddr)


def _castable(source: Type, target: Type) -> bool:
    """Whether a cast to something other than a pointer makes sense."""
    if source == target:
        return True
    numbers = (Int, Enum, Bool)
    if isinstance(target, numbers):
        if isinstance(source, (*numbers, Pointer)):
            return True
        if isinstance(source, Array):
            return (
                source.size in (1, 2, 4, 8)
                and source.size <= max(target.size, 8)
                and is_integer(source.element)
            )
        return False
    if isinstance(target, Array):
        if isinstance(source, numbers):
            return source.size <= target.size  # the bytes of the number, then zeros
        if isinstance(source, Str | Array | Buffer):
            return source.size == target.size
        return False
    if isinstance(target, Str):
        return isinstance(source, Str | Named)
    if isinstance(target, Buffer):
        return isinstance(source, Buffer)
    if isinstance(target, Tuple) and isinstance(source, Tuple):
        return merge(source, target) == target
    return False
