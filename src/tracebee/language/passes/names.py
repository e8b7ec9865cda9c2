"""Pass: replace bare words by what they mean: built-ins, enumerators, constants of the C part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins import builtin_names, find_builtin
from tracebee.language.diagnostics import nearest

if TYPE_CHECKING:
    from tracebee.language.diagnostics import Diagnostics
    from tracebee.language.typetable import TypeTable

MAX_NESTING = 100
"""How deep constants may name each other."""

MAX_EXPANSIONS = 20_000
"""How many constants a script may name, those inside constants included: they can grow like powers."""


def resolve_names(node: tree.Node, types: TypeTable, diagnostics: Diagnostics) -> None:
    """Replace every Name below a node, in place; every Call left names a built-in."""
    _Resolver(types, diagnostics).visit(node)


class _Resolver:
    def __init__(self, types: TypeTable, diagnostics: Diagnostics) -> None:
        self.types = types
        self.diagnostics = diagnostics
        self.active: list[str] = []
        self.expansions = 0

    def visit(self, node: tree.Node) -> None:
        words: frozenset[str] = frozenset()
        kept: frozenset[int] = frozenset()
        if isinstance(node, tree.Call):
            builtin = find_builtin(node.name)
            if builtin is None:
                self.diagnostics.error(
                    f"Unknown function: '{node.name}'", node.span, nearest(node.name, builtin_names())
                )
            else:
                node.name = builtin.name
                words, kept = builtin.words, builtin.word_arguments
        for field in node._fields:
            value = getattr(node, field)
            if isinstance(value, tree.Name) and field in ("target", "of") and self.is_type(value):
                setattr(node, field, tree.TypeName(value.span, value.name, None, []))
            elif isinstance(value, tree.Name):
                setattr(node, field, self.name(value, words))
            elif isinstance(value, tree.Node):
                self.visit(value)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if index in kept:
                        continue
                    if isinstance(item, tree.Name):
                        value[index] = self.name(item, words)
                    elif isinstance(item, tree.Node):
                        self.visit(item)

    def is_type(self, name: tree.Name) -> bool:
        """Whether a word in sizeof() and the like is the name of a type and of nothing else."""
        builtin = find_builtin(name.name)
        if builtin is not None and builtin.bare:
            return False
        return self.types.find(name.name) is not None

    def name(self, name: tree.Name, words: frozenset[str]) -> tree.Expression:
        word = name.name
        if word in words or "*" in words:
            return name
        builtin = find_builtin(word)
        if builtin is not None and builtin.bare:
            return tree.Call(name.span, builtin.name, [])
        if word.startswith("arg") and word[3:].isdigit() and len(word) < 10:
            return tree.Call(name.span, "arg", [tree.Number(name.span, int(word[3:]))])
        declarations = self.types.declarations
        if declarations is not None and word in declarations.constants and word not in self.active:
            expression = declarations.constants[word].expression(name.span)
            if expression is not None:
                self.expansions += 1
                if self.expansions > MAX_EXPANSIONS or len(self.active) > MAX_NESTING:
                    self.diagnostics.fail(f"#define {word} expands to too much", name.span)
                holder = tree.ExpressionStatement(name.span, expression)
                self.active.append(word)
                self.visit(holder)
                self.active.pop()
                return holder.value
        constant = self.types.constant(word)
        if constant is not None:
            value, of = constant
            return tree.Constant(name.span, value, of)
        if builtin is not None:
            self.diagnostics.error(
                f"{word}() is a function",
                name.span,
                f"call it as {' or '.join(builtin.forms) or word + '()'}",
            )
        else:
            known = list(builtin_names())
            self.diagnostics.error(f"Unknown identifier: '{word}'", name.span, nearest(word, known))
        return tree.Number(name.span, 0)
