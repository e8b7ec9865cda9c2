"""The tree as script text in standard form, with types as comments if they are known and wanted.

Two blanks a level, the brace of a probe on a line of its own; what it prints parses to an equal tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.parser import BINARY_STRENGTH, BUILTIN_TYPES, deep_recursion

if TYPE_CHECKING:
    from tracebee.language.probes.base import Unit

INDENT = "  "
_ESCAPES = {10: "\\n", 9: "\\t", 13: "\\r", 34: '\\"', 92: "\\\\"}
_POSTFIX, _UNARY, _TERNARY = 20, 15, 0


def format_program(program: tree.Program) -> str:
    """A whole script."""
    with deep_recursion():
        return _format_program(program)


def _format_program(program: tree.Program) -> str:
    printer = Printer()
    parts = [part.span.text.strip() for part in program.c_parts]
    if program.config:
        entries = "".join(
            f"{INDENT}{entry.key} = {quoted_if_needed(entry.value)};\n" for entry in program.config
        )
        parts.append(f"config = {{\n{entries}}}")
    parts += [f"import {quoted(one.target.encode('utf-8', 'surrogateescape'))};" for one in program.imports]
    parts += [printer.map_declaration(one) for one in program.maps]
    for macro in program.macros:
        names = ", ".join(parameter.name for parameter in macro.parameters)
        parts.append(f"macro {macro.name}({names})\n{printer.block(macro.body, 0)}")
    for probe in program.probes:
        parts.append(printer.probe(probe))
    return "\n\n".join(parts) + "\n"


def format_unit(unit: Unit, types: bool = True) -> str:
    """The probe of a unit, with the places that it is for."""
    printer = Printer(types)
    names = [point.name for point in unit.points]
    shown = ", ".join(names[:5]) + (f", … ({len(names)} in all)" if len(names) > 5 else "")
    predicate = unit.probe.predicate
    lines = [shown]
    if predicate is not None:
        lines.append(f"/{printer.expression(predicate)}/")
    lines.append(printer.block(unit.probe.body, 0))
    return "\n".join(lines)


def quoted(data: bytes) -> str:
    """A string literal."""
    text = data.decode("utf-8", "surrogateescape")
    out = []
    for char in text:
        code = ord(char)
        if code in _ESCAPES:
            out.append(_ESCAPES[code])
        elif code < 32 or code == 127:
            out.append(f"\\x{code:02x}")
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        else:
            out.append(char)
    # An escape must not swallow the digits that follow it.
    return '"' + "".join(out) + '"'


def quoted_if_needed(value: str) -> str:
    plain = value.replace("_", "a")
    return value if plain.isalnum() and value.isascii() else quoted(value.encode())


def _goes_on(following: str) -> bool:
    """Whether a statement that ends in a brace would go on with this text, without a semicolon between."""
    return following.startswith(("-", "*", "&")) and not following.startswith("--")


class Printer:
    """Prints nodes; with `types` each expression is followed by its type in a comment."""

    def __init__(self, types: bool = False) -> None:
        self.types = types

    def probe(self, probe: tree.Probe) -> str:
        name = f"{probe.name}=" if probe.name else ""
        lines = [name + ",\n".join(point.text for point in probe.points)]
        if probe.predicate is not None:
            predicate = self.expression(probe.predicate)
            # A '/' in front of a block would end the predicate, and "/*" starts a comment.
            is_plain = "/ {" not in predicate and not predicate.startswith("*")
            lines.append(f"/{predicate}/" if is_plain else f"/({predicate})/")
        lines.append(self.block(probe.body, 0))
        return "\n".join(lines)

    def block(self, block: tree.Block, level: int) -> str:
        inner = INDENT * (level + 1)
        lines = ["{"]
        ends_in_brace = False
        for statement in block.statements:
            text = self.statement(statement, level + 1)
            if ends_in_brace and _goes_on(text):
                lines[-1] += ";"
            lines.append(inner + text)
            ends_in_brace = isinstance(statement, tree.ExpressionStatement) and text.endswith("}")
        if block.value is not None:
            text = self.expression(block.value, level=level + 1)
            if ends_in_brace and _goes_on(text):
                lines[-1] += ";"
            lines.append(inner + text)
        elif ends_in_brace:
            # Without a semicolon it would be the block's value.
            lines[-1] += ";"
        lines.append(INDENT * level + "}")
        return "\n".join(lines)

    def statement(self, node: tree.Statement, level: int) -> str:
        match node:
            case tree.ExpressionStatement(_, value):
                text = self.expression(value, level=level)
                return text if isinstance(value, tree.If | tree.Block) else text + ";"
            case tree.Assign(_, target, operator, value):
                return f"{self.expression(target, level=level)} {operator} {self.expression(value, level=level)};"
            case tree.Discard(_, value):
                return f"_ = {self.expression(value, level=level)};"
            case tree.Let(_, variable, declared, value):
                text = f"let {variable.name}"
                if declared is not None:
                    text += f" : {self.type_name(declared)}"
                if value is not None:
                    text += f" = {self.expression(value, level=level)}"
                return text + ";"
            case tree.While(_, condition, body):
                return f"while ({self.expression(condition, level=level)}) {self.block(body, level)}"
            case tree.Unroll(_, count, body):
                return f"unroll ({self.expression(count, level=level)}) {self.block(body, level)}"
            case tree.ForMap(_, variable, map_, body):
                return f"for ({variable.name} : {map_.name}) {self.block(body, level)}"
            case tree.ForRange(_, variable, first, last, body):
                bounds = f"{self.operand(first, _POSTFIX, level)}..{self.operand(last, _POSTFIX, level)}"
                return f"for ({variable.name} : {bounds}) {self.block(body, level)}"
            case tree.Jump(_, kind, value):
                return f"{kind} {self.expression(value, level=level)};" if value is not None else f"{kind};"
        raise AssertionError(node)

    def expression(self, node: tree.Expression, level: int = 0) -> str:
        """An expression that may stand anywhere."""
        return self.operand(node, _TERNARY, level)

    def operand(self, node: tree.Expression, strength: int, level: int) -> str:
        """An expression inside another whose operator has a strength."""
        text, own = self._bare(node, level)
        if self.types and node.type is not tree.UNKNOWN:
            text, own = f"{text} /* {node.type} */", min(own, _UNARY - 1)
        return f"({text})" if own < strength else text

    def _bare(self, node: tree.Expression, level: int) -> tuple[str, int]:
        """The text, and how strongly it holds together."""
        match node:
            case tree.Number(_, value):
                return (str(value), _POSTFIX) if value >= 0 else (str(value), _UNARY)
            case tree.Constant(_, value, of):
                names = dict(getattr(of, "names", ()))
                return names.get(value, str(value)), _POSTFIX
            case tree.Truth(_, value):
                return ("true" if value else "false"), _POSTFIX
            case tree.Text(_, value):
                return quoted(value), _POSTFIX
            case tree.Name(_, name) | tree.Variable(_, name):
                return name, _POSTFIX
            case tree.Positional(_, index):
                return f"${index}", _POSTFIX
            case tree.PositionalCount():
                return "$#", _POSTFIX
            case tree.MapAccess(_, name, key):
                return name if key is None else f"{name}[{self._key(key, level)}]", _POSTFIX
            case tree.Call(_, name, arguments):
                return self._call(name, arguments, level), _POSTFIX
            case tree.Unary(_, operator, operand, postfix):
                inner = self.operand(operand, _UNARY, level)
                if not postfix and inner.startswith(operator[0]):
                    inner = f"({inner})"
                return (inner + operator if postfix else operator + inner), (_POSTFIX if postfix else _UNARY)
            case tree.Binary(_, operator, left, right):
                own = BINARY_STRENGTH[operator]
                return (
                    f"{self.operand(left, own, level)} {operator} {self.operand(right, own + 1, level)}",
                    own,
                )
            case tree.Ternary(_, condition, then, otherwise):
                middle = "" if then is None else f" {self.expression(then, level)} "
                return (
                    f"{self.operand(condition, 1, level)} ?{middle}: {self.expression(otherwise, level)}",
                    _TERNARY,
                )
            case tree.Cast(_, target, operand):
                inner = self.operand(operand, _UNARY, level)
                is_plain = target.of is None and " " not in target.base and target.base not in BUILTIN_TYPES
                # What looks like a name in parentheses is a cast only in front of a clear operand.
                is_clear = (inner[0].isalnum() or inner[0] in '_"($@') and not inner.startswith("$#")
                if is_plain and not is_clear:
                    inner = f"({inner})"
                return f"({self.type_name(target)}){inner}", _UNARY
            case tree.Member(_, operand, name):
                return f"{self.operand(operand, _POSTFIX, level)}.{name}", _POSTFIX
            case tree.Element(_, operand, index):
                return f"{self.operand(operand, _POSTFIX, level)}.{index}", _POSTFIX
            case tree.Index(_, operand, index):
                whole = self.operand(operand, _POSTFIX, level)
                if isinstance(operand, tree.MapAccess) and operand.key is None:
                    whole = f"({whole})"  # or the index would be a key
                return f"{whole}[{self.expression(index, level)}]", _POSTFIX
            case tree.TupleLiteral(_, elements):
                inside = ", ".join(self.expression(element, level) for element in elements)
                return f"({inside},)" if len(elements) == 1 else f"({inside})", _POSTFIX
            case tree.RecordLiteral(_, names, elements):
                pairs = zip(names, elements, strict=True)
                inside = ", ".join(f"{name}={self.expression(element, level)}" for name, element in pairs)
                return f"({inside})", _POSTFIX
            case tree.Block():
                return self.block(node, level), _POSTFIX
            case tree.If():
                return self._if(node, level), _POSTFIX
            case tree.SizeOf(_, target):
                return f"sizeof({self._target(target, level)})", _POSTFIX
            case tree.OffsetOf(_, target, members):
                return f"offsetof({self._target(target, level)}, {'.'.join(members)})", _POSTFIX
            case tree.TypeOf(_, target):
                return self.type_name(target), _POSTFIX
            case tree.TypeInfo(_, target):
                return f"typeinfo({self._target(target, level)})", _POSTFIX
        raise AssertionError(node)

    def _call(self, name: str, arguments: list[tree.Expression], level: int) -> str:
        return f"{name}({', '.join(self.expression(argument, level) for argument in arguments)})"

    def _key(self, key: tree.Expression, level: int) -> str:
        if isinstance(key, tree.TupleLiteral) and len(key.elements) > 1:
            return ", ".join(self.expression(element, level) for element in key.elements)
        return self.expression(key, level)

    def _target(self, target: tree.TypeName | tree.Expression, level: int) -> str:
        return self.type_name(target) if isinstance(target, tree.TypeName) else self.expression(target, level)

    def _if(self, node: tree.If, level: int) -> str:
        word = "if comptime" if node.compile_time else "if"
        text = f"{word} ({self.expression(node.condition, level)}) {self.block(node.then, level)}"
        if node.otherwise is None:
            return text
        nested = node.otherwise.value
        if not node.otherwise.statements and isinstance(nested, tree.If):
            return f"{text} else {self._if(nested, level)}"
        return f"{text} else {self.block(node.otherwise, level)}"

    def map_declaration(self, node: tree.MapDeclaration) -> str:
        text = f"let {node.name}"
        if node.keys:
            text += f"[{', '.join(map(self.type_name, node.keys))}]"
        if node.value is not None:
            text += f": {self.type_name(node.value)}"
        if node.max_entries is not None:
            text += f" = {node.kind}({self.expression(node.max_entries)})"
        return f"{text};"

    def type_name(self, name: tree.TypeName) -> str:
        """A type as scripts write it."""
        base = name.base if name.of is None else f"typeof({self._target(name.of, 0)})"
        for suffix in name.suffixes:
            base += "*" if suffix == "*" else f"[{'' if suffix is None else suffix}]"
        return base
