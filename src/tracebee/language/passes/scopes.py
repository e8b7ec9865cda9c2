"""Pass: give every ``$name`` the variable that it means.

A variable belongs to the block in which ``let`` or an assignment first names it, and to the blocks inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.diagnostics import nearest
from tracebee.language.rules import PLAIN_ROUNDS
from tracebee.language.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.language.diagnostics import Diagnostics


def bind_variables(
    probe: tree.Probe, diagnostics: Diagnostics, loops_are_functions: Callable[[], bool]
) -> list[Scratch]:
    """Set `binding` on every Variable of a probe; returns the variables in order of appearance.

    Where `loops_are_functions` says so, long loops get their `as_function`, and capture what is around them.
    """
    binder = _Binder(diagnostics, loops_are_functions)
    if probe.predicate is not None:
        binder.visit(probe.predicate)
    binder.block(probe.body)
    return binder.all


class _Binder:
    def __init__(self, diagnostics: Diagnostics, loops_are_functions: Callable[[], bool]) -> None:
        self.diagnostics = diagnostics
        self.loops_are_functions = loops_are_functions
        self.rounds = 1
        self.scopes: list[dict[str, Scratch]] = [{}]
        self.all: list[Scratch] = []
        self.level = 0
        self.loops = 0

    def find(self, name: str) -> Scratch | None:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def define(self, variable: tree.Variable) -> Scratch:
        scratch = Scratch(variable.name, variable.span, self.level)
        self.scopes[-1][variable.name] = scratch
        self.all.append(scratch)
        variable.binding = scratch
        return scratch

    def use(self, variable: tree.Variable) -> Scratch:
        scratch = self.find(variable.name)
        if scratch is None:
            known = {name for scope in self.scopes for name in scope}
            self.diagnostics.error(
                f"Undefined or undeclared variable: {variable.name}",
                variable.span,
                nearest(variable.name, known) or "give it a value first, or declare it with 'let'",
            )
            return self.define(variable)
        if scratch.level < self.level:
            scratch.captured = True
        variable.binding = scratch
        return scratch

    def block(self, block: tree.Block) -> None:
        self.scopes.append({})
        for statement in block.statements:
            self.visit(statement)
        if block.value is not None:
            self.visit(block.value)
        self.scopes.pop()

    def visit(self, node: tree.Node) -> None:
        match node:
            case tree.Variable():
                self.use(node)
            case tree.Block():
                self.block(node)
            case tree.Let():
                self.let(node)
            case tree.Assign(target=tree.Variable() as target):
                self.visit(node.value)
                if node.operator == "=" and self.find(target.name) is None:
                    self.define(target)
                else:
                    self.use(target)
            case tree.Unary(operator="&", operand=tree.Variable() as variable):
                self.use(variable).address_taken = True
            case tree.ForMap():
                self.loop(node.variable, [node.map], node.body, callback=True)
            case tree.ForRange():
                self.range(node)
            case tree.While():
                node.as_function = self.loops_are_functions()
                self.level += node.as_function
                self.visit(node.condition)
                self.loops += 1
                self.block(node.body)
                self.loops -= 1
                self.level -= node.as_function
            case tree.Unroll():
                self.visit(node.count)
                self.block(node.body)
            case tree.Jump():
                self.jump(node)
            case _:
                for child in tree.children(node):
                    self.visit(child)

    def let(self, node: tree.Let) -> None:
        if node.value is not None:
            self.visit(node.value)
        if node.declared is not None:
            self.visit(node.declared)
        earlier = self.find(node.variable.name)
        if earlier is not None:
            self.diagnostics.error(
                f"Variable {node.variable.name} was already declared. Variable shadowing is not allowed.",
                node.span,
            )
            self.diagnostics.warning("This is the initial declaration.", earlier.span)
        self.define(node.variable)

    def range(self, node: tree.ForRange) -> None:
        around, rounds = self.rounds, PLAIN_ROUNDS + 1
        if isinstance(node.first, tree.Number) and isinstance(node.last, tree.Number):
            rounds = max(1, node.last.value - node.first.value)
        node.as_function = rounds * around > PLAIN_ROUNDS and self.loops_are_functions()
        self.rounds = 1 if node.as_function else rounds * around
        self.loop(node.variable, [node.first, node.last], node.body, callback=node.as_function)
        self.rounds = around

    def loop(
        self, variable: tree.Variable, heads: list[tree.Expression], body: tree.Block, callback: bool
    ) -> None:
        for head in heads:
            self.visit(head)
        earlier = self.find(variable.name)
        if earlier is not None:
            self.diagnostics.error(
                f"Loop declaration shadows existing variable: {variable.name}", variable.span
            )
        self.level += callback
        self.loops += 1
        self.scopes.append({})
        self.define(variable)
        self.block(body)
        self.scopes.pop()
        self.loops -= 1
        self.level -= callback

    def jump(self, node: tree.Jump) -> None:
        if node.kind in ("break", "continue") and self.loops == 0:
            self.diagnostics.error(f"'{node.kind}' statement is not allowed in a probe", node.span)
        if node.value is not None:
            self.visit(node.value)
