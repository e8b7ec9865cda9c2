"""The code of a loaded program, as the kernel gives it back, and what the numbers in it are called."""

from __future__ import annotations

import os
import sys
from array import array
from typing import TYPE_CHECKING

from tracebee.btf.ext import FuncInfo, LineInfo
from tracebee.btf.format import declaration
from tracebee.errors import FormatError, TracebeeError
from tracebee.insn.xlated import Names, Source
from tracebee.kernel.info.fields import Fields
from tracebee.records import Frozen
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpfids import read_info
from tracebee.syscalls.raw import empty_buffer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.btf.reader import Btf
    from tracebee.host.kallsyms import KernelSymbols
    from tracebee.kernel.info import MapInfo

CALL_BASE = "__bpf_call_base"
"""The function from which the distances to helpers count."""

MAX_BYTES = 1 << 28
"""More code than any program has; a bound for what is believed."""


class ProgramCode(Frozen):
    """What BPF_OBJ_GET_INFO_BY_FD tells of a program's code.

    `xlated` are the bytes of the instructions behind the verifier, `jited` those of the machine code of all its
    functions, one behind the other; either is None if the kernel keeps it to itself.  `ksyms` are the addresses
    of the functions, `func_lens` the bytes of each; `jited_lines` the address of the code of each record in
    `line_info`.  `tags` are those of the functions.
    """

    xlated: bytes | None
    jited: bytes | None
    ksyms: tuple[int, ...]
    func_lens: tuple[int, ...]
    func_info: tuple[FuncInfo, ...]
    line_info: tuple[LineInfo, ...]
    jited_lines: tuple[int, ...]
    tags: tuple[str, ...]
    map_ids: tuple[int, ...]
    btf_id: int


_AREAS: tuple[tuple[str, str, int | str], ...] = (
    # pointer, count, bytes of a record or the field that has them
    ("xlated_prog_insns", "xlated_prog_len", 1),
    ("jited_prog_insns", "jited_prog_len", 1),
    ("jited_ksyms", "nr_jited_ksyms", 8),
    ("jited_func_lens", "nr_jited_func_lens", 4),
    ("func_info", "nr_func_info", "func_info_rec_size"),
    ("line_info", "nr_line_info", "line_info_rec_size"),
    ("jited_line_info", "nr_jited_line_info", "jited_line_info_rec_size"),
    ("prog_tags", "nr_prog_tags", 8),
    ("map_ids", "nr_map_ids", 4),
)


def read_code(fd: int) -> ProgramCode:
    """Ask for the code of the program behind a descriptor.

    Raises SyscallError, and FormatError if the kernel's numbers make no sense.
    """
    # Where it hides the instructions of a blinded program, the kernel forgets all that was asked for besides.
    first, *others = _AREAS
    found, sizes, btf_id = _read_areas(fd, others)
    instructions, more_sizes, _ = _read_areas(fd, [first])
    return decode_code(found | instructions, sizes | more_sizes, btf_id)


def _read_areas(
    fd: int, wanted: Sequence[tuple[str, str, int | str]]
) -> tuple[dict[str, bytes | None], dict[str, int], int]:
    """What the kernel writes where fields point, None if it does not; the sizes of records; the id of the BTF."""
    layout, size = uapi.BPF_PROG_INFO, uapi.BPF_PROG_INFO_SIZE
    fields = Fields(read_info(fd, layout, size), layout)
    areas = {}
    numbers = {}
    sizes = {}
    for pointer, count, record in wanted:
        if isinstance(record, str):
            numbers[record] = width = fields[record]
        else:
            width = record
        sizes[pointer] = width
        if fields[count] * width > MAX_BYTES:
            raise FormatError(f"struct bpf_prog_info: {fields[count]} times {width} bytes in {pointer}")
        if fields[count] and width:
            numbers[count] = fields[count]
            areas[pointer] = empty_buffer(fields[count] * width)
    data = read_info(fd, layout, size, areas, **numbers)
    fields = Fields(data, layout)
    found: dict[str, bytes | None] = {}
    for pointer, count, _ in wanted:
        length = min(fields[count], numbers.get(count, 0)) * sizes[pointer]
        # The kernel takes the pointer away where it does not tell.
        found[pointer] = areas[pointer].raw[:length] if pointer in areas and fields[pointer] else None
    return found, sizes, fields["btf_id"]


def decode_code(found: dict[str, bytes | None], sizes: dict[str, int], btf_id: int) -> ProgramCode:
    """The records in what the kernel wrote, by the names of the fields that point at it.

    `sizes` are those of the records.  Raises FormatError.
    """

    def rows(pointer: str, smallest: int) -> list[memoryview]:
        data, size = found.get(pointer) or b"", sizes.get(pointer, 0)
        if data and (size < smallest or len(data) % size):
            raise FormatError(f"struct bpf_prog_info: {len(data)} bytes of records of {size} in {pointer}")
        view = memoryview(data)
        return [view[at : at + size] for at in range(0, len(data), size)] if data else []

    def numbers(pointer: str, code: str) -> tuple[int, ...]:
        width = array(code).itemsize
        return tuple(int.from_bytes(row[:width], sys.byteorder) for row in rows(pointer, width))

    functions = [row[:8].cast("I") for row in rows("func_info", 8)]
    lines = [row[:16].cast("I") for row in rows("line_info", 16)]
    return ProgramCode(
        xlated=found.get("xlated_prog_insns"),
        jited=found.get("jited_prog_insns"),
        ksyms=numbers("jited_ksyms", "Q"),
        func_lens=numbers("jited_func_lens", "I"),
        func_info=tuple(FuncInfo(row[0], row[1]) for row in functions),
        line_info=tuple(LineInfo(row[0], row[1], row[2], row[3] >> 10, row[3] & 1023) for row in lines),
        jited_lines=numbers("jited_line_info", "Q"),
        tags=tuple(bytes(row).hex() for row in rows("prog_tags", 8)),
        map_ids=numbers("map_ids", "I"),
        btf_id=btf_id,
    )


def why_withheld(what: str, has_code: bool) -> str:
    """Why the kernel keeps the instructions ("xlated") or the machine code ("jited") of a program to itself.

    `has_code` is whether it says that there is some.
    """
    from tracebee.host.rights import read_rights, read_sysctl

    rights = read_rights()
    if rights.is_namespaced or not rights.has("CAP_SYS_ADMIN"):
        return "the kernel shows code to CAP_SYS_ADMIN in the initial user namespace alone"
    if what == "jited" and not has_code:
        if read_sysctl("net.core.bpf_jit_enable") == 0:
            return "it runs in the interpreter: net.core.bpf_jit_enable is 0"
        return "the kernel did not compile it, it runs in the interpreter"
    if what == "jited":
        return why_hidden()
    hardened = read_sysctl("net.core.bpf_jit_harden")
    return f"{why_hidden()}, and as net.core.bpf_jit_harden is {hardened} the instructions of blinded programs too"


def why_hidden() -> str:
    """Why the kernel does not tell addresses (kallsyms_show_value())."""
    from tracebee.host.rights import read_sysctl

    value = read_sysctl("kernel.kptr_restrict")
    if value and value > 1:
        return f"kernel.kptr_restrict is {value}, so the kernel hides addresses"
    return "the kernel shows addresses to CAP_SYSLOG alone"


class CodeNames:
    """What the numbers in the code of a program are called: functions, maps, variables, lines of source.

    Looks at the maps and the types of the program once; the symbols of the kernel are read when first needed.
    """

    def __init__(self, code: ProgramCode) -> None:
        self.code = code
        self.btf = _types(code.btf_id)
        self.maps: dict[int, MapInfo] = {}
        for map_id in code.map_ids:
            info = _map_info(map_id)
            if info is not None:
                self.maps[map_id] = info
        self._symbols: KernelSymbols | None = None
        self._base: int | None = None

    @property
    def symbols(self) -> KernelSymbols:
        """The kernel's symbols, without addresses where it hides them."""
        if self._symbols is None:
            from tracebee.host.kallsyms import KernelSymbols

            try:
                self._symbols = KernelSymbols.read()
            except (OSError, FormatError):
                self._symbols = KernelSymbols(b"")
            self._base = self._symbols.find(CALL_BASE)
        return self._symbols

    def symbol(self, address: int) -> str:
        """The name of what begins at an address, or ""."""
        found = self.symbols.resolve(address)
        return found.name if found is not None and not found.offset else ""

    def function(self, distance: int) -> str:
        """The kernel function at a distance from __bpf_call_base, its address if it has no name."""
        symbols = self.symbols
        if symbols.hidden or self._base is None:
            return ""
        address = (self._base + distance) & (1 << 64) - 1
        return self.symbol(address) or f"{address:#x}"

    def variable(self, map_id: int, offset: int) -> str:
        """The variable at an offset of a map's value, if the map is a section of variables."""
        info = self.maps.get(map_id)
        if info is None or not info.btf_value_type_id:
            return ""
        from tracebee.btf.layout import name_at
        from tracebee.btf.types import Datasec

        types = _types(info.btf_id)
        try:
            if types is None or not isinstance(types.type(info.btf_value_type_id), Datasec):
                return ""
            name = name_at(types, info.btf_value_type_id, offset)
        except FormatError:
            return ""
        return "" if name.startswith("+") else name

    def functions(self) -> dict[int, str]:
        """The names in C of the program's functions, by the slots where they begin."""
        found = {}
        for record in self.code.func_info:
            try:
                if self.btf is not None:
                    found[record.insn_offset] = self.btf.name_of(record.type_id)
            except FormatError:
                pass
        return found

    def prototypes(self) -> dict[int, str]:
        """The declarations of the program's functions, by the slots where they begin."""
        found = {}
        for record in self.code.func_info:
            try:
                if self.btf is not None:
                    found[record.insn_offset] = declaration(self.btf, record.type_id)
            except FormatError:
                pass
        return found

    def source(self, record: LineInfo) -> Source:
        """The line that a record of the program's line_info means."""
        return Source(self._text(record.text).strip(), self._text(record.file), record.line, record.column)

    def sources(self) -> dict[int, Source]:
        """The lines of source, by the slots where their code begins."""
        if self.btf is None:
            return {}
        return {record.insn_offset: self.source(record) for record in self.code.line_info}

    def subprograms(self) -> tuple[str, ...]:
        """The symbols of the program's functions by their number; addresses where there are none."""
        return tuple(self.symbol(address) or f"{address:#x}" for address in self.code.ksyms)

    def names(self) -> Names:
        """All of them, for insn.xlated.describe."""
        return Names(
            self.function,
            self.symbol,
            self.subprograms(),
            self.functions(),
            {map_id: info.name for map_id, info in self.maps.items()},
            self.variable,
        )

    def _text(self, offset: int) -> str:
        if self.btf is None:
            return ""
        try:
            return self.btf.string(offset)
        except FormatError:
            return ""


def _types(btf_id: int) -> Btf | None:
    """The types of a BTF object, or None if there is none that can be read."""
    if not btf_id:
        return None
    from tracebee.kernel.info import btf_by_id

    try:
        return btf_by_id(btf_id)
    except TracebeeError:
        return None


def _map_info(map_id: int) -> MapInfo | None:
    """The facts of a map, or None if it is gone: programs of network devices do not hold theirs."""
    from tracebee.kernel.ids import open_id
    from tracebee.kernel.info import map_info

    try:
        fd = open_id("map", map_id)
    except TracebeeError:
        return None
    try:
        return map_info(fd)
    except TracebeeError:
        return None
    finally:
        os.close(fd)
