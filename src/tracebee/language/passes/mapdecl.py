"""Pass: take the declarations of maps: their types, and what kind of map they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.diagnostics import nearest
from tracebee.language.lower.build import DECLARED_KINDS
from tracebee.language.passes.infer import Inference, MapState
from tracebee.spec.types import Tuple, Void

if TYPE_CHECKING:
    from tracebee.language.compile import Compilation
    from tracebee.language.diagnostics import Diagnostics


def declare_maps(compilation: Compilation, inference: Inference) -> None:
    """Enter the declared maps; mistakes go to the diagnostics."""
    diagnostics = compilation.diagnostics
    for declaration in compilation.program.maps:
        if declaration.name in inference.maps:
            diagnostics.error(f"Duplicate map declaration: {declaration.name}", declaration.span)
            continue
        state = MapState(declaration.name, declaration.span)
        _declare_types(declaration, state, inference)
        if declaration.max_entries is None or _declare_kind(declaration, state, diagnostics):
            inference.maps[declaration.name] = state


def _declare_types(declaration: tree.MapDeclaration, state: MapState, inference: Inference) -> None:
    """Fix the types of key and value, so that a map can be set from outside before a script writes to it."""
    if declaration.value is None:
        return
    # What cannot be resolved is to be said now, not in a last round that may never come.
    inference.final = True
    value = inference.type_named(declaration.value)
    keys = [inference.type_named(name) for name in declaration.keys]
    inference.final = False
    if any(isinstance(type_, Void) for type_ in (value, *keys)):
        return
    state.declared = True
    state.value = value
    state.keyed = bool(keys)
    if keys:
        state.key = keys[0] if len(keys) == 1 else Tuple(tuple(keys))


def _declare_kind(declaration: tree.MapDeclaration, state: MapState, diagnostics: Diagnostics) -> bool:
    """Take ``= kind(entries)``; False after a complaint."""
    if declaration.kind not in DECLARED_KINDS:
        diagnostics.error(
            f"Invalid bpf map type: {declaration.kind}",
            declaration.span,
            nearest(declaration.kind, DECLARED_KINDS) or f"valid kinds are {', '.join(DECLARED_KINDS)}",
        )
        return False
    entries = declaration.max_entries
    if not isinstance(entries, tree.Number) or not 1 <= entries.value < 1 << 32:
        diagnostics.error("the number of entries must be a positive constant", declaration.span)
        return False
    if state.keyed is False:
        diagnostics.error(f"{state.name} has no keys, so it has no entries", declaration.span)
        return False
    state.kind, state.max_entries = declaration.kind, entries.value
    return True
