"""What differs between two objects: programs, maps, variables, helpers, instructions."""

from __future__ import annotations

from difflib import SequenceMatcher, unified_diff
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.errors import FormatError
from tracebee.object.disassembly import Disassembly

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracebee.object.describe import Description, Look, ProgramRow

MAX_LINES = 20_000
"""Instructions of a program that are lined up with others; of longer ones it is only told that they differ."""


class Change(NamedTuple):
    """A difference.

    `kind` is "object", "program", "map", "variable" or "from the kernel"; `what` the thing about it that differs,
    empty where the whole is only on one side.  `before` and `after` are in words, empty for what is not there.
    """

    kind: str
    name: str
    what: str
    before: str
    after: str


def compare(old: Look, new: Look) -> list[Change]:
    """All differences, in the order in which an object is shown."""
    a, b = old.describe(), new.describe()
    found = [
        Change("object", "", what, str(before), str(after))
        for what, before, after in (
            ("byte order", a.byteorder, b.byteorder),
            ("license", a.license, b.license),
            ("version", a.version or 0, b.version or 0),
        )
        if before != after
    ]
    found += _programs(old, new, a, b)
    found += _rows(
        "map", {row.name: _map_facts(row) for row in a.maps}, {row.name: _map_facts(row) for row in b.maps}
    )
    found += _rows("variable", _variables(a), _variables(b))
    found += _rows(
        "from the kernel",
        {row.name: {"": row.kind, "type": row.declaration, "weak": str(row.weak)} for row in a.externs},
        {row.name: {"": row.kind, "type": row.declaration, "weak": str(row.weak)} for row in b.externs},
    )
    return found


def instruction_diff(old: Look, new: Look) -> list[tuple[str, list[str]]]:
    """For each program that is in both and differs, its name and the lines of a unified diff."""
    found = []
    left, right = _texts(old), _texts(new)
    for name in left:
        if name in right and left[name] != right[name]:
            if max(len(left[name]), len(right[name])) > MAX_LINES:
                found.append((name, [f"  more than {MAX_LINES} lines"]))
            else:
                lines = list(unified_diff(left[name], right[name], n=3, lineterm=""))
                found.append((name, lines[2:]))
    return found


def _programs(old: Look, new: Look, a: Description, b: Description) -> list[Change]:
    texts = _texts(old), _texts(new)
    left = {row.name: _program_facts(row) for row in (*a.programs, *a.functions)}
    right = {row.name: _program_facts(row) for row in (*b.programs, *b.functions)}
    found = _rows("program", left, right)
    for name, before in texts[0].items():
        after = texts[1].get(name, before)
        if before != after:
            words = "many of both" if max(len(before), len(after)) > MAX_LINES else _amount(before, after)
            found.append(Change("program", name, "code", f"{len(before)} lines", words))
    return found


def _amount(before: list[str], after: list[str]) -> str:
    removed = added = 0
    for tag, a, b, c, d in SequenceMatcher(None, before, after, autojunk=True).get_opcodes():
        if tag != "equal":
            removed += b - a
            added += d - c
    return f"{removed} instructions gone, {added} new"


def _texts(look: Look) -> dict[str, list[str]]:
    """The instructions of each program and function by name, with names in place of distances."""
    made = Disassembly(look)
    found: dict[str, list[str]] = {}
    for function in [entry.function for entry in look.file.entries] or look.linker.functions.values():
        try:
            lines = made.lines(function)
        except FormatError:
            continue
        name = ""
        for line in lines:
            if line.kind == "function":
                name = line.text
                found[name] = []
            elif line.kind == "instruction":
                # Labels are named by their slots, which differ behind every instruction that is new.
                text, goto, _ = line.text.partition(" goto ")
                found[name].append(text + goto)
    return found


def _program_facts(row: ProgramRow) -> dict[str, str]:
    return {
        "": f"{row.instructions} instructions",
        "section": row.section,
        "type": row.type,
        "attach type": row.attach_type,
        "instructions": str(row.instructions),
        "functions": ", ".join(sorted(row.calls)),
        "helpers": ", ".join(sorted(row.helpers)),
        "kernel functions": ", ".join(sorted(row.kfuncs)),
        "maps": ", ".join(sorted(row.maps)),
    }


def _map_facts(row: Any) -> dict[str, str]:
    return {
        "": f"{row.type} of {row.max_entries}",
        "type": row.type,
        "key": f"{row.key} ({row.key_size})".strip(),
        "value": f"{row.value} ({row.value_size})".strip(),
        "entries": str(row.max_entries),
        "flags": " ".join(row.flags),
        "extra": f"{row.extra:#x}",
        "pinned": str(row.pinned),
        "inner map": repr(_map_facts(row.inner)) if row.inner is not None else "",
        "first entries": ", ".join(f"[{key}] = {name}" for key, name in row.entries),
    }


def _variables(found: Description) -> dict[str, dict[str, str]]:
    return {
        f"{row.name} in {row.section}": {
            "": row.declaration,
            "type": row.declaration,
            "bytes": str(row.size),
            "value": "zeros" if row.data == b"" else "" if row.data is None else row.data.hex(" "),
        }
        for row in found.globals
    }


def _rows(
    kind: str, left: Mapping[str, Mapping[str, str]], right: Mapping[str, Mapping[str, str]]
) -> list[Change]:
    found: list[Change] = []
    for name in _all(left, right):
        if name not in right:
            found.append(Change(kind, name, "", left[name][""], ""))
        elif name not in left:
            found.append(Change(kind, name, "", "", right[name][""]))
        else:
            found += [
                Change(kind, name, what, left[name][what], right[name][what])
                for what in left[name]
                if what and left[name][what] != right[name][what]
            ]
    return found


def _all(left: Iterable[str], right: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*left, *right)))
