"""``tracebee object show``: what an object has, and what it asks of a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.cli.object.target import kernel_of
from tracebee.cli.selection import print_lines, terminal_width
from tracebee.errors import UsageError
from tracebee.render.tables import Column, block, cut, table
from tracebee.session.objects.btffile import read_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.object.describe import Description, Look, MapRow, ProgramRow
    from tracebee.object.disassembly import CodeLine
    from tracebee.object.link import Function

QUIET_ROLES = ("names", "symbols", "tools", "unused", "debug", "relocations", "types", "records", "none")
"""Sections that are left out where nobody asked for all of them."""

MAX_DEFINITIONS = 1 << 24
"""Characters of types in C; a kernel's own types have 3 million."""

PARTS = ("disasm", "relocations", "sections", "types")


class Wish(NamedTuple):
    """What the command line asks for.

    `parts` are of PARTS, `program` the one to be disassembled, empty for all.
    """

    file: str
    btf: str
    parts: frozenset[str]
    program: str
    json: bool
    pretty: bool


def run_show(words: Sequence[str]) -> int:
    """Run ``tracebee object show``; 1 if the object cannot be loaded.  Raises TracebeeError."""
    from tracebee.object.describe import Look

    wish = read_words(words)
    look = Look(read_file(wish.file), wish.file, kernel_of(wish.btf))
    if wish.json or wish.pretty:
        import json

        print(json.dumps(as_json(look, wish), indent=4 if wish.pretty else None))
    else:
        print_lines(as_text(look, wish, terminal_width()))
    return 1 if look.problems.found else 0


def read_words(words: Sequence[str]) -> Wish:
    """The words behind ``object show``.  Raises UsageError."""
    files: list[str] = []
    parts: set[str] = set()
    btf = program = ""
    flags: set[str] = set()
    after_disasm = -1
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name == "--btf":
            if not equals and not rest:
                raise UsageError("--btf: which file?", "a file with BTF, or none")
            btf = value if equals else rest.pop(0)
        elif name == "--disasm" and equals:
            parts.add("disasm")
            program = value
        elif word.startswith("--") and word[2:] in PARTS:
            parts.add(word[2:])
            if word == "--disasm":
                after_disasm = len(files)
        elif word in ("-j", "--json", "-p", "--pretty"):
            flags.add(word.lstrip("-")[0])
        elif word.startswith("-") and word != "-":
            raise UsageError(
                f"unknown option {word}",
                "the options are --btf, --disasm, --relocations, --sections, --types, -j, -p",
            )
        else:
            files.append(word)
    if len(files) == 2 and after_disasm >= 0:
        program = files.pop(after_disasm if after_disasm < 2 else 1)
    if len(files) != 1:
        raise UsageError(
            f"what is {files[1]!r}?" if files else "which object?", "tracebee object show FILE.o"
        )
    return Wish(files[0], btf, frozenset(parts), program, "j" in flags, "p" in flags)


# --- JSON


def as_json(look: Look, wish: Wish) -> dict[str, Any]:
    """The object as JSON can hold it."""
    from tracebee.object.rows import initial_value, plain

    found = look.describe()
    value: dict[str, Any] = plain(found)
    for row, one in zip(value["globals"], found.globals, strict=True):
        row["value"] = initial_value(one, look.btf, found.byteorder)[0]
        del row["data"], row["type_id"]
    value["problems"] = [{"problem": what, "hint": hint} for what, hint in found.problems]
    value["notes"] = [{"note": what, "hint": hint} for what, hint in found.notes]
    if "relocations" in wish.parts:
        from tracebee.object.relocations import relocation_rows

        value["relocations"] = plain(relocation_rows(look))
    if "types" in wish.parts:
        value["type_definitions"] = type_lines(look)
    if "disasm" in wish.parts:
        from tracebee.object.disassembly import Disassembly

        disassembly = Disassembly(look)
        value["disassembly"] = {
            function.name: plain(disassembly.lines(function)) for function in wanted(look, wish.program)
        }
    return value


# --- text


def as_text(look: Look, wish: Wish, width: int | None) -> list[str]:
    """The lines to be printed; `width` is the terminal's, or None for as wide as it takes."""
    found = look.describe()
    lines: list[str] = []
    if not wish.parts:
        lines += overview(found)
    if not wish.parts or "sections" in wish.parts:
        lines += sections(found, "sections" in wish.parts, width)
    if not wish.parts:
        lines += programs(found, width)
        lines += maps(found, width)
        lines += structures(found, width)
        lines += variables(look, found, width)
        lines += externs(found, width)
        lines += core(found, width)
    if "relocations" in wish.parts:
        lines += relocations(look, width)
        lines += core(found, width)
    if "types" in wish.parts:
        lines += type_lines(look)
    if "disasm" in wish.parts:
        lines += disassembly(look, wish.program, width)
    lines += wrong(found, width)
    return lines[1:] if lines and not lines[0] else lines


def overview(found: Description) -> list[str]:
    facts = [
        ("byte order", found.byteorder),
        ("license", found.license),
        ("made for version", f"{found.version:#x}" if found.version else ""),
        ("types", f"{found.types} (BTF)" if found.types else "none"),
        ("asked", found.kernel),
    ]
    return [f"{found.name}: an object for eBPF", *block(facts)]


def under(
    heading: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> list[str]:
    """A heading and a table below it, nothing where there is no row."""
    if not rows:
        return []
    room = None if width is None else width - 2
    return ["", heading, *(f"  {line}" for line in table(columns, rows, room))]


def sections(found: Description, everything: bool, width: int | None) -> list[str]:
    rows = [
        (str(row.number), row.name, str(row.size), " ".join(row.flags), row.words)
        for row in found.sections
        if everything or (row.size and row.role not in QUIET_ROLES)
    ]
    columns = (
        Column("#", right=True),
        Column("NAME", free=True),
        Column("BYTES", right=True),
        Column("FLAGS"),
        Column("WHAT FOR", free=True),
    )
    return under("Sections:", columns, rows, width)


def programs(found: Description, width: int | None) -> list[str]:
    rows = []
    for row in found.programs:
        hook = row.hook or f"nothing that is known: {row.hint or row.problem}"
        hook += ", sleepable" if row.sleepable else ""
        hook += "" if row.loads or row.problem else " (loaded on request only)"
        attach = row.attach_type + (f" {row.attach_to}" if row.attach_to else "")
        rows.append((row.name, row.section, hook, row.type, attach.strip(), count(row), place(row)))
    columns = (
        Column("NAME", free=True),
        Column("SECTION", free=True),
        Column("FOR", free=True),
        Column("TYPE"),
        Column("ATTACH", free=True),
        Column("INSNS", right=True),
        Column("SOURCE", free=True),
    )
    lines = under("Programs:", columns, rows, width)
    others = [(row.name, row.section, count(row), place(row)) for row in found.functions]
    lines += under("Functions:", (columns[0], columns[1], columns[5], columns[6]), others, width)
    calls = [
        (row.name, ", ".join(row.calls), ", ".join([*row.helpers, *row.kfuncs]), ", ".join(row.maps))
        for row in found.programs
        if row.calls or row.helpers or row.kfuncs or row.maps
    ]
    uses = (
        Column("PROGRAM", free=True),
        Column("CALLS", free=True),
        Column("OF THE KERNEL", free=True),
        Column("MAPS", free=True),
    )
    return lines + under("What they use:", uses, calls, width)


def count(row: ProgramRow) -> str:
    """Instructions: its own, and with the functions that it calls."""
    if row.all_instructions == row.instructions:
        return str(row.instructions)
    return f"{row.instructions} ({row.all_instructions})"


def place(row: ProgramRow) -> str:
    if not row.file:
        return ""
    first, last = row.lines
    return f"{row.file.rpartition('/')[2]}:{first}" + (f"-{last}" if last != first else "")


def maps(found: Description, width: int | None) -> list[str]:
    rows = []
    for row in found.maps:
        rows.append(map_cells(row, row.name))
        if row.inner is not None:
            rows.append(map_cells(row.inner, "  each of them"))
    columns = (
        Column("NAME", free=True),
        Column("TYPE"),
        Column("KEY", free=True),
        Column("VALUE", free=True),
        Column("ENTRIES", right=True),
        Column("MORE", free=True),
    )
    return under("Maps:", columns, rows, width)


def structures(found: Description, width: int | None) -> list[str]:
    lines: list[str] = []
    for one in found.struct_ops:
        how = "kept by a link" if one.by_link else "from when it is updated"
        columns = (Column("MEMBER", free=True), Column("AS", free=True), Column("IS", free=True))
        lines += under(
            f"struct {one.type} {one.name} for the kernel to call, {how}:", columns, one.members, width
        )
    return lines


def map_cells(row: MapRow, name: str) -> tuple[str, ...]:
    more = list(row.flags)
    more += ["frozen"] if row.frozen else []
    more += ["pinned by name"] if row.pinned else []
    more += [f"extra {row.extra:#x}"] if row.extra else []
    more += [f"[{index}] = {name}" for index, name in row.entries]
    return (
        name,
        row.type or "unknown",
        sized(row.key, row.key_size),
        sized(row.value, row.value_size),
        str(row.max_entries),
        ", ".join(more),
    )


def sized(declaration: str, size: int) -> str:
    """A type with its size, such as ``struct pair (16)``; the bytes where there is no type."""
    text = " ".join(declaration.split())
    return f"{text} ({size})" if text else f"{size} bytes" if size else ""


def variables(look: Look, found: Description, width: int | None) -> list[str]:
    from tracebee.object.rows import initial_value

    rows = []
    for row in found.globals:
        text = "0" if row.data == b"" else initial_value(row, look.btf, found.byteorder)[1]
        shown = f"{' '.join(row.declaration.split())}"
        rows.append((row.section, str(row.offset), str(row.size), row.linkage, shown, cut(text, 200)))
    columns = (
        Column("SECTION"),
        Column("AT", right=True),
        Column("BYTES", right=True),
        Column("LINKAGE"),
        Column("VARIABLE", free=True),
        Column("VALUE", free=True),
    )
    return under("Variables:", columns, rows, width)


def externs(found: Description, width: int | None) -> list[str]:
    words = {"function": "kernel function", "variable": "kernel variable", "address": "kernel symbol"}
    rows = []
    for row in found.externs:
        answer = {None: "", True: "yes", False: "no, and it may" if row.weak else "no"}[row.found]
        kind = words.get(row.kind, "configuration")
        text = " ".join(row.declaration.split())
        rows.append((row.name, kind, text, "weak" if row.weak else "", answer, row.where))
    columns = (
        Column("NAME", free=True),
        Column("WHAT"),
        Column("AS", free=True),
        Column("WEAK"),
        Column("HERE"),
        Column("VALUE", free=True),
    )
    return under("From the kernel:", columns, rows, width)


def core(found: Description, width: int | None) -> list[str]:
    rows = []
    for row in found.core:
        here = str(row.here) if row.here is not None else "not here" if row.why and found.kernel else ""
        before = "" if row.in_object is None else str(row.in_object)
        name = row.function or row.section
        why = row.why
        if row.reached is not None and why:
            why = f"{'reached' if row.reached else 'never reached'}; {why}"
        rows.append((name, str(row.slot), row.question, row.subject, before, here, why))
    columns = (
        Column("PROGRAM", free=True),
        Column("INSN", right=True),
        Column("ASKS FOR", free=True),
        Column("OF", free=True),
        Column("IN OBJECT", right=True),
        Column("HERE", right=True),
        Column("WHY NOT", free=True),
    )
    lines = under("CO-RE relocations:", columns, rows, width)
    if any(row.reached for row in found.core):
        lines.append(
            "  What is not here becomes a call of no function, which is refused where it is reached."
        )
    return lines


def relocations(look: Look, width: int | None) -> list[str]:
    from tracebee.object.relocations import relocation_rows

    rows = [
        (row.section, str(row.offset), row.function, row.type, row.symbol, row.words)
        for row in relocation_rows(look)
    ]
    columns = (
        Column("SECTION", free=True),
        Column("AT BYTE", right=True),
        Column("FUNCTION", free=True),
        Column("TYPE"),
        Column("SYMBOL", free=True),
        Column("REFERS TO", free=True),
    )
    return under("Relocations:", columns, rows, width)


def type_lines(look: Look) -> list[str]:
    """The named types of an object in C."""
    from tracebee.btf.format import definition
    from tracebee.btf.types import Composite, Enumeration, Typedef
    from tracebee.errors import FormatError

    if look.btf is None:
        return []
    lines: list[str] = []
    room = MAX_DEFINITIONS
    for type_id, _ in look.btf.names_of_kind((Composite, Enumeration, Typedef)):
        if room < 0:
            return [*lines, "", "and more"]
        try:
            text = definition(look.btf, type_id)
        except FormatError as error:
            look.problems.take(error)
            continue
        room -= len(text)
        lines += ["", *text.split("\n")]
    return lines


def wanted(look: Look, program: str) -> list[Function]:
    """The programs to be disassembled.  Raises UsageError if there is none of this name."""
    functions = [entry.function for entry in look.file.entries]
    if not functions:
        functions = list(look.linker.functions.values())
    found = [function for function in functions if program in ("", function.name)]
    if not found and program:
        others = [one for one in look.linker.functions.values() if one.name == program]
        if others:
            return others
        from tracebee.language.diagnostics import nearest

        names = [function.name for function in functions]
        raise UsageError(
            f"there is no program {program!r} in {look.file.name}",
            nearest(program, names) or f"the programs are {', '.join(names)}",
        )
    return found


def disassembly(look: Look, program: str, width: int | None) -> list[str]:
    from tracebee.errors import FormatError
    from tracebee.object.disassembly import Disassembly

    made = Disassembly(look)
    lines: list[str] = []
    for function in wanted(look, program):
        section = look.elf.sections[function.section].name
        lines += ["", f"program {function.name} in {section}:"]
        try:
            lines += laid_out(made.lines(function), width)
        except FormatError as error:
            lines.append(f"    {error}")
    return lines


def laid_out(rows: Iterable[CodeLine], width: int | None) -> list[str]:
    """Instructions behind their slots, their notes side by side behind them."""
    lines = []
    for row in rows:
        if row.kind == "function":
            lines.append(f"{row.text}:")
        elif row.kind == "label":
            lines.append(f"  {row.text}:")
        elif row.kind == "source":
            lines.append(f"; {row.text}    [{row.place}]" if row.text else f"; [{row.place}]")
        else:
            text = f"{row.slot:6d}: {row.text}"
            lines.append(f"{text:<52}  ; {row.note}" if row.note else text)
    return [cut(line, width) if width is not None else line for line in lines]


def wrong(found: Description, width: int | None) -> list[str]:
    """What keeps the object from being loaded, and what is worth knowing."""
    lines: list[str] = []
    for heading, rows in (("What is wrong:", found.problems), ("Notes:", found.notes)):
        if rows:
            lines += ["", heading]
        for what, hint in rows[:50]:
            lines += block([("-", what + (f"\n{hint}" if hint else ""))], "  ", width)
        if len(rows) > 50:
            lines.append(f"  - and {len(rows) - 50} more")
    return lines
