"""Pass: replace the calls of macros by their bodies.

Macros are hygienic: a body sees its parameters and nothing else of where it is used, and its own variables
get names that no script can write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.source import Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.language.diagnostics import Diagnostics

MAX_EXPANSIONS = 20_000
"""How many macro calls a script may come to: macros that call macros grow like powers."""


class Macros:
    """The macros of a script, and those of the library, which `library` looks up by name when needed."""

    def __init__(
        self,
        own: list[tree.Macro],
        library: Callable[[str], list[tree.Macro]],
        diagnostics: Diagnostics,
    ) -> None:
        self.own: dict[str, list[tree.Macro]] = {}
        self.library = library
        self.diagnostics = diagnostics
        self.expansions = 0
        for macro in own:
            versions = self.own.setdefault(macro.name, [])
            if any(_signature(other) == _signature(macro) for other in versions):
                diagnostics.error(f"Redefinition of macro: {macro.name}", macro.span)
            versions.append(macro)

    def expand(self, node: tree.Node) -> tree.Node:
        """The node with every macro call below it, and itself if it is one, replaced."""
        return self._expand(node, (), in_library=False)

    def _expand(self, node: tree.Node, active: tuple[tree.Macro, ...], in_library: bool) -> tree.Node:
        """`active` are the macros whose bodies the node lies in; the innermost's parameters are no macros."""
        for field in node._fields:
            value = getattr(node, field)
            if isinstance(value, tree.Node):
                setattr(node, field, self._expand(value, active, in_library))
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, tree.Node):
                        value[index] = self._expand(item, active, in_library)
        if isinstance(node, tree.Call):
            return self._call(node, node.name, node.arguments, active, in_library)
        if isinstance(node, tree.Name):
            if active and any(parameter.name == node.name for parameter in active[-1].parameters):
                return node
            return self._call(node, node.name, [], active, in_library)
        return node

    def _call(
        self,
        node: tree.Expression,
        name: str,
        arguments: list[tree.Expression],
        active: tuple[tree.Macro, ...],
        in_library: bool,
    ) -> tree.Node:
        candidates = [] if in_library else self.own.get(name, [])
        macro = _best(candidates, arguments)
        from_library = False
        if macro is None:
            macro = _best(self.library(name), arguments)
            from_library = macro is not None
        if macro is None:
            self._explain_mismatch(node, name, candidates)
            return node
        if macro in active:
            chain = " > ".join(f"{one.name}()" for one in (*active, macro))
            self.diagnostics.fail(f"Recursive macro call detected. Call chain: {chain}", node.span)
        self.expansions += 1
        if self.expansions > MAX_EXPANSIONS:
            self.diagnostics.fail(
                f"Macros expand to too much code (more than {MAX_EXPANSIONS} calls)", node.span
            )
        return self._body(macro, arguments, node.span, (*active, macro), in_library or from_library)

    def _explain_mismatch(self, node: tree.Expression, name: str, candidates: list[tree.Macro]) -> None:
        """A user's macro of this name exists but does not take these arguments; a built-in may."""
        if not candidates or not isinstance(node, tree.Call):
            return
        from tracebee.language.builtins import find_builtin

        if find_builtin(name) is not None:
            return
        closest = candidates[0]
        self.diagnostics.error(
            f"Call to {name}() has arguments that do not match any definition.",
            node.span,
            f"it is defined as {name}({', '.join(p.name for p in closest.parameters)})",
        )

    def _body(
        self,
        macro: tree.Macro,
        arguments: list[tree.Expression],
        call: Span,
        active: tuple[tree.Macro, ...],
        in_library: bool,
    ) -> tree.Block:
        body = tree.clone(macro.body)
        for node in tree.walk(body):
            node.span = Span(node.span.source, node.span.start, node.span.end, call)
        self._expand(body, active, in_library)
        given = dict(zip((parameter.name for parameter in macro.parameters), arguments, strict=True))
        suffix = f"·{self.expansions}"
        known_maps = {name for name in given if name.startswith("@")}

        def substitute(node: tree.Node) -> tree.Node:
            if isinstance(node, tree.Name) and node.name in given:
                return tree.clone(given[node.name])
            if isinstance(node, tree.Variable):
                argument = given.get(node.name)
                if isinstance(argument, tree.Variable):
                    node.name = argument.name
                else:
                    node.name += suffix
            elif isinstance(node, tree.MapAccess):
                argument = given.get(node.name)
                if isinstance(argument, tree.MapAccess):
                    node.name = argument.name
                elif node.name not in known_maps and node.span.source is macro.span.source:
                    self.diagnostics.error(
                        f"Unhygienic access to map: {node.name}", node.span, "pass the map as a parameter"
                    )
            return node

        tree.rewrite(body, substitute)
        return body


def _signature(macro: tree.Macro) -> tuple[str, ...]:
    return tuple(parameter.name[0] if parameter.name[0] in "$@" else "" for parameter in macro.parameters)


def _best(candidates: list[tree.Macro], arguments: list[tree.Expression]) -> tree.Macro | None:
    """The macro that takes these arguments; one that asks for a variable or map goes before an expression."""
    best: tuple[int, tree.Macro] | None = None
    for macro in candidates:
        if len(macro.parameters) != len(arguments):
            continue
        score = 0
        for parameter, argument in zip(macro.parameters, arguments, strict=True):
            if parameter.name.startswith("$"):
                fits = isinstance(argument, tree.Variable)
                score += 1
            elif parameter.name.startswith("@"):
                fits = isinstance(argument, tree.MapAccess) and argument.key is None
                score += 1
            else:
                fits = True
            if not fits:
                break
        else:
            if best is None or score > best[0]:
                best = (score, macro)
    return None if best is None else best[1]
