"""What ``tracebee load`` has made: the object, its programs with their places, its maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.cli.selection import terminal_width
from tracebee.render.tables import Column, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.session.objects.object import Object
    from tracebee.session.objects.programs import ObjectLink, ObjectProgram

INDENT = "  "


def as_text(found: Object, links: Sequence[ObjectLink], pinned: Sequence[str], path: str) -> list[str]:
    """A head, a table of programs, a table of maps."""
    width = terminal_width()
    room = None if width is None else width - len(INDENT)
    where = "the kernel" if found.backend == "kernel" else "tracebee's engine, fed by ptrace"
    programs = found.loaded_programs
    maps = [one.name for one in found.loaded_spec.maps if not one.name.startswith(".")]
    head = f"{path}: {count(len(programs), 'program')} and {count(len(maps), 'map')} in {where}"
    lines = [head + (f", license {found.license}" if found.license else "")]
    rows = [row for program in programs for row in program_rows(found, program, links)]
    columns = [
        Column("PROGRAM"),
        Column("ID", right=True),
        Column("ATTACHED TO", free=True),
        Column("LINK", right=True),
    ]
    lines += [INDENT + line for line in table(columns, rows, room)]
    if maps:
        columns = [
            Column("MAP"),
            Column("ID", right=True),
            Column("TYPE"),
            Column("KEY", free=True),
            Column("VALUE", free=True),
            Column("ENTRIES", right=True),
        ]
        lines += [INDENT + line for line in table(columns, [map_row(found, name) for name in maps], room)]
    if pinned:
        lines.append(f"pinned: {', '.join(pinned)}")
    return [*lines, ""]


def count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def program_rows(found: Object, program: ObjectProgram, links: Sequence[ObjectLink]) -> list[list[str]]:
    """A row for each place of a program, or one that says how it gets to one."""
    number = str(program.id) if found.backend == "kernel" else ""
    mine = [link for link in links if link.program == program.name]
    if not mine:
        words, example = program.target
        how = f"nothing yet: it needs {words}" if words else "nothing: it is called, or run"
        how = f"nothing yet: --attach {program.name}:{example}" if example else how
        return [[program.name, number, how, ""]]
    rows = []
    for link in mine:
        left_out = f" ({len(link.skipped)} left out)" if link.skipped else ""
        rows.append([program.name, number, link.name + left_out, str(link.id or "")])
        number = ""
    return rows


def map_row(found: Object, name: str) -> list[str]:
    spec = next(one for one in found.loaded_spec.maps if one.name == name)
    number = str(found.maps[name].id) if found.backend == "kernel" else ""
    key, value = (type_text(found, one, size) for one, size in map_types(spec))
    return [name, number, spec.type.lower(), key, value, str(spec.max_entries or "")]


def map_types(spec: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return (spec.key_type, spec.key_size), (spec.value_type, spec.value_size)


def type_text(found: Object, type_id: int, size: int) -> str:
    """A type as C has it, else its size."""
    if found.btf is not None and type_id:
        from tracebee.btf.format import declaration

        return declaration(found.btf, type_id)
    return count(size, "byte") if size else ""


def as_json(found: Object, links: Sequence[ObjectLink], pinned: Sequence[str]) -> dict[str, Any]:
    """The same for programs to read."""
    is_kernel = found.backend == "kernel"
    programs = []
    for program in found.loaded_programs:
        row: dict[str, Any] = {"name": program.name, "type": program.type.lower(), "section": program.section}
        if is_kernel:
            row["id"] = program.id
        row["attached"] = [
            {"to": link.name} | ({"link_id": link.id} if link.id else {})
            for link in links
            if link.program == program.name
        ]
        programs.append(row)
    maps = []
    for name, one in found.maps.items():
        spec = one.spec
        row = {
            "name": name,
            "type": spec.type.lower(),
            "bytes_key": spec.key_size,
            "bytes_value": spec.value_size,
        }
        row["max_entries"] = spec.max_entries
        if is_kernel:
            row["id"] = one.id
        maps.append(row)
    return {
        "object": found.name,
        "backend": found.backend,
        "license": found.license,
        "programs": programs,
        "maps": maps,
        "pinned": list(pinned),
    }
