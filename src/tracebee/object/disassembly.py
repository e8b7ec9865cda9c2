"""A program of an object as lines of text: instructions, their source, and names for what they refer to."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.core import POISON
from tracebee.errors import FormatError
from tracebee.insn.codec import KernelSymbol, Kfunc, MapValue
from tracebee.insn.disasm import format_insn, label_targets
from tracebee.object.elf import STT_SECTION, shown
from tracebee.object.externs import KCONFIG

if TYPE_CHECKING:
    from tracebee.btf.ext import LineInfo
    from tracebee.insn.codec import Insn
    from tracebee.object.describe import CoreRow, Look
    from tracebee.object.link import Function, Linked


class CodeLine(NamedTuple):
    """A line: `kind` is "function", "source", "label" or "instruction".

    `slot` counts from the start of the program.  `note` says of an instruction what its text does not; `place` is
    the file and line of the source.
    """

    kind: str
    slot: int
    text: str
    note: str = ""
    place: str = ""


class Variables:
    """Which variable is at a byte of a section, or of the map .kconfig."""

    def __init__(self, look: Look) -> None:
        self._rows: dict[str, tuple[list[int], list[tuple[str, int]]]] = {}
        for one in look.file.data:
            symbols = sorted(
                (symbol.value, symbol.name, symbol.size)
                for symbol in look.elf.symbols_in(one.section)
                if symbol.name and symbol.type != STT_SECTION
            )
            self._rows[one.spec.name] = [row[0] for row in symbols], [row[1:] for row in symbols]
        config = sorted((one.offset, one.name) for one in look.externs if one.kind == "config")
        self._rows[KCONFIG] = [row[0] for row in config], [(row[1], 1 << 20) for row in config]

    def at(self, ref: MapValue) -> str:
        """Such as ``opened`` or ``opened + 8``; empty where no variable is known."""
        starts, names = self._rows.get(ref.name, ([], []))
        index = bisect_right(starts, ref.offset) - 1
        if index < 0:
            return ""
        inside = ref.offset - starts[index]
        name, size = names[index]
        if inside and inside >= size:
            return ""
        return f"{name} + {inside}" if inside else name


class Disassembly:
    """Makes lines of the programs of an object."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.variables = Variables(look)
        self.core: dict[tuple[str, int], CoreRow] = {}
        if look.file.ext is not None and look.btf is not None:
            for section, relos in look.file.ext.core_relos.items():
                for relo in relos:
                    self.core[section, relo.insn_offset] = look.core_row(section, relo, look.btf)

    def lines(self, function: Function) -> list[CodeLine]:
        """A program with the functions that it calls.  Raises FormatError if it cannot be had."""
        linked = self.look.linked(function)
        if linked is None:
            raise FormatError(f"program {shown(function.name)} cannot be put together")
        labels = label_targets(linked.insns)
        starts = {base: part for part, base in linked.parts}
        labels |= {base: part.name for base, part in starts.items()}
        sources = self._sources(linked)
        found: list[CodeLine] = []
        part, base = function, 0
        slot = 0
        for insn in linked.insns:
            if slot in starts:
                part, base = starts[slot], slot
                found.append(CodeLine("function", slot, part.name))
            elif slot in labels:
                found.append(CodeLine("label", slot, labels[slot]))
            line = sources.get(slot)
            if line is not None:
                found.append(self._source(slot, line))
            section = self.look.elf.sections[part.section].name
            row = self.core.get((section, slot - base + part.start))
            text = format_insn(insn, slot, labels=labels)
            found.append(CodeLine("instruction", slot, text, self._note(insn, row)))
            slot += insn.slots
        return found

    def _sources(self, linked: Linked) -> dict[int, LineInfo]:
        """The last record of each slot that begins another line than the one before."""
        found: dict[int, LineInfo] = {}
        before = None
        for record in linked.line_info:
            place = record.file, record.line
            if place != before and record.line:
                found[record.insn_offset] = record  # type: ignore[assignment]
            before = place
        return found

    def _source(self, slot: int, line: LineInfo) -> CodeLine:
        btf = self.look.btf
        assert btf is not None
        try:
            text, file = btf.string(line.text).strip(), btf.string(line.file)
        except FormatError as error:
            self.look.problems.take(error)
            text = file = ""
        return CodeLine("source", slot, text, "", f"{file.rpartition('/')[2]}:{line.line}")

    def _note(self, insn: Insn, row: CoreRow | None) -> str:
        notes = []
        if isinstance(insn.ref, MapValue):
            name = self.variables.at(insn.ref)
            notes.append(f"&{name}" if name else "")
        elif isinstance(insn.ref, KernelSymbol):
            notes.append("of the kernel")
        elif isinstance(insn.ref, Kfunc):
            notes.append("a function of the kernel")
        if row is not None:
            notes.append(core_note(row))
            if insn.imm == POISON:
                section, slot = row.section, row.slot
                reached = (section, slot) in self.look.come_to
                notes.append("refused, for it is reached" if reached else "never reached")
        return "; ".join(note for note in notes if note)


def core_note(row: CoreRow) -> str:
    """A CO-RE relocation in a few words: ``offset of the field struct task.pid: 8, here 12``."""
    what = f"{row.question} {row.subject}".rstrip()
    if row.here is not None:
        same = row.here == row.in_object
        return f"{what}: {row.here}" if same else f"{what}: {row.in_object}, here {row.here}"
    value = f": {row.in_object}" if row.in_object is not None else ""
    return f"{what}{value}, not here: {row.why}" if row.why else f"{what}{value}"
