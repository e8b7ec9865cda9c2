"""What each section of an object is for, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.object.elf import SHT_NOBITS, SHT_REL, SHT_RELA, SHT_SYMTAB, shown

if TYPE_CHECKING:
    from tracebee.object.elf import Elf, Section

STRUCT_OPS = (".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link")
ARENA = ".addr_space.1"
JUMP_TABLES = ".jumptables"


class Purpose(NamedTuple):
    """`role` is one word: program, functions, maps, constants, variables, …; `words` says it in a line."""

    role: str
    words: str


_WHOLE = {
    ".text": Purpose("functions", "functions that programs call"),
    ".maps": Purpose("maps", "maps, defined by types"),
    "maps": Purpose("maps", "maps, defined by structures as before there was BTF"),
    "license": Purpose("license", "the licence, which decides what helpers may be called"),
    "version": Purpose("version", "the kernel's version, which kernels before 5.0 asked of kprobes"),
    ".BTF": Purpose("types", "types of everything in the object"),
    ".BTF.ext": Purpose("records", "functions, source lines and CO-RE relocations"),
    ".BTF_ids": Purpose("types", "ids of types, for the kernel's own build"),
    ".BTF.base": Purpose("types", "the types of the kernel that a module's refer to"),
    ".comment": Purpose("tools", "the compiler's name"),
    ".symtab": Purpose("symbols", "symbols: functions, variables and maps by name"),
    ".strtab": Purpose("names", "names of symbols and sections"),
    ".shstrtab": Purpose("names", "names of sections"),
    ".eh_frame": Purpose("unused", "how to unwind the stack, of no use here"),
    ".llvm_addrsig": Purpose("tools", "which addresses are taken, for linkers"),
    ".llvm.call-graph-profile": Purpose("tools", "who calls whom, for linkers"),
    ARENA: Purpose("arena", "variables in an arena, memory shared with user space"),
    JUMP_TABLES: Purpose("jumps", "tables of jumps, for the instruction gotox"),
    ".struct_ops": Purpose("struct_ops", "structures of functions that the kernel calls"),
    ".struct_ops.link": Purpose(
        "struct_ops", "structures of functions that the kernel calls, kept by a link"
    ),
}

_STARTS = (
    ("maps/", Purpose("maps", "maps, defined by structures as before there was BTF")),
    (".rodata", Purpose("constants", "constants, which a loader may set before it loads")),
    (".data", Purpose("variables", "variables with values from the start")),
    (".bss", Purpose("variables", "variables that start as zeros")),
    (".addr_space.", Purpose("unused", "variables in an address space that is unknown")),
    (".debug_", Purpose("debug", "debug information (DWARF), which is not loaded")),
    (".note", Purpose("tools", "notes of tools")),
    (".llvm", Purpose("tools", "notes for LLVM's tools")),
    (".gnu", Purpose("tools", "notes for GNU's tools")),
)


def purpose_of(elf: Elf, section: Section, hooks: dict[str, str]) -> Purpose:
    """What a section is for; `hooks` has the words of the sections of programs."""
    if section.number == 0:
        return Purpose("none", "no section")
    if section.type in (SHT_REL, SHT_RELA):
        target = elf.sections[section.info].name if section.info < len(elf.sections) else ""
        return Purpose("relocations", f"what in {shown(target)} depends on where something is")
    found = _WHOLE.get(section.name.removeprefix("?"))
    if section.is_code and section.name != ".text":
        return Purpose("program", hooks.get(section.name, "code of no known kind"))
    if found is not None:
        return found
    for start, purpose in _STARTS:
        if section.name.startswith(start) and (
            start[-1] in "_./" or section.name[len(start) :][:1] in ("", ".")
        ):
            return purpose
    if section.type == SHT_SYMTAB:
        return _WHOLE[".symtab"]
    if section.type == SHT_NOBITS:
        return Purpose("unused", "memory without a name that says what for")
    return Purpose("unused", "nothing that is known here")


def flag_words(section: Section) -> list[str]:
    """The flags of a section (SHF_*): ``alloc``, ``write``, ``exec``, ``merge``, ``strings``."""
    names = ((2, "alloc"), (1, "write"), (4, "exec"), (0x10, "merge"), (0x20, "strings"))
    rest = section.flags & ~0x37
    return [name for bit, name in names if section.flags & bit] + ([f"{rest:#x}"] if rest else [])
