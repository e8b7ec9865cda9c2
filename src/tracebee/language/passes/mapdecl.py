"""Pass: take the declarations of maps, ``let @name = kind(max_entries);``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.diagnostics import nearest
from tracebee.language.lower.build import DECLARED_KINDS
from tracebee.language.passes.infer import Inference, MapState

if TYPE_CHECKING:
    from tracebee.language.compile import Compilation


def declare_maps(compilation: Compilation, inference: Inference) -> None:
    """Enter the declared maps; mistakes go to the diagnostics."""
    diagnostics = compilation.diagnostics
    for declaration in compilation.program.maps:
        if declaration.name in inference.maps:
            diagnostics.error(f"Duplicate map declaration: {declaration.name}", declaration.span)
            continue
        if declaration.kind not in DECLARED_KINDS:
            diagnostics.error(
                f"Invalid bpf map type: {declaration.kind}",
                declaration.span,
                nearest(declaration.kind, DECLARED_KINDS) or f"valid kinds are {', '.join(DECLARED_KINDS)}",
            )
            continue
        entries = declaration.max_entries
        if not isinstance(entries, tree.Number) or not 1 <= entries.value < 1 << 32:
            diagnostics.error("the number of entries must be a positive constant", entries.span)
            continue
        state = MapState(declaration.name, declaration.span)
        state.kind, state.max_entries = declaration.kind, entries.value
        inference.maps[declaration.name] = state
