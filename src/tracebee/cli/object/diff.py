"""``tracebee object diff``: what changed between two objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.object.target import kernel_of
from tracebee.cli.selection import print_lines, terminal_width
from tracebee.errors import UsageError
from tracebee.render.tables import Column, cut, table
from tracebee.session.objects.btffile import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_diff(words: Sequence[str]) -> int:
    """Run ``tracebee object diff``; 1 if the objects differ.  Raises TracebeeError."""
    from tracebee.object.compare import compare, instruction_diff
    from tracebee.object.describe import Look

    files = [word for word in words if not word.startswith("-") or word == "-"]
    flags = {word.removeprefix("--") for word in words if word not in files}
    unknown = flags - {"disasm", "-j", "-p", "json", "pretty"}
    if unknown:
        raise UsageError(f"unknown option {sorted(unknown)[0]}", "the options are --disasm, -j, -p")
    if len(files) != 2:
        raise UsageError("two objects are needed", "tracebee object diff OLD.o NEW.o")
    looks = [Look(read_file(file), file, kernel_of("none")) for file in files]
    changes = compare(looks[0], looks[1])
    code = instruction_diff(looks[0], looks[1]) if "disasm" in flags else []
    if flags - {"disasm"}:
        import json

        from tracebee.object.rows import plain

        value = {"changes": plain(changes), "code": dict(code)}
        print(json.dumps(value, indent=4 if flags & {"-p", "pretty"} else None))
        return 1 if changes else 0
    columns = (
        Column("WHAT"),
        Column("NAME", free=True),
        Column("ABOUT IT"),
        Column(files[0], free=True),
        Column(files[1], free=True),
    )
    width = terminal_width()
    rows = [
        (
            one.kind,
            one.name,
            one.what or "there",
            one.before or ("none" if one.what else "no"),
            one.after or ("none" if one.what else "no"),
        )
        for one in changes
    ]
    lines = table(columns, rows, width) if rows else ["nothing differs"]
    for name, diff in code:
        lines += ["", f"{name}:", *(cut(f"  {line}", width) if width else f"  {line}" for line in diff)]
    print_lines(lines)
    return 1 if changes else 0
