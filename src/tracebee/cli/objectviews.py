"""``list`` and ``show`` of all kinds of objects: what is read, which of it is meant, how it is printed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.cli.selection import (
    no_more,
    print_json,
    print_lines,
    split_options,
    split_selector,
    terminal_width,
)
from tracebee.errors import PermissionRefused
from tracebee.kernel.ids import KINDS, WORDS, find
from tracebee.kernel.inventory import Inventory, read_inventory, read_some
from tracebee.render.tables import Column, block, printable, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class View(NamedTuple):
    """How objects of a kind are shown.

    `record` makes what JSON has of one, `row` its cells in the table of `columns`, `title` and `facts` its
    block.  Each takes the object's facts and everything that is loaded.  `more_rows` are cells of what has no id
    but belongs into the table of all.
    """

    kind: str
    columns: tuple[Column, ...]
    row: Callable[[Any, Inventory], Sequence[str]]
    title: Callable[[Any, Inventory], str]
    facts: Callable[[Any, Inventory], Sequence[tuple[str, str]]]
    record: Callable[[Any, Inventory], dict[str, Any]]
    more_rows: Callable[[Inventory], list[list[str]]] = lambda inventory: []


def run_view(view: View, words: Sequence[str], *, blocks: bool) -> int:
    """Print the objects that the words mean, all if none: as a table, or with `blocks` one by one in detail.

    In JSON one object selected is an object, and else there is an array.  Objects that only this process holds are
    left out unless they are selected or -a is given.  Raises TracebeeError.
    """
    options = split_options(words, ("bpffs", "all"))
    chosen: list[int] | None = None
    opened: list[int] = []
    try:
        if options.words:
            selector, rest = split_selector(options.words)
            no_more(rest)
            # They stay open until they are shown, so that they are still there.
            found = find(view.kind, selector)
            chosen, opened = [object_id for object_id, _ in found], [fd for _, fd in found]
        kinds = (view.kind, *(kind for kind in KINDS if kind != view.kind))
        try:
            inventory = read_inventory(kinds, places=view.kind == "link")
        except PermissionRefused:
            if not opened:
                raise
            # Pinned objects can be opened by who may not walk over the ids.
            inventory = read_some(view.kind, opened)
    finally:
        for fd in opened:
            os.close(fd)
    inventory.forget_holder(os.getpid(), view.kind, chosen or ())
    infos = visible(view.kind, inventory, chosen, everything="all" in options.given)
    if options.wants_json:
        records = [view.record(info, inventory) for info in infos]
        print_json(records[0] if chosen is not None and len(records) == 1 else records, options)
        return 0
    width = terminal_width()
    rows: list[Sequence[str]] = []
    if blocks:
        lines: list[str] = []
        for info in infos:
            lines += [
                "",
                printable(view.title(info, inventory)),
                *block(view.facts(info, inventory), width=width),
            ]
        print_lines(lines[1:])
    else:
        rows = [view.row(info, inventory) for info in infos]
        rows += view.more_rows(inventory) if chosen is None else []
        if rows:
            print_lines(table(view.columns, rows, width))
    if not infos and not rows:
        print(f"no {WORDS[view.kind]}s are loaded", file=sys.stderr)
    note_unseen(inventory)
    return 0


def visible(
    kind: str, inventory: Inventory, chosen: Sequence[int] | None, *, everything: bool = False
) -> list[Any]:
    """The facts of the objects to show."""
    objects = inventory.objects(kind)
    if chosen is not None:
        return [objects[object_id] for object_id in dict.fromkeys(chosen) if object_id in objects]
    ours = os.getpid()
    return [
        info
        for object_id, info in objects.items()
        if everything or not inventory.is_private_to(ours, kind, object_id)
    ]


def note_unseen(inventory: Inventory) -> None:
    """Say that owners may be missing."""
    unseen = inventory.holders.unseen
    if unseen:
        text = "1 process" if unseen == 1 else f"{unseen} processes"
        print(f"note: {text} could not be looked into; owners may be missing", file=sys.stderr)
