"""An object as values to be shown: everything that can be read of it, and then what is wrong.

Nothing is refused here but what is no object at all.  What an object asks of a kernel is answered where a
`Kernel` is given.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.core import KIND_NAMES, POISON, QUESTIONS, Targets, Unresolved, essential, resolve, spelled
from tracebee.btf.format import declaration
from tracebee.btf.types import Datasec, Var
from tracebee.errors import FormatError
from tracebee.insn.codec import CALL, Insn, KernelSymbol, Kfunc, MapFd, MapValue
from tracebee.insn.helpers import helper_name
from tracebee.object.elf import SHN_UNDEF, STB_LOCAL, STB_WEAK, STT_SECTION, shown
from tracebee.object.externs import Extern, declared, setting
from tracebee.object.link import Linked, Linker
from tracebee.object.maps import flag_names
from tracebee.object.problems import Problems
from tracebee.object.purposes import ARENA, flag_words, purpose_of
from tracebee.object.reach import reachable
from tracebee.object.reader import Entry, ObjectFile
from tracebee.object.structops import StructOps, read_struct_ops

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracebee.btf.ext import CoreRelo, LineInfo
    from tracebee.btf.reader import Btf
    from tracebee.object.link import Function
    from tracebee.spec.objects import MapSpec

MAX_ROWS = 100_000
"""Rows of one kind; a few bytes of types can ask for more."""


MAX_SLOTS = 1 << 19
"""Instructions that are put together to be looked at, of all programs and functions with those that they call."""


MAX_TEXT = 1 << 22
"""Characters of declarations and bytes of variables together: symbols may share bytes, and types be repeated."""

LARGEST_VALUE = 1 << 14
"""Bytes of a variable that are shown; of a larger one only the size is told."""


class Kernel(NamedTuple):
    """What is known of the kernel that an object's questions are answered by; each part may be unknown.

    `find` gives the module that has a function ("function") or a variable ("variable") with a type, empty for
    the kernel itself, None if there is none.  `has_symbol` tells of symbols without types; `modules` gives the
    types of the modules, which are looked at where the kernel itself has no answer.
    """

    name: str
    btf: Btf | None = None
    kconfig: Mapping[str, str] | None = None
    version: int = 0
    find: Callable[[str, str], str | None] | None = None
    has_symbol: Callable[[str], bool | None] | None = None
    modules: Callable[[], Mapping[str, Btf]] | None = None


class SectionRow(NamedTuple):
    """A section: `role` in a word, what it is for in `words`, `flags` by name, `size` in bytes."""

    number: int
    name: str
    size: int
    flags: list[str]
    role: str
    words: str


class ProgramRow(NamedTuple):
    """A program.

    `instructions` counts slots of 8 bytes, `all_instructions` with those of the functions that it calls, which
    are in `calls`.  `lines` are the first and the last of `file`; (0, 0) where that is unknown.  `loads` is false
    for one that is only loaded on request (a "?").
    """

    name: str
    section: str
    hook: str
    type: str
    attach_type: str
    attach_to: str
    loads: bool
    sleepable: bool
    instructions: int
    all_instructions: int
    file: str
    lines: tuple[int, int]
    calls: list[str]
    helpers: list[str]
    kfuncs: list[str]
    maps: list[str]
    problem: str
    hint: str


class MapRow(NamedTuple):
    """A map; `key` and `value` are C declarations, empty where there is no type.

    `type` is empty, and the sizes are 0, of a map whose definition cannot be read.
    """

    name: str
    section: str
    type: str
    key: str
    key_size: int
    value: str
    value_size: int
    max_entries: int
    flags: list[str]
    extra: int
    pinned: bool
    frozen: bool
    inner: MapRow | None
    entries: list[tuple[int, str]]


class GlobalRow(NamedTuple):
    """A variable.

    `data` is its initial value, empty for zeros and None where that is too much to be shown; `type_id` is its type
    or 0, and `declaration` says both in C.
    """

    name: str
    section: str
    offset: int
    size: int
    declaration: str
    type_id: int
    linkage: str
    data: bytes | None


class ExternRow(NamedTuple):
    """What an object takes from the kernel.

    `found` is None where that is not known; `where` says what was found, `declaration` what was wanted.
    """

    name: str
    kind: str
    declaration: str
    weak: bool
    found: bool | None
    where: str


class CoreRow(NamedTuple):
    """A CO-RE relocation.

    `in_object` and `here` are the values that the instruction has and gets; `here` is None where the kernel has no
    answer, for the reason in `why`, or where no kernel was asked.  `reached` says of what is not here whether a
    program comes to it; None where that does not matter.
    """

    section: str
    function: str
    slot: int
    kind: str
    question: str
    subject: str
    in_object: int | None
    here: int | None
    why: str
    reached: bool | None = None


class Description(NamedTuple):
    """All of an object.  `problems` keep it from being loaded, `notes` may; each is (what, hint)."""

    name: str
    byteorder: str
    license: str
    version: int | None
    types: int
    kernel: str
    sections: list[SectionRow]
    programs: list[ProgramRow]
    functions: list[ProgramRow]
    maps: list[MapRow]
    struct_ops: list[StructOps]
    globals: list[GlobalRow]
    externs: list[ExternRow]
    core: list[CoreRow]
    problems: list[tuple[str, str]]
    notes: list[tuple[str, str]]


class Look:
    """An object that is looked at: the file, and its code as far as it can be bound."""

    def __init__(self, data: bytes, name: str = "", kernel: Kernel | None = None) -> None:
        """Raises FormatError if there is no object to look at."""
        self.kernel = kernel or Kernel("")
        self.problems = Problems(keeps=True)
        self.file = ObjectFile(data, name, self.problems)
        self.elf = self.file.elf
        self.btf = self.file.btf
        self.externs = declared(self.elf, self.btf, self.problems)
        self.targets: Targets | None = None
        if self.kernel.btf is not None:
            modules = self.kernel.modules
            self.targets = Targets(self.kernel.btf, None if modules is None else lambda: modules().values())
        self.linker = Linker(
            self.elf,
            self.btf,
            self.file.ext,
            self.file.maps,
            self.file.data,
            {extern.name: extern for extern in self.externs},
            self.targets,
            self.problems,
        )
        self.struct_ops = read_struct_ops(self.elf, self.btf, self.problems)
        self.linker.budget = MAX_SLOTS
        self.room = MAX_TEXT
        self._linked: dict[Function, Linked | None] = {}

    def linked(self, function: Function) -> Linked | None:
        """A function with all that it calls; None if that cannot be had."""
        if function not in self._linked:
            made = None
            if function.section in self.linker.code:
                try:
                    made = self.linker.link(function)
                except FormatError as error:
                    self.problems.take(error)
            self._linked[function] = made
        return self._linked[function]

    @cached_property
    def _by_section(self) -> dict[str, list[Function]]:
        """The functions of each section by name, in order."""
        found: dict[str, list[Function]] = {}
        for _, function in sorted(self.linker.functions.items()):
            found.setdefault(self.elf.sections[function.section].name, []).append(function)
        for functions in found.values():
            functions.sort(key=lambda function: function.start)
        return found

    def function_at(self, section: str, slot: int) -> str:
        """The name of the function that has a slot of a section, empty if none has."""
        functions = self._by_section.get(section, [])
        index = bisect_right(functions, slot, key=lambda function: function.start) - 1
        return functions[index].name if index >= 0 and slot < functions[index].end else ""

    def describe(self) -> Description:
        """Everything, and what was wrong on the way."""
        programs = [self._program(entry) for entry in self.file.entries[:MAX_ROWS]]
        functions = [self._function(function) for function in self._others()]
        maps = self._maps()
        found_globals = self._globals()
        self.answers  # noqa: B018 - what is missing is a problem
        core = self._core()
        sections = self._sections()
        problems = list(dict.fromkeys((str(error), error.hint) for error in self.problems.found))
        return Description(
            self.file.name,
            self.file.byteorder,
            self.file.license,
            self._version(),
            len(self.btf) - 1 if self.btf is not None else 0,
            self.kernel.name,
            sections,
            programs,
            functions,
            maps,
            self.struct_ops,
            found_globals,
            self.answers,
            core,
            problems,
            self._notes(),
        )

    # --- parts

    def _sections(self) -> list[SectionRow]:
        hooks: dict[str, str] = {}
        for entry in self.file.entries:
            words = entry.hook.hook.words
            if words:
                verb = "that is" if words.startswith("run ") else "for"
                hooks[entry.section] = f"a program {verb} {words}"
        counts: dict[str, int] = {}
        for entry in self.file.entries:
            counts[entry.section] = counts.get(entry.section, 0) + 1
        rows = []
        for section in self.elf.sections[1:]:
            purpose = purpose_of(self.elf, section, hooks)
            words = purpose.words
            if counts.get(section.name, 0) > 1 and words.startswith("a program"):
                words = f"{counts[section.name]} programs{words.removeprefix('a program')}"
            flags = flag_words(section)
            rows.append(SectionRow(section.number, section.name, section.size, flags, purpose.role, words))
        return rows

    def _program(self, entry: Entry) -> ProgramRow:
        hook = entry.hook.hook
        row = self._function(entry.function)
        attach_to = entry.hook.argument
        if hook.target is not None and attach_to:
            attach_to = f"{hook.target}{attach_to}"
        problem = entry.problem
        return row._replace(
            section=entry.section,
            hook=hook.words,
            type=hook.type,
            attach_type=hook.attach_type,
            attach_to=attach_to,
            loads=entry.hook.loads,
            sleepable=hook.sleepable,
            problem=str(problem) if problem is not None else "",
            hint=problem.hint if problem is not None else "",
        )

    def _others(self) -> list[Function]:
        """The functions that are no programs."""
        mains = {(entry.function.section, entry.function.start) for entry in self.file.entries}
        return [function for place, function in sorted(self.linker.functions.items()) if place not in mains]

    def _function(self, function: Function) -> ProgramRow:
        linked = self.linked(function)
        insns = linked.insns if linked is not None else tuple(self._own(function))
        parts = linked.parts if linked is not None else ()
        file, lines = self._source(function)
        own = function.end - function.start
        maps = [insn.ref.name for insn in insns if isinstance(insn.ref, MapFd | MapValue)]
        return ProgramRow(
            function.name,
            self.elf.sections[function.section].name,
            "",
            "",
            "",
            "",
            True,
            False,
            own,
            sum(part.end - part.start for part, _ in parts) or own,
            file,
            lines,
            [part.name for part, _ in parts[1:]],
            list(dict.fromkeys(name for name in map(called_helper, insns) if name)),
            list(dict.fromkeys(insn.ref.name for insn in insns if isinstance(insn.ref, Kfunc))),
            list(dict.fromkeys(maps)),
            "",
            "",
        )

    def _own(self, function: Function) -> list[Insn]:
        code = self.linker.code.get(function.section)
        if code is None:
            return []
        wanted = range(function.start, min(function.end, len(code.at)))
        return [code.insns[code.at[slot]] for slot in wanted if code.at[slot] >= 0]

    def _source(self, function: Function) -> tuple[str, tuple[int, int]]:
        """The file that a function is in, and its first and last line there."""
        records = self.lines_of(function)
        if not records or self.btf is None:
            return "", (0, 0)
        first = records[0]
        # Line 0 is for what the compiler made up.
        numbers = [record.line for record in records if record.file == first.file and record.line]
        try:
            return self.btf.string(first.file), (min(numbers, default=0), max(numbers, default=0))
        except FormatError as error:
            self.problems.take(error)
            return "", (0, 0)

    def lines_of(self, function: Function) -> list[LineInfo]:
        """The line records of a function, by slots of its section."""
        if self.file.ext is None:
            return []
        # The linker has put them in order.
        records = self.file.ext.line_info.get(self.elf.sections[function.section].name, [])
        first = bisect_left(records, function.start, key=lambda record: record.insn_offset)
        return records[first : bisect_left(records, function.end, key=lambda record: record.insn_offset)]

    def _maps(self) -> list[MapRow]:
        rows = []
        for one in (*self.file.maps, *self.file.data):
            rows.append(self._map(one.spec, self.elf.sections[one.section].name))
        known = {row.name for row in rows}
        section = self.elf.by_name.get(".maps")
        for symbol in self.elf.symbols_in(section.number) if section is not None else ():
            if (
                symbol.name
                and symbol.type != STT_SECTION
                and symbol.name not in known
                and len(rows) < MAX_ROWS
            ):
                # That there is a map can be told, and no more.
                rows.append(MapRow(symbol.name, ".maps", "", "", 0, "", 0, 0, [], 0, False, False, None, []))
        return rows

    def _map(self, spec: MapSpec, section: str) -> MapRow:
        return MapRow(
            spec.name,
            section,
            spec.type,
            self._declared(spec.key_type),
            spec.key_size,
            "" if spec.contents or not spec.key_type else self._declared(spec.value_type),
            spec.value_size,
            spec.max_entries,
            flag_names(spec.flags),
            spec.extra,
            spec.pinned,
            spec.frozen,
            self._map(spec.inner, section) if spec.inner is not None else None,
            list(spec.entries),
        )

    def _declared(self, type_id: int, name: str = "") -> str:
        if self.btf is None or not type_id:
            return ""
        try:
            text = declaration(self.btf, type_id, name) if self.room > 0 else f"type {type_id}"
        except FormatError as error:
            self.problems.take(error)
            return f"type {type_id}"
        self.room -= len(text)
        return text

    def _globals(self) -> list[GlobalRow]:
        rows: list[GlobalRow] = []
        types = self._variables()
        numbers = [one.section for one in self.file.data]
        numbers += [section.number for section in self.elf.sections if section.name == ARENA]
        for number in numbers:
            section = self.elf.sections[number]
            for symbol in sorted(self.elf.symbols_in(number), key=lambda symbol: symbol.value):
                if symbol.type == STT_SECTION or not symbol.name or len(rows) >= MAX_ROWS:
                    continue
                type_id = types.get((section.name, symbol.name), 0)
                data = None if section.data else b""
                if section.data and symbol.size <= min(LARGEST_VALUE, self.room):
                    data = section.data[symbol.value : symbol.value + symbol.size]
                    self.room -= len(data)
                linkage = {STB_LOCAL: "static", STB_WEAK: "weak"}.get(symbol.binding, "global")
                rows.append(
                    GlobalRow(
                        symbol.name,
                        section.name,
                        symbol.value,
                        symbol.size,
                        self._declared(type_id, symbol.name) or symbol.name,
                        type_id,
                        linkage,
                        data,
                    )
                )
        return rows

    def _variables(self) -> dict[tuple[str, str], int]:
        """The types of variables by section and name."""
        found: dict[tuple[str, str], int] = {}
        btf = self.btf
        if btf is None:
            return found
        try:
            for type_id in btf.ids_of_kind(Datasec):
                section = btf.type(type_id)
                assert isinstance(section, Datasec)
                for one in section.variables:
                    var = btf.type(one.type_id)
                    if isinstance(var, Var):
                        found[section.name, var.name] = var.type_id
        except FormatError as error:
            self.problems.take(error)
        return found

    # --- what the kernel is asked

    def _extern(self, extern: Extern) -> ExternRow:
        found, where = self._search(extern)
        text = self._declared(extern.type_id, "" if extern.kind == "function" else extern.name)
        return ExternRow(extern.name, extern.kind, text or extern.name, extern.is_weak, found, where)

    def _search(self, extern: Extern) -> tuple[bool | None, str]:
        kernel = self.kernel
        if extern.kind == "config":
            if kernel.kconfig is None or self.btf is None:
                return None, ""
            value = kernel.kconfig.get(extern.name)
            if extern.name.startswith("LINUX_"):
                value = value or (f"{kernel.version:#x}" if extern.name == "LINUX_KERNEL_VERSION" else None)
            try:
                setting(extern, self.btf, kernel.kconfig, kernel.version)
            except FormatError as error:
                self.problems.take(error)
                return False, value or ""
            return value is not None, value or ""
        if extern.kind == "address":
            found = kernel.has_symbol(extern.name) if kernel.has_symbol is not None else None
            module = None
        elif kernel.find is not None:
            module = kernel.find(essential(extern.name), extern.kind)
            found = module is not None
        else:
            return None, ""
        if found is False and not extern.is_weak:
            self.problems.take(
                FormatError(f"{kernel.name or 'the kernel'} has no {extern.kind} {shown(extern.name)}")
            )
        return found, f"module {module}" if module else ""

    def _core(self) -> list[CoreRow]:
        rows: list[CoreRow] = []
        if self.file.ext is None or self.btf is None:
            return rows
        for section, relos in self.file.ext.core_relos.items():
            for relo in relos[: MAX_ROWS - len(rows)]:
                row = self.core_row(section, relo, self.btf)
                if row.here is None and self.kernel.btf is not None:
                    row = row._replace(reached=(section, relo.insn_offset) in self.come_to)
                rows.append(row)
        return rows

    @cached_property
    def answers(self) -> list[ExternRow]:
        """What the kernel has of what is taken from it."""
        return [self._extern(extern) for extern in self.externs[:MAX_ROWS]]

    @cached_property
    def come_to(self) -> set[tuple[str, int]]:
        """The slots of sections that programs come to, those of the functions that they call too."""
        found: set[tuple[str, int]] = set()
        for entry in self.file.entries:
            linked = self.linked(entry.function)
            if linked is None:
                continue
            gone = {
                slot - part.start + base: gone_from[slot]
                for part, base in linked.parts
                if (gone_from := self.linker.code[part.section].gone)
                for slot in range(part.start, part.end)
                if slot in gone_from
            }
            absent = {row.name for row in self.answers if row.found is False}
            insns = [
                insn._replace(src=0, imm=0, ref=None)
                if isinstance(insn.ref, KernelSymbol) and insn.ref.name in absent
                else insn
                for insn in linked.insns
            ]
            slots = sorted(reachable(insns, gone))
            for part, base in linked.parts:
                name = self.elf.sections[part.section].name
                end = base + part.end - part.start
                inside = slots[bisect_left(slots, base) : bisect_left(slots, end)]
                found.update((name, slot - base + part.start) for slot in inside)
        return found

    def core_row(self, section: str, relo: CoreRelo, btf: Btf) -> CoreRow:
        """One CO-RE relocation of a section."""
        known = relo.kind < len(KIND_NAMES)
        row = CoreRow(
            section,
            self.function_at(section, relo.insn_offset),
            relo.insn_offset,
            KIND_NAMES[relo.kind] if known else str(relo.kind),
            QUESTIONS[relo.kind] if known else "something that is unknown here",
            "",
            None,
            None,
            "",
        )
        try:
            row = row._replace(subject=spelled(relo, btf))
            row = row._replace(in_object=resolve(relo, btf, btf).value)
            if self.targets is not None:
                row = row._replace(here=resolve(relo, btf, self.targets).value)
        except (FormatError, Unresolved) as error:
            row = row._replace(why=str(error))
        return row

    # --- the rest

    def _version(self) -> int | None:
        section = self.elf.by_name.get("version")
        if section is None or len(section.data) < 4:
            return None
        return int.from_bytes(section.data[:4], self.elf.byteorder)

    def _notes(self) -> list[tuple[str, str]]:
        """What is no fault of the bytes, and still in the way."""
        found: list[tuple[str, str]] = []
        if not self.file.entries:
            found.append(("there is no program in this object", "a program is a function with SEC(…)"))
        if self.struct_ops:
            names = ", ".join(one.name for one in self.struct_ops[:5])
            found.append(
                (f"structures of functions for the kernel (struct_ops) cannot be loaded yet: {names}", "")
            )
        if self.btf is None and not self.problems.found:
            found.append(("there are no types, so nothing can be said about them", "compile with -g"))
        if not self.file.license and self.file.entries:
            found.append(
                (
                    "there is no licence, so the kernel refuses helpers that are for the GPL only",
                    'add: char license[] SEC("license") = "GPL";',
                )
            )
        known = {extern.name for extern in self.externs}
        undefined = [
            symbol.name
            for symbol in self.elf.symbols[1:]
            if symbol.section == SHN_UNDEF and symbol.name and symbol.name not in known
        ]
        if undefined:
            names = ", ".join(map(shown, undefined[:5])) + (", …" if len(undefined) > 5 else "")
            found.append(
                (f"not defined here: {names}", "link the objects: tracebee object link -o OUT A.o B.o")
            )
        return found


def called_helper(insn: Insn) -> str:
    """The name of the helper function that an instruction calls, empty if it calls none."""
    if insn.code != CALL or insn.src or insn.ref is not None:
        return ""
    if insn.imm == POISON:
        return ""
    return helper_name(insn.imm) or f"#{insn.imm}"


def describe(data: bytes, name: str = "", kernel: Kernel | None = None) -> Description:
    """What an object has.  Raises FormatError if it is none."""
    return Look(data, name, kernel).describe()


__all__ = ["CoreRow", "Description", "Kernel", "Look", "describe"]
