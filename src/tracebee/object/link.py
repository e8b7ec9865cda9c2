"""From sections of code to programs: what instructions refer to, and the functions that a program calls.

A program is a function in a section of its own; the functions that it calls, which lie in .text or beside it,
are put behind it, each once, and the calls aimed there.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.core import POISON, Targets, patch
from tracebee.btf.reader import Btf
from tracebee.btf.types import DeclTag, Func
from tracebee.errors import FormatError
from tracebee.insn import opcodes as op
from tracebee.insn.codec import (
    CALL,
    GOTO,
    LDDW,
    SLOT_BYTES,
    Insn,
    KernelSymbol,
    Kfunc,
    MapFd,
    MapValue,
    aim,
    decode,
    reach,
    signed32,
)
from tracebee.object.elf import (
    R_BPF_64_32,
    R_BPF_64_64,
    R_BPF_NONE,
    SHN_COMMON,
    SHN_UNDEF,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STT_SECTION,
    shown,
)
from tracebee.object.maps import finder
from tracebee.object.problems import Problems
from tracebee.object.purposes import ARENA, JUMP_TABLES
from tracebee.spec.objects import FuncInfo, LineInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from tracebee.btf import ext
    from tracebee.btf.ext import BtfExt
    from tracebee.object.elf import Elf, Relocation, Section
    from tracebee.object.externs import Extern
    from tracebee.object.maps import Defined

    Record = TypeVar("Record", ext.FuncInfo, ext.LineInfo)

MAX_SLOTS = 1 << 22
"""Instructions of all programs together, with the functions that they call."""


class Function(NamedTuple):
    """A function: the slots from `start` to `end` of a section.  `is_static` if the object alone can call it."""

    name: str
    section: int
    start: int
    end: int
    is_static: bool


class Linked(NamedTuple):
    """The instructions of a program with all functions that it calls, and their records.

    `parts` are those functions, the program itself first, each with the slot that it begins at.
    """

    insns: tuple[Insn, ...]
    func_info: tuple[FuncInfo, ...]
    line_info: tuple[LineInfo, ...]
    parts: tuple[tuple[Function, int], ...] = ()


class Code(NamedTuple):
    """A section of code, relocated.

    `at` is the index of the instruction at each slot, -1 in the middle of one; `calls` are the functions that
    instructions refer to, as section and slot, by the slot of the instruction.  `gone` has the slots of those that
    CO-RE has no answer for, each with the register that the instruction was to set.
    """

    insns: list[Insn]
    at: list[int]
    calls: dict[int, tuple[int, int]]
    gone: dict[int, int]


class Linker:
    """The code of an object, with its names bound to maps and externs, and CO-RE answered by `target`.

    Raises FormatError, here and in `link`.
    """

    def __init__(
        self,
        elf: Elf,
        btf: Btf | None,
        ext: BtfExt | None,
        maps: list[Defined],
        data: list[Defined],
        externs: Mapping[str, Extern],
        target: Btf | Targets | None,
        problems: Problems | None = None,
    ) -> None:
        """`problems` take what is wrong with an instruction, which then stays as it is."""
        self.elf = elf
        self.problems = problems or Problems()
        self.btf = btf
        self.ext = ext
        self.target = Targets(target) if isinstance(target, Btf) else target
        self.externs = externs
        if ext is not None:
            for functions in ext.func_info.values():
                functions.sort()
            for lines in ext.line_info.values():
                lines.sort()
        self.map_at = finder(maps)
        self.map_sections = {one.section for one in maps}
        self.data = {one.section: one for one in data}
        self.functions: dict[tuple[int, int], Function] = {}
        self.code: dict[int, Code] = {}
        readable = []
        for section in elf.sections:
            if section.is_code:
                try:
                    found = functions_of(elf, section)
                    self.code[section.number] = self._decode(section)
                except FormatError as error:
                    self.problems.take(error)
                    continue
                self.functions |= {(function.section, function.start): function for function in found}
                readable.append(section)
        for section in readable:
            self._bind(section, self.code[section.number])
        self.callers: dict[int, list[int]] = {}
        self.callbacks: dict[str, str] | None = None
        self.named: dict[str, Function] = {}
        self.slots = 0
        self.budget = MAX_SLOTS

    # --- relocation

    def _decode(self, section: Section) -> Code:
        try:
            insns = decode(section.data, byteorder=self.elf.byteorder)
        except FormatError as error:
            raise FormatError(f"section {shown(section.name)}: {error.what}", error.offset) from error
        return Code(insns, _index(insns), {}, {})

    def _bind(self, section: Section, code: Code) -> None:
        for row in self.elf.relocations.get(section.number, ()):
            if row.type != R_BPF_NONE:
                try:
                    self._relocate(section, code, row)
                except FormatError as error:
                    self.problems.take(error)
        self._find_local_calls(section, code)
        try:
            self._answer_core(section, code)
        except FormatError as error:
            self.problems.take(error)

    def _place(self, section: Section, code: Code, slot: int, what: str) -> int:
        index = code.at[slot] if slot < len(code.at) else -1
        if index < 0:
            raise FormatError(f"section {shown(section.name)}: {what} {slot} is no instruction")
        return index

    def _relocate(self, section: Section, code: Code, row: Relocation) -> None:
        slot, rest = divmod(row.offset, SLOT_BYTES)
        index = self._place(section, code, slot, "relocated slot")
        insn = code.insns[index]
        if rest or row.type not in (R_BPF_64_64, R_BPF_64_32):
            raise FormatError(f"section {shown(section.name)}: unknown relocation {row.type}", row.offset)
        if row.type == R_BPF_64_64 and insn.code == LDDW:
            code.insns[index] = self._load(section, code, slot, insn, row)
        elif row.type == R_BPF_64_32 and insn.code == CALL and insn.src in (0, op.BPF_PSEUDO_CALL):
            code.insns[index] = self._call(section, code, slot, insn, row)
        else:
            raise FormatError(
                f"section {shown(section.name)}: instruction {slot} has no place for a relocation", row.offset
            )

    def _load(self, section: Section, code: Code, slot: int, insn: Insn, row: Relocation) -> Insn:
        """An instruction that loads an address."""
        symbol = row.symbol
        where = f"section {shown(section.name)}, instruction {slot}"
        if symbol.section == SHN_UNDEF:
            return self._extern_load(where, insn, symbol.name)
        addend = signed32(insn.imm) + row.addend
        offset = symbol.value + addend
        if symbol.section in self.map_sections:
            found = self.map_at(symbol.section, offset)
            if found is None:
                raise FormatError(f"{where}: there is no map at byte {offset}")
            return insn._replace(src=op.BPF_PSEUDO_MAP_FD, imm=0, ref=MapFd(found.spec.name))
        data = self.data.get(symbol.section)
        if data is not None:
            if not 0 <= offset <= data.size:
                raise FormatError(f"{where}: byte {offset} lies outside of {shown(data.spec.name)}")
            return insn._replace(src=op.BPF_PSEUDO_MAP_VALUE, imm=0, ref=MapValue(data.spec.name, offset))
        if self._is_code(symbol.section):
            if offset % SLOT_BYTES or offset < 0:
                raise FormatError(f"{where}: the address of a function is inside of an instruction")
            code.calls[slot] = (symbol.section, offset // SLOT_BYTES)
            return insn._replace(src=op.BPF_PSEUDO_FUNC, imm=0)
        name = self.elf.sections[symbol.section].name if symbol.section < len(self.elf.sections) else ""
        if name == ".maps":
            raise FormatError(f"{where}: what map {shown(symbol.name)} is like is not known")
        if name == ARENA:
            raise FormatError(f"{where}: {shown(symbol.name)} is in an arena, which cannot be loaded yet")
        if name == JUMP_TABLES:
            raise FormatError(f"{where}: there is a table of jumps (gotox), which cannot be loaded yet")
        if symbol.section == SHN_COMMON:
            raise FormatError(f"{where}: {shown(symbol.name)} has no section: compile with -fno-common")
        raise FormatError(f"{where}: the address of {shown(symbol.name)} cannot be had by a program")

    def _extern_load(self, where: str, insn: Insn, name: str) -> Insn:
        extern = self.externs.get(name)
        if extern is None:
            raise self._not_here(where, shown(name))
        if extern.kind == "config":
            return insn._replace(src=op.BPF_PSEUDO_MAP_VALUE, imm=0, ref=MapValue(".kconfig", extern.offset))
        src = 0 if extern.kind == "address" else op.BPF_PSEUDO_BTF_ID
        return insn._replace(src=src, imm=0, ref=KernelSymbol(name, extern.is_weak))

    def _call(self, section: Section, code: Code, slot: int, insn: Insn, row: Relocation) -> Insn:
        symbol = row.symbol
        where = f"section {shown(section.name)}, instruction {slot}"
        if symbol.section == SHN_UNDEF:
            extern = self.externs.get(symbol.name)
            if extern is None or extern.kind != "function":
                raise self._not_here(where, f"the function {shown(symbol.name)}")
            return insn._replace(
                src=op.BPF_PSEUDO_KFUNC_CALL, off=0, imm=0, ref=Kfunc(symbol.name, extern.is_weak)
            )
        if not self._is_code(symbol.section):
            raise FormatError(f"{where}: {shown(symbol.name)} is no function")
        # What is called lies so many slots behind the symbol, counted from the one after the call.
        goal = symbol.value // SLOT_BYTES + insn.imm + 1 + row.addend // SLOT_BYTES
        code.calls[slot] = (symbol.section, goal)
        return insn._replace(src=op.BPF_PSEUDO_CALL, imm=0)

    def _not_here(self, where: str, what: str) -> FormatError:
        error = FormatError(f"{where}: {what} is not defined in this object")
        error.hint = "where another object has it, link them: tracebee object link -o OUT.o A.o B.o"
        if self.btf is None:
            error.hint = "compile with -g: only types tell what is taken from the kernel"
        return error

    def _is_code(self, number: int) -> bool:
        return 0 < number < len(self.elf.sections) and self.elf.sections[number].is_code

    def _find_local_calls(self, section: Section, code: Code) -> None:
        """Calls by distance, which need no relocation within a section."""
        slot = 0
        for insn in code.insns:
            if insn.src in (op.BPF_PSEUDO_CALL, op.BPF_PSEUDO_FUNC) and insn.code in (CALL, LDDW):
                distance = reach(insn)
                if slot not in code.calls and distance is not None and insn.ref is None:
                    goal = slot + 1 + distance
                    if (section.number, goal) in self.functions:
                        code.calls[slot] = (section.number, goal)
            slot += insn.slots

    def _answer_core(self, section: Section, code: Code) -> None:
        if self.target is None or self.ext is None or self.btf is None:
            return
        cut: set[int] = set()
        for relo in self.ext.core_relos.get(section.name, ()):
            index = self._place(section, code, relo.insn_offset, "CO-RE relocation at")
            patched = patch(code.insns[index], relo, self.btf, self.target)
            if patched.imm == POISON and patched.code == CALL:
                code.gone[relo.insn_offset] = code.insns[index].dst
            if patched.slots != code.insns[index].slots:
                cut.add(index)
            code.insns[index] = patched
        if cut:
            # A load of two slots that became a call: what would have been its second half is never come to.
            filled = []
            for index, insn in enumerate(code.insns):
                filled += [insn, Insn(GOTO)] if index in cut else [insn]
            code.insns[:] = filled
            code.at[:] = _index(filled)

    # --- linking

    def link(self, main: Function) -> Linked:
        """A program that begins with `main`."""
        order = [main]
        base = {(main.section, main.start): 0}
        size = main.end - main.start
        callback = self._exception_callback(main)
        if callback is not None and (callback.section, callback.start) not in base:
            base[callback.section, callback.start] = size
            size += callback.end - callback.start
            self._spend(callback.end - callback.start)
            order.append(callback)
        for function in order:
            for slot in self._calls_in(function):
                goal = self.code[function.section].calls[slot]
                if goal in base:
                    continue
                called = self.functions.get(goal)
                if called is None:
                    name = self.elf.sections[goal[0]].name
                    raise FormatError(
                        f"{function.name} calls slot {goal[1]} of {shown(name)}, where no function is"
                    )
                base[goal] = size
                size += called.end - called.start
                self._spend(called.end - called.start)
                order.append(called)
        self._spend(main.end - main.start)
        insns: list[Insn] = []
        functions: list[FuncInfo] = []
        lines: list[LineInfo] = []
        for function in order:
            self._append(function, base, insns, functions, lines)
        parts = [(function, base[function.section, function.start]) for function in order]
        return Linked(tuple(insns), tuple(functions), tuple(lines), tuple(parts))

    def _exception_callback(self, main: Function) -> Function | None:
        """The function that a program's declaration tag names, and which nothing calls: what bpf_throw() ends in.

        The verifier finds it by the same tag.
        """
        if self.callbacks is None:
            self.callbacks = _exception_callbacks(self.btf)
        name = self.callbacks.get(main.name)
        if name is None:
            return None
        found = [one for one in self.functions.values() if one.name == name]
        if not found:
            raise FormatError(
                f"{main.name}: its exception callback {shown(name)} is not defined in this object"
            )
        return found[0]

    def _spend(self, slots: int) -> None:
        self.slots += slots
        if self.slots > self.budget:
            raise FormatError(f"the programs and what they call have more than {self.budget} instructions")

    def _calls_in(self, function: Function) -> list[int]:
        """The slots of a function that refer to functions."""
        slots = self.callers.get(function.section)
        if slots is None:
            slots = self.callers[function.section] = sorted(self.code[function.section].calls)
        return slots[bisect_left(slots, function.start) : bisect_left(slots, function.end)]

    def _append(
        self,
        function: Function,
        base: Mapping[tuple[int, int], int],
        insns: list[Insn],
        functions: list[FuncInfo],
        lines: list[LineInfo],
    ) -> None:
        code = self.code[function.section]
        shift = base[function.section, function.start] - function.start
        slot = function.start
        first = code.at[slot]
        if first < 0 or (function.end < len(code.at) and code.at[function.end] < 0):
            raise FormatError(f"function {shown(function.name)} begins or ends inside of an instruction")
        last = code.at[function.end] if function.end < len(code.at) else len(code.insns)
        for insn in code.insns[first:last]:
            goal = code.calls.get(slot)
            insns.append(insn if goal is None else aim(insn, base[goal] - (slot + shift) - 1))
            slot += insn.slots
        if self.ext is None:
            return
        name = self.elf.sections[function.section].name
        for record in _within(self.ext.func_info.get(name, []), function):
            functions.append(FuncInfo(record.insn_offset + shift, record.type_id))
        for line in _within(self.ext.line_info.get(name, []), function):
            offset, file, text, number, column = line
            lines.append(LineInfo(offset + shift, file, text, number, column))


def _exception_callbacks(btf: Btf | None) -> dict[str, str]:
    """The names of exception callbacks by program: ``btf_decl_tag("exception_callback:NAME")``."""
    found: dict[str, str] = {}
    for type_id, text in btf.names_of_kind(DeclTag) if btf is not None else ():
        start, colon, name = text.partition(":")
        if start == "exception_callback" and colon and btf is not None:
            tag = btf.type(type_id)
            about = btf.type(tag.type_id) if isinstance(tag, DeclTag) and tag.component_index < 0 else None
            if isinstance(about, Func):
                found[about.name] = name
    return found


def _within(records: list[Record], function: Function) -> list[Record]:
    """The records about a function, out of those of its section; these are in order."""
    first = bisect_left(records, function.start, key=lambda record: record.insn_offset)
    return records[first : bisect_left(records, function.end, key=lambda record: record.insn_offset)]


def _index(insns: list[Insn]) -> list[int]:
    """The index of the instruction at each slot, -1 in the middle of one."""
    at = []
    for index, insn in enumerate(insns):
        at += [index] if insn.slots == 1 else [index, -1]
    return at


def functions_of(elf: Elf, section: Section) -> list[Function]:
    """The functions in a section of code, in order; they do not overlap.  Raises FormatError."""
    inside = [symbol for symbol in elf.symbols_in(section.number) if symbol.type != STT_SECTION]
    symbols = [symbol for symbol in inside if symbol.type == STT_FUNC]
    if not symbols:
        # Assembler and old compilers do not say that a symbol is a function; labels are local.
        symbols = [
            symbol
            for symbol in inside
            if symbol.type == STT_NOTYPE and symbol.binding != STB_LOCAL and symbol.name
        ]
    symbols.sort(key=lambda symbol: symbol.value)
    if section.size % SLOT_BYTES:
        raise FormatError(f"section {shown(section.name)} ends inside of an instruction")
    found: list[Function] = []
    for index, symbol in enumerate(symbols):
        following = symbols[index + 1].value if index + 1 < len(symbols) else section.size
        end = symbol.value + symbol.size if symbol.size else following
        if symbol.value % SLOT_BYTES or end % SLOT_BYTES or end > following or end == symbol.value:
            raise FormatError(f"function {shown(symbol.name)} is empty, reaches into the next, or is cut")
        local = symbol.binding == STB_LOCAL
        found.append(Function(symbol.name, section.number, symbol.value // 8, end // 8, local))
    return found
