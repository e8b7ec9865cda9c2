"""Pass: answer has_probe(), so that one script can serve kernels with different places to trace.

The answers are constants before anything else is looked at: a probe whose predicate they make false is left out,
and is nowhere attached.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tracebee.errors import SourceError
from tracebee.language import tree
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.probes.base import Expansion

if TYPE_CHECKING:
    from tracebee.language.source import Span

NAME = "has_probe"


def answer_questions(node: tree.Node, context: Expansion) -> bool:
    """Replace has_probe() below a node by the answers, in place; whether there was any."""
    asked = False

    def change(item: tree.Node) -> tree.Node:
        nonlocal asked
        if isinstance(item, tree.Call) and item.name == NAME:
            asked = True
            return tree.Truth(item.span, _answer(item, context))
        return item

    tree.rewrite(node, change)
    return asked


def _answer(call: tree.Call, context: Expansion) -> bool:
    if len(call.arguments) != 1 or not isinstance(call.arguments[0], tree.Text):
        context.diagnostics.error(
            f'{NAME}() takes an attach point as a literal: {NAME}("kprobe:vfs_read")', call.span
        )
        return False
    return has_place(call.arguments[0].text, call.span, context)


def has_place(point: str, span: Span, context: Expansion) -> bool:
    """Whether an attach point has a place that can be traced here; what is wrong with it is not told."""
    from tracebee.language.passes.points import expand_point

    attempt = Expansion(
        context.machine, context.types, context.config, Diagnostics(), context.pid, context.unsafe
    )
    with suppress(SourceError):
        found = expand_point(point, span, attempt)
        if not attempt.diagnostics.has_errors:
            return any(not place.refusal[0] for _, place in found)
    return False
