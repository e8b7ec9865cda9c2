"""An object file as a whole: `ObjectFile` shows its parts, `read_object` gives what backends run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.datasec import settle_sections
from tracebee.btf.ext import BtfExt, parse_ext
from tracebee.btf.reader import Btf
from tracebee.errors import FormatError, NotSupportedError
from tracebee.object.elf import STT_FUNC, STV_HIDDEN, STV_INTERNAL, Elf, shown
from tracebee.object.externs import read_externs
from tracebee.object.hooks import UNKNOWN, Section, read_section
from tracebee.object.link import Function, Linker, functions_of
from tracebee.object.maps import Defined, data_maps, read_maps
from tracebee.object.problems import Problems
from tracebee.spec.objects import MapSpec, ObjectSpec, ProbeSpec, ProgramSpec, Schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.btf.core import Targets
    from tracebee.object import elf

TEXT = ".text"
"""The section of functions that are only called."""


class Entry(NamedTuple):
    """A program of an object, before it is linked: its function, and what its section says.

    `problem` is why the section says nothing, in an object that is only looked at.
    """

    function: Function
    section: str
    hook: Section
    problem: FormatError | None = None


class ObjectFile:
    """The parts of an object that clang has made with ``-target bpf``.

    `maps` and `data` are its maps and its sections of variables, `entries` its programs.
    """

    def __init__(
        self, data: bytes | bytearray | memoryview, name: str = "", problems: Problems | None = None
    ) -> None:
        """`name` is for messages.

        Raises FormatError; but with `problems` that keep, only if this is no object for eBPF at all or its
        tables cannot be read.
        """
        self.name = name
        self.problems = problems or Problems()
        try:
            self._read(data)
        except FormatError as error:
            if name:
                error.add_note(f"in {name}")
            raise

    def _read(self, data: bytes | bytearray | memoryview) -> None:
        self.elf = Elf(data)
        section = self.elf.by_name.get(".BTF")
        self._btf_bytes = section.data if section is not None else b""
        self.btf: Btf | None = None
        self.ext: BtfExt | None = None
        try:
            self.btf = Btf.from_bytes(self._btf_bytes) if self._btf_bytes else None
            section = self.elf.by_name.get(".BTF.ext")
            if section is not None and self.btf is not None and section.size:
                self.ext = parse_ext(section.data, self.btf)
        except FormatError as error:
            self.problems.take(error)
        self.license = self._text("license")
        self.maps: list[Defined] = read_maps(self.elf, self.btf, self.problems)
        self.data: list[Defined] = data_maps(self.elf, self.btf, self.problems)
        self.entries = self._read_entries()

    @property
    def byteorder(self) -> str:
        return self.elf.byteorder

    def _text(self, name: str) -> str:
        section = self.elf.by_name.get(name)
        if section is None:
            return ""
        return section.data[:128].partition(b"\0")[0].decode("ascii", "backslashreplace")

    def _read_entries(self) -> list[Entry]:
        found: list[Entry] = []
        for section in self.elf.sections:
            if section.is_code and section.name != TEXT:
                try:
                    found += self._entries_of(section)
                except FormatError as error:
                    self.problems.take(error)
        seen: set[str] = set()
        for entry in found:
            name = entry.function.name
            if not name or name in seen:
                what = f"there are two programs called {shown(name)}" if name else "a program has no name"
                self.problems.take(FormatError(what))
            seen.add(name)
        return found

    def _entries_of(self, section: elf.Section) -> list[Entry]:
        """The programs in a section."""
        problem: FormatError | None = None
        hook = UNKNOWN
        try:
            hook = read_section(section.name)
        except FormatError as error:
            self.problems.take(error)
            problem = error.with_traceback(None)
        functions = functions_of(self.elf, section)
        # What is static in a section beside what is not is called from there.
        entries = [function for function in functions if not function.is_static] or functions
        return [Entry(function, section.name, hook, problem) for function in entries]

    @property
    def short_name(self) -> str:
        """What the kernel shows before the names of sections of variables: that of the file, to its first dot."""
        return self.name.rpartition("/")[2].partition(".")[0]

    @property
    def settled_btf(self) -> bytes:
        """The object's BTF, with sizes of sections and places of variables filled in."""
        if self.btf is None:
            return b""
        names = {one.number: one.name for one in self.elf.sections}
        sizes = {one.name: one.size for one in self.elf.sections}
        places: dict[tuple[str, str], list[int]] = {}
        for symbol in self.elf.symbols:
            if symbol.section in names and symbol.name:
                places.setdefault((names[symbol.section], symbol.name), []).append(symbol.value)
        # Static variables of linked files may share a name; where each is, is written in the types already.
        offsets = {place: values[0] for place, values in places.items() if len(values) == 1}
        hidden = {
            symbol.name
            for symbol in self.elf.symbols
            if symbol.type == STT_FUNC and symbol.visibility in (STV_INTERNAL, STV_HIDDEN)
        }
        return settle_sections(self._btf_bytes, self.btf, sizes, offsets, hidden)

    def spec(
        self,
        target: Btf | Targets | None = None,
        *,
        kconfig: Mapping[str, str] | None = None,
        version: int = 0,
    ) -> ObjectSpec:
        """What backends run.

        CO-RE relocations are answered by `target`, the types of the kernel that is to run it; without one the
        object stays as it was compiled.  `kconfig` is that kernel's configuration, `version` its
        LINUX_VERSION_CODE.  Programs whose section begins with "?" are left out.

        Raises FormatError, and NotSupportedError for an object of the other byte order.
        """
        if self.elf.byteorder != sys.byteorder:
            raise NotSupportedError(
                f"an object for {self.elf.byteorder}-endian machines on this one",
                hint=f"compile with -target bpf{'el' if sys.byteorder == 'little' else 'eb'}",
            )
        try:
            externs, config = read_externs(self.elf, self.btf, kconfig or {}, version)
            linker = Linker(self.elf, self.btf, self.ext, self.maps, self.data, externs, target)
            entries = [entry for entry in self.entries if entry.hook.loads]
            programs = tuple(self._program(linker, entry) for entry in entries)
        except FormatError as error:
            if self.name:
                error.add_note(f"in {self.name}")
            raise
        maps: list[MapSpec] = [one.spec for one in (*self.maps, *self.data)]
        if config is not None:
            maps.append(config)
        probes = tuple(
            ProbeSpec(entry.section, entry.function.name, entry.hook.attach)
            for entry in entries
            if entry.hook.attach is not None
        )
        return ObjectSpec(programs, tuple(maps), probes, Schema(), self.settled_btf, self.short_name)

    def _program(self, linker: Linker, entry: Entry) -> ProgramSpec:
        linked = linker.link(entry.function)
        hook = entry.hook.hook
        named = hook.target is not None and entry.hook.argument
        return ProgramSpec(
            entry.function.name,
            hook.type,
            linked.insns,
            self.license,
            hook.attach_type,
            f"{hook.target}{entry.hook.argument}" if named else "",
            sleepable=hook.sleepable,
            func_info=linked.func_info,
            line_info=linked.line_info,
            section=entry.section,
            frags=hook.frags,
        )


def read_object(
    data: bytes | bytearray | memoryview,
    name: str = "",
    target: Btf | Targets | None = None,
    *,
    kconfig: Mapping[str, str] | None = None,
    version: int = 0,
) -> ObjectSpec:
    """The programs and maps of an ELF object; see `ObjectFile` and its `spec`.  Raises what they raise."""
    return ObjectFile(data, name).spec(target, kconfig=kconfig, version=version)
